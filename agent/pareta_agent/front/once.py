"""A call that names an idempotency key: made once, and answered again from what was kept.

The key is opt-in; who sends none pays nothing for this. Only a completed call is remembered, since no other is debited.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pareta_agent.access.credit import Reservation
from pareta_agent.access.grant import KeyGrant
from pareta_agent.front import body
from pareta_agent.front.call import Call
from pareta_agent.front.desk import Desk
from pareta_agent.front.envelope import Problem
from pareta_agent.front.replays import Entry, Scope
from pareta_agent.front.routes import Route
from pareta_agent.front.wire import Request

if TYPE_CHECKING:
    from pareta_agent.front.protocol import FrontProtocol


class OnceCall(Call):
    """A `Call` whose key is looked up before it is admitted and settled when it ends."""

    def __init__(self, desk: Desk, protocol: FrontProtocol, route: Route, request: Request) -> None:
        super().__init__(desk, protocol, route, request)
        self._name = (request.idempotency_key or b"").decode("ascii")
        self._scope: Scope | None = None

    def finish_stream(self, last: bytes) -> None:
        self._answered(None)
        super().finish_stream(last)

    def finish_document(self, document: bytes) -> None:
        self._answered(document)
        super().finish_document(document)

    def _admit(
        self, grant: KeyGrant | None, ask: body.Ask | Problem, reservation: Reservation | None = None
    ) -> None:
        if self._scope is None and grant is not None and isinstance(ask, body.Ask):
            found = self._begin(grant, ask)
            if isinstance(found, Problem):
                self.refuse(found)
                return
            if found.document is not None:
                self._endpoint = ask.model
                self._replay(found.request_id, found.document)
                return
        super()._admit(grant, ask, reservation)

    def _begin(self, grant: KeyGrant, ask: body.Ask) -> Entry | Problem:
        scope = (grant.org, grant.key_id, ask.model, self.route.path, self._name)
        found = self._desk.replays.begin(scope, hashlib.sha256(self.body).digest(), self.id)
        if isinstance(found, Entry) and found.document is None:
            self._scope = scope
        return found

    def _replay(self, request_id: str, document: bytes) -> None:
        self._count("replayed", 200)
        self._reply.add_headers({"idempotent-replayed": "true", "x-original-request-id": request_id})
        self._reply.document(document)
        self._complete()

    def _answered(self, document: bytes | None) -> None:
        if self._scope is not None:
            self._desk.replays.answered(self._scope, document)
            self._scope = None

    def _leave(self) -> None:
        if self._scope is not None:
            self._desk.replays.failed(self._scope)
            self._scope = None
        super()._leave()
