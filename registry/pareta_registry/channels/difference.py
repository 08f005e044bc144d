"""Catalog difference: compares two catalogs, in the words of a review. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pareta_registry.catalog import Catalog, Model, Task


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """`where` is dotted, like `task read.aliases[0].model`; `before` and `after` are None for a missing value."""

    kind: Literal["added", "removed", "changed"]
    where: str
    before: Any = None
    after: Any = None

    def __str__(self) -> str:
        if self.kind == "changed":
            return f"~ {self.where}: {self.before!r} -> {self.after!r}"
        return f"{'+' if self.kind == 'added' else '-'} {self.where}"


def difference(before: Catalog, after: Catalog) -> tuple[CatalogChange, ...]:
    """Every change, by document and field; empty for equal digests."""
    return tuple(_compare("", _documents(before), _documents(after)))


def _documents(catalog: Catalog) -> dict[str, Any]:
    documents: tuple[Task | Model, ...] = (*catalog.tasks, *catalog.models)
    return {
        f"{each.kind} {each.id}": each.model_dump(mode="json", exclude_defaults=True) for each in documents
    }


def _compare(where: str, before: Any, after: Any) -> Iterator[CatalogChange]:
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _mappings(where, before, after)
    elif isinstance(before, list) and isinstance(after, list) and _named(before) and _named(after):
        yield from _mappings(where, _named(before), _named(after))
    elif before != after:
        yield CatalogChange("changed", where, before, after)


def _mappings(where: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[CatalogChange]:
    for key in sorted({*before, *after}):
        place = f"{where}.{key}" if where else key
        if key not in after:
            yield CatalogChange("removed", place, before=before[key])
        elif key not in before:
            yield CatalogChange("added", place, after=after[key])
        else:
            yield from _compare(place, before[key], after[key])
    if list(before) != list(after) and set(before) == set(after) and where.endswith("aliases"):
        yield CatalogChange("changed", f"{where} (rank order)", list(before), list(after))


def _named(items: list[Any]) -> dict[str, Any]:
    """A list of items with ids or names as a mapping; empty for other lists."""
    names = [str(item.get("id") or item.get("name") or "") for item in items if isinstance(item, dict)]
    return dict(zip(names, items, strict=True)) if len(names) == len(items) and all(names) else {}
