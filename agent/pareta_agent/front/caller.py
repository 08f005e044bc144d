"""The caller of a run: gets the answer, or the problem, of one admitted request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pareta_agent.front.envelope import Problem
from pareta_agent.front.routes import Route


class Caller(Protocol):
    """Who asked; each `finish_` is the last that is said, also to who has left."""

    id: str
    client_request_id: str
    route: Route
    disconnected: bool

    def stream_gave(self, payload: bytes) -> None: ...

    def verbatim(self) -> Callable[[bytes], None] | None: ...

    def hang_up(self) -> None: ...

    def finish_stream(self, last: bytes) -> None: ...

    def finish_document(self, document: bytes) -> None: ...

    def finish_badly(self, problem: Problem, events: int) -> None: ...
