"""A directory of documents to a checked catalog, or to every problem with its file, line and key.

Reads files and nothing else; what a task resolves to is `resolve`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from pareta_registry.canonical import canonical_json, sha256_digest
from pareta_registry.catalog import Catalog, Model, Task
from pareta_registry.check import Placed, cross_check
from pareta_registry.document import Located, read_documents
from pareta_registry.errors import CatalogError, CatalogProblem
from pareta_registry.schema import SCHEMA_NAME

SUFFIXES = (".yaml", ".yml", ".json")
_DEMO = Path(__file__).with_name("demo")
CHAT_TEMPLATES = {"tools": _DEMO / "tools.jinja"}
"""By the name that a `pypi://` source has for them: ones that a model's own checkpoint lacks."""
_KINDS: dict[str, type[Task] | type[Model]] = {"task": Task, "model": Model}


def builtin_catalog() -> Catalog:
    """The demo catalog that ships with the package: a small open model that runs on a CPU."""
    return load_catalog(_DEMO)


def load_catalog(path: Path, pending: Mapping[Path, str] = MappingProxyType({})) -> Catalog:
    """The catalog in `path`, a file or a directory read recursively; CatalogError names every problem.

    Files count as if they held the text that `pending` gives for them, so that a change is checked before it is made.
    """
    base = path if path.is_dir() else path.parent
    texts, problems = _read(sorted(file for file in _files(path) if file not in pending), base)
    texts += [(str(file.relative_to(base)), text) for file, text in pending.items()]
    if not texts and not problems:
        raise CatalogError(
            [CatalogProblem(str(path), 0, "", "no documents here", f"put {', '.join(SUFFIXES)} files in it")]
        )
    placed: list[Placed] = []
    for name, text in texts:
        for located in read_documents(text, name):
            problems += located.problems
            if not located.problems and located.value is not None:
                problems += _validate(located, placed)
    return _checked(placed, problems)


def parse_catalog(data: bytes, where: str) -> Catalog:
    """A catalog from the bytes of `catalog_bytes`, checked as if it came from files; `where` names the sender."""
    try:
        body = json.loads(data)
        documents = [Located(where, value=value) for value in (*body["tasks"], *body["models"])]
        kinds = ["task"] * len(body["tasks"]) + ["model"] * len(body["models"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CatalogError([CatalogProblem(where, 0, "", "no catalog", "promote it again")]) from None
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
    """Checked documents as a catalog, sorted by id and versioned by their digest."""
    in_order = sorted(documents, key=lambda document: document.id)
    tasks = tuple(d for d in in_order if isinstance(d, Task))
    models = tuple(d for d in in_order if isinstance(d, Model))
    return Catalog(tasks=tasks, models=models, digest=sha256_digest(catalog_bytes(tasks, models)))


def catalog_bytes(tasks: Sequence[Task], models: Sequence[Model]) -> bytes:
    """What a catalog's digest is over: canonical JSON, defaults left out, so that a field which the schema gains
    later changes no version."""
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
            problems.append(CatalogProblem(name, 0, "", "not UTF-8 text", "save it as UTF-8"))
        except OSError as error:
            reason = f"links to {file.readlink()}, which does not exist" if _dangles(file) else None
            problems.append(
                CatalogProblem(
                    name, 0, "", reason or f"unreadable: {error.strerror}", "check its owner and permissions"
                )
            )
    return texts, problems


def _validate(located: Located, placed: list[Placed]) -> list[CatalogProblem]:
    """Appends the document to `placed`, or returns why it is none."""
    value = located.value
    if not isinstance(value, dict):
        return [located.problem((), "not a mapping", "start it with `kind: task` or `kind: model`")]
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
        "missing": "add it",
        "extra_forbidden": "remove it or correct its spelling",
        "string_pattern_mismatch": "use the form that the schema names",
    }.get(kind, "correct the value")
