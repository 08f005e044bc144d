"""What an earlier agent of this home left behind: processes by our marker, files by their intents.

Only what carries this home's marker is touched. It may run only before anything of ours was started.
"""

from __future__ import annotations

from pareta_agent.engine.intent import Intents
from pareta_agent.engine.place import place
from pareta_agent.engine.process import end_strays, marked
from pareta_agent.engine.spec import EngineSettings
from pareta_agent.telemetry.events import Emit, Event

_KILL_DEADLINE_S = 15.0


async def reap(settings: EngineSettings, intents: Intents, emit: Emit) -> int:
    """Ends every process of this home and sweeps what the intents name; answers how many were ended."""
    found = marked(settings.home_id)
    gone = await end_strays(found, _KILL_DEADLINE_S)
    for intent in intents.all():
        if not intent.ended:
            place(settings, intent.endpoint, intent.index, intent.generation).sweep(intent.segments)
    if found:
        emit(Event("orphans_reaped", "warning" if gone else "error", {"processes": len(found), "gone": gone}))
    return len(found)
