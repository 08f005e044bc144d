"""Catalog check: compares the documents of a catalog with each other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from pareta_registry.artifacts.manifest import Manifest
from pareta_registry.catalog import Artifact, Model, Task
from pareta_registry.documents.document import Located, Path
from pareta_registry.engine_flags import ALLOWED, refusal
from pareta_registry.errors import CatalogProblem


@dataclass(frozen=True, slots=True)
class Placed:
    """A valid document and its location."""

    document: Task | Model
    located: Located


def cross_check(placed: Sequence[Placed]) -> list[CatalogProblem]:
    """Every contradiction between documents, with its line."""
    models = {p.document.id: p.document for p in placed if isinstance(p.document, Model)}
    problems: list[CatalogProblem] = []
    for item in placed:
        if isinstance(item.document, Task):
            problems += _task(item.document, item.located, models)
        else:
            problems += _model(item.document, item.located)
    return problems + list(_duplicates(placed))


def _duplicates(placed: Sequence[Placed]) -> Iterator[CatalogProblem]:
    first: dict[tuple[str, str], Located] = {}
    for item in placed:
        key = (item.document.kind, item.document.id)
        other = first.setdefault(key, item.located)
        if other is not item.located:
            where = f"{other.file}:{other.line(('id',))}"
            yield item.located.problem(("id",), f"{key[0]} {key[1]!r} is also in {where}", "keep one of them")


def _task(task: Task, at: Located, models: Mapping[str, Model]) -> Iterator[CatalogProblem]:
    ids = [alias.id for alias in task.aliases]
    if task.recommended not in ids:
        yield at.problem(
            ("recommended",),
            f"{task.recommended!r} is not among the aliases",
            f"name one of {', '.join(ids)}{_close(task.recommended, ids)}",
        )
    if task.prompt_scaffold is not None and task.prompt_scaffold.count("{input}") != 1:
        yield at.problem(
            ("prompt_scaffold",), "must hold {input} once", "write {input} in place of the caller's text"
        )
    yield from _frontier(task, at)
    for index, alias in enumerate(task.aliases):
        here: Path = ("aliases", index)
        if alias.id in ids[:index]:
            yield at.problem((*here, "id"), f"alias {alias.id!r} is listed twice", "an alias has one rank")
        if alias.id == "recommended":
            yield at.problem((*here, "id"), "'recommended' is a reserved word", "choose another name")
        yield from _flags(alias.engine, (*here, "engine"), at)
        model = models.get(alias.model)
        if model is None:
            yield at.problem(
                (*here, "model"),
                f"no model {alias.model!r}",
                f"add the model or name an existing model{_close(alias.model, list(models))}",
            )
            continue
        if alias.adapter is not None:
            yield from _adapter(alias.adapter, model, (*here, "adapter"), at)
        if alias.max_model_len is not None and alias.max_model_len > model.context:
            yield at.problem(
                (*here, "max_model_len"),
                f"{alias.max_model_len} is more than the model's context",
                f"use at most {model.context}",
            )


def _frontier(task: Task, at: Located) -> Iterator[CatalogProblem]:
    """Ids of aliases and baselines are distinct: a leaderboard lists both."""
    taken = {alias.id for alias in task.aliases}
    for index, baseline in enumerate(task.frontier):
        if baseline.id in taken:
            yield at.problem(
                ("frontier", index, "id"), f"{baseline.id!r} names another model too", "choose another name"
            )
        taken.add(baseline.id)


def _model(model: Model, at: Located) -> Iterator[CatalogProblem]:
    yield from _flags(model.engine, ("engine",), at)
    names = [variant.name for variant in model.variants]
    for index, variant in enumerate(model.variants):
        if variant.name in names[:index]:
            yield at.problem(
                ("variants", index, "name"), f"variant {variant.name!r} is listed twice", "keep one"
            )
        if variant.files:
            yield from _files(variant, ("variants", index), at)
    adapters = [adapter.name for adapter in model.adapters]
    for index, adapter in enumerate(model.adapters):
        if adapter.name in adapters[:index]:
            yield at.problem(
                ("adapters", index, "name"), f"adapter {adapter.name!r} is listed twice", "keep one"
            )
        if adapter.files:
            yield from _files(adapter, ("adapters", index), at)
    facts = model.architecture
    if facts.heads % facts.kv_heads:
        yield at.problem(
            ("architecture", "kv_heads"),
            f"{facts.heads} heads are no multiple of {facts.kv_heads} kv heads",
            "copy both from config.json",
        )
    if (facts.num_experts is None) != (facts.experts_per_tok is None):
        yield at.problem(
            ("architecture", "num_experts"),
            "num_experts and experts_per_tok require each other",
            "set both or neither",
        )


def _adapter(name: str, model: Model, path: Path, at: Located) -> Iterator[CatalogProblem]:
    known = [adapter.name for adapter in model.adapters]
    if name not in known:
        named = f"name one of {', '.join(known)}{_close(name, known)}" if known else "remove the setting"
        yield at.problem(
            path, f"model {model.id!r} has no adapter {name!r}", f"add the adapter to the model, or {named}"
        )


def _files(artifact: Artifact, path: Path, at: Located) -> Iterator[CatalogProblem]:
    try:
        digest = Manifest(files=artifact.files).digest
    except ValidationError as error:
        yield at.problem((*path, "files"), error.errors(include_url=False)[0]["msg"], "list each file once")
        return
    if digest != artifact.artifact:
        yield at.problem((*path, "artifact"), "is not the digest of the listed files", f"write {digest}")


def _flags(settings: Mapping[str, Any], path: Path, at: Located) -> Iterator[CatalogProblem]:
    for name, value in settings.items():
        reason = refusal(name, value)
        if reason:
            yield at.problem((*path, name), reason, f"see the allowed settings{_close(name, list(ALLOWED))}")


def _close(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
