"""Lame duck: admits calls for a while after SIGTERM, while `/readyz` sends load balancers elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from pareta_agent.gateway.gateway import Gateway
from pareta_agent.telemetry.events import Emit, Event


async def lame_duck(
    emit: Emit, seconds: float, front: Gateway, hurry: asyncio.Event, others: Collection[asyncio.Future[Any]]
) -> set[asyncio.Future[Any]]:
    """Returns the futures of `others` that ended within `seconds`. A second signal ends the lame duck alone."""
    if not seconds:
        return set()
    emit(Event("lame_duck", fields={"seconds": seconds}))
    front.lame_duck()
    hurried = asyncio.create_task(hurry.wait())
    done, _ = await asyncio.wait({hurried, *others}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    hurry.clear()
    return {each for each in done if each is not hurried}
