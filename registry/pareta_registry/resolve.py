"""Resolver: resolves a task and an alias to a model and its engine settings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from pareta_registry.catalog import Adapter, Alias, Canary, Catalog, Model, Task

RECOMMENDED = "recommended"


@dataclass(frozen=True, slots=True)
class Resolution:
    """The model of (task, alias), with the alias's `adapter`, if any.

    `engine`: the model's settings, overridden by the alias's. `max_model_len`: tokens, at most the model's context.
    """

    task: Task
    alias: Alias
    model: Model
    engine: Mapping[str, Any]
    max_model_len: int
    adapter: Adapter | None = None

    @property
    def canaries(self) -> tuple[Canary, ...]:
        """The canaries of the endpoint: an adapter's own, else the model's."""
        return self.model.canaries if self.adapter is None else self.adapter.canaries


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Unknown task or alias. `available` are the existing names, `close` the names with a similar spelling."""

    reason: Literal["unknown_task", "unknown_alias"]
    task: str
    alias: str | None
    available: tuple[str, ...]
    close: tuple[str, ...]

    @property
    def message(self) -> str:
        """A sentence for people."""
        if self.reason == "unknown_task":
            what, kind = f"there is no task {self.task!r}", "tasks"
        else:
            what, kind = f"task {self.task!r} has no alias {self.alias!r}", "aliases"
        hint = f"; did you mean {self.close[0]!r}?" if self.close else ""
        names = ", ".join(self.available) if self.available else "none"
        return f"{what}{hint} ({kind}: {names})"


def resolve(catalog: Catalog, task: str, alias: str | None = None) -> Resolution | Unresolved:
    """The model of `alias` under `task`. None and "recommended" select the task's recommended alias."""
    tasks = {entry.id: entry for entry in catalog.tasks}
    found = tasks.get(task)
    if found is None:
        return _unresolved("unknown_task", task, alias, task, list(tasks))
    wanted = found.recommended if alias in (None, RECOMMENDED) else alias
    aliases = {entry.id: entry for entry in found.aliases}
    chosen = aliases.get(str(wanted))
    if chosen is None:
        return _unresolved("unknown_alias", task, wanted, str(wanted), [*aliases, RECOMMENDED])
    model = next(entry for entry in catalog.models if entry.id == chosen.model)
    return Resolution(
        task=found,
        alias=chosen,
        model=model,
        engine={**model.engine, **chosen.engine},
        max_model_len=min(chosen.max_model_len or model.context, model.context),
        adapter=next((each for each in model.adapters if each.name == chosen.adapter), None),
    )


def engine_inputs(answer: Resolution | Unresolved) -> tuple[Any, ...]:
    """The inputs of an engine: a new catalog with equal inputs leaves the engine running.

    Excluded: titles, licenses, scorers, sources of the bytes, and other aliases' adapters except the highest rank.
    """
    if isinstance(answer, Unresolved):
        return ()
    model, task, placeless = answer.model, answer.task, {"source": "", "files": ()}
    variants = tuple(variant.model_copy(update=placeless) for variant in model.variants)
    bare = model.model_copy(update={"license": "", "variants": variants, "adapters": ()})
    adapter = answer.adapter.model_copy(update=placeless) if answer.adapter else None
    rank = max((each.rank for each in model.adapters), default=0)
    reported = answer.alias.id, answer.alias.tokenize, task.system_prompt
    return reported, bare, adapter, rank, answer.engine, answer.max_model_len


def _unresolved(
    reason: Literal["unknown_task", "unknown_alias"],
    task: str,
    alias: str | None,
    name: str,
    known: list[str],
) -> Unresolved:
    return Unresolved(reason, task, alias, tuple(known), tuple(get_close_matches(name, known, n=3)))
