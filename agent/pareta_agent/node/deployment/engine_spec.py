"""Engine spec: builds the specification of an engine or of an adapter endpoint from a plan. Pure."""

from __future__ import annotations

from collections.abc import Callable

from pareta_agent.control.reconcile import Wanted
from pareta_agent.engine.spec import AdapterEndpointSpec, EngineSpec, Fetch
from pareta_agent.node.deployment.engine_sharing import shares
from pareta_agent.planning.plan import Plan
from pareta_registry.catalog import Variant
from pareta_registry.resolve import Resolution


def variant_of(resolution: Resolution, plan: Plan) -> Variant:
    """The variant that the plan loads."""
    return next(v for v in resolution.model.variants if v.name == plan.variant)


def engine_order(
    engine: str,
    wanted: Wanted,
    resolution: Resolution,
    plan: Plan,
    fetch: Fetch,
    wish: str,
    *,
    code: bool,
    may_sleep: Callable[[], bool],
) -> EngineSpec:
    """The spec of the endpoint's own engines, or of the shared base `engine`, which has no owner."""
    own = not shares(resolution)
    return EngineSpec(
        endpoint=engine,
        org=wanted.org if own else "",
        task=wanted.task if own else "",
        alias=resolution.alias.id if own else "",
        plan=plan,
        fetch=fetch,
        revision=variant_of(resolution, plan).artifact,
        canaries=resolution.model.canaries,
        remote_code=code,
        system_prompt=resolution.task.system_prompt if own and wanted.inject_system_prompt else None,
        tokenize=own and resolution.alias.tokenize,
        created_s=wanted.created_s,
        listed=wanted.listed,
        wish=wish,
        shared=not own,
        may_sleep=may_sleep,
    )


def guest_order(
    wanted: Wanted, resolution: Resolution, engine: str, fetch: Fetch | None
) -> AdapterEndpointSpec:
    """The spec of an endpoint on a base, with the endpoint's adapter, if any."""
    adapter = resolution.adapter
    return AdapterEndpointSpec(
        endpoint=wanted.id,
        org=wanted.org,
        task=wanted.task,
        alias=resolution.alias.id,
        engine=engine,
        revision=adapter.artifact if adapter else None,
        fetch=fetch,
        canaries=adapter.canaries if adapter else (),
        system_prompt=resolution.task.system_prompt if wanted.inject_system_prompt else None,
        tokenize=resolution.alias.tokenize,
        created_s=wanted.created_s,
        listed=wanted.listed,
    )
