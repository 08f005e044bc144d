"""Endpoint record: an endpoint for the owner, without hardware or weights. The field names are the SDK's."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel

from pareta_agent.contract.fleet_view import EndpointStatus
from pareta_agent.plane.store.deployments import Deployed
from pareta_agent.plane.store.endpoint_status import Standing
from pareta_registry.catalog import Catalog


class EndpointRecord(BaseModel):
    """`url` is set while a call would be answered.

    `reason` explains why a call would not be answered, where known. `idle_sleep_s` is the owner's setting: 0 for
    never, null for none.
    """

    id: str
    name: str
    model: str
    taskName: str
    status: EndpointStatus
    reason: str | None
    url: str | None
    createdAt: str
    idle_sleep_s: float | None
    recommendedSystemPrompt: str | None
    promptScaffold: str | None


def record(found: Deployed, standing: Standing, catalog: Catalog, origin: str) -> EndpointRecord:
    task = next((task for task in catalog.tasks if task.id == found.task), None)
    return EndpointRecord(
        id=found.id,
        name=found.name,
        model=found.alias,
        taskName=found.task,
        status=standing.status,
        reason=standing.reason,
        url=f"{origin}/v1" if standing.callable and origin else None,
        createdAt=datetime.fromtimestamp(found.created_s, UTC).isoformat(),
        idle_sleep_s=found.idle_sleep_s,
        recommendedSystemPrompt=task.system_prompt if task else None,
        promptScaffold=task.prompt_scaffold if task else None,
    )
