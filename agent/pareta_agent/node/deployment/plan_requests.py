"""Plan requests: collects the planner's inputs of every desired endpoint that the catalog knows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pareta_agent.control.reconcile import Wanted
from pareta_agent.node.deployment.engine_sharing import engine_of, wish_of
from pareta_agent.planning.placement.pack import Need
from pareta_agent.planning.request import PlanRequest
from pareta_registry.catalog import Catalog
from pareta_registry.resolve import Resolution, resolve

Ask = Callable[[Resolution, Wanted], PlanRequest]


def need_of(wanted: Wanted, resolution: Resolution, request: PlanRequest) -> Need:
    """The plan request under the name of the endpoint's engine."""
    engine = engine_of(wanted.id, resolution, wish_of(resolution, request))
    return Need(engine, resolution.model.architecture, resolution.model.variants, request)


def needs_of(expected: Iterable[Wanted], catalog: Catalog, ask: Ask) -> list[Need]:
    """The plan requests of running endpoints; a shared engine counts once."""
    found: dict[str, Need] = {}
    for wanted in expected:
        resolution = resolve(catalog, wanted.task, wanted.alias)
        if wanted.state == "running" and isinstance(resolution, Resolution):
            need = need_of(wanted, resolution, ask(resolution, wanted))
            found[need.endpoint] = need
    return list(found.values())


def replicas_of(needs: Iterable[Need]) -> list[str]:
    """The replica names on a node without GPUs for additional replicas."""
    return [f"{need.endpoint}/{index}" for need in needs for index in range(need.request.replicas or 1)]
