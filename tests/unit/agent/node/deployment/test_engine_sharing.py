"""Which endpoints share a base, and what it is called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pareta_agent.node.deployment.engine_sharing import engine_of, shares, wish_of
from pareta_agent.planning.request import AdapterSlots, for_resolution, slots_for
from pareta_registry.catalog import Adapter, Alias, Task
from pareta_registry.load import builtin_catalog, catalog_of
from pareta_registry.resolve import Resolution, resolve

DIGEST = f"sha256:{'0' * 64}"


def adapter(name: str, rank: int = 8) -> Adapter:
    return Adapter(name=name, artifact=DIGEST, source="file:///a", rank=rank, weights_bytes=1)


def resolved(alias: str, adapters: tuple[Adapter, ...] = (adapter("a"), adapter("b"))) -> Resolution:
    model = builtin_catalog().models[0].model_copy(update={"adapters": adapters})
    aliases = [
        Alias(id="plain-1", model=model.id),
        Alias(id="short-1", model=model.id, max_model_len=1024),
        *(Alias(id=f"{each.name}-1", model=model.id, adapter=each.name) for each in adapters),
    ]
    task = Task(id="t", title="T", aliases=tuple(aliases), recommended="plain-1")
    found = resolve(catalog_of([model, task]), "t", alias)
    assert isinstance(found, Resolution)
    return found


def seat(alias: str, **asked: Any) -> str:
    found = resolved(alias)
    return engine_of("ep_x", found, wish_of(found, for_resolution(found, **asked)))


def test_a_base_and_its_adapters_share_one_engine() -> None:
    """Whatever the alias, the plan would be the same; the name says nothing of the weights."""
    assert seat("plain-1") == seat("a-1") == seat("b-1")
    assert seat("a-1").startswith("base-")


@pytest.mark.parametrize("asked", [{"replicas": 2}, {"objective": "latency"}])
def test_who_asks_for_another_layout_has_another_engine(asked: dict[str, Any]) -> None:
    """One plan could not be right for both."""
    assert seat("a-1", **asked) != seat("a-1")


def test_an_alias_with_other_limits_has_another_engine() -> None:
    """Its context is its own."""
    assert seat("short-1") != seat("plain-1")


def test_a_model_without_adapters_has_engines_of_its_own() -> None:
    """As many as it has endpoints, named after them."""
    found = resolved("plain-1", ())
    request = for_resolution(found)
    assert (shares(found), request.adapters) == (False, None)
    assert engine_of("ep_x", found, wish_of(found, request)) == "ep_x"
    assert wish_of(found, request) != wish_of(found, replace(request, replicas=2))


@pytest.mark.parametrize(
    ("ranks", "expected"), [([8], 16), ([8, 4, 16], 16), ([8] * 99, 16), ([17, 8], 32), ([512], 512)]
)
def test_room_follows_from_the_largest_rank(ranks: list[int], expected: int) -> None:
    """In the engine's steps; how many adapters there are changes nothing, so that one more needs no other engine."""
    found = slots_for([adapter(f"a{i}", rank) for i, rank in enumerate(ranks)])
    assert found == AdapterSlots(expected, 4, 64)
