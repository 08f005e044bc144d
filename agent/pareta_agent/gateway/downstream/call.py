"""Inference call: a request from the head to the last byte, in place of uvicorn's ASGI request cycle.

The steps: authorize, admit, exchange with the engine, settle, end. An admitted request ends in exactly one usage
record. The last bytes of a success leave only once that record is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.grant import KeyGrant
from pareta_agent.gateway.admission.idempotency import idempotency_key_of
from pareta_agent.gateway.admission.rules import authorize, bearer_of
from pareta_agent.gateway.api import request_body
from pareta_agent.gateway.api.routes import Route
from pareta_agent.gateway.downstream.body_limits import UNCOUNTED_BYTES
from pareta_agent.gateway.downstream.context import GatewayContext
from pareta_agent.gateway.downstream.credentials import resolve_credentials
from pareta_agent.gateway.downstream.exchange import UpstreamExchange
from pareta_agent.gateway.downstream.request_head import RequestHead
from pareta_agent.gateway.downstream.response import COMMENT, ResponseWriter, common_headers
from pareta_agent.gateway.ports import AdmittedRequest, Pending
from pareta_agent.telemetry.events import Event

# uvicorn sets this event of a cycle at a lost connection; a call has `caller_gone` instead
_UNUSED_EVENT = asyncio.Event()


class Downstream(Protocol):
    """The members of the caller's connection that a call uses."""

    @property
    def transport(self) -> asyncio.Transport: ...

    @property
    def server_state(self) -> Any: ...

    def call_complete(self, call: InferenceCall) -> None: ...


class InferenceCall:
    """Replaces uvicorn's RequestResponseCycle: the attributes without underscore, up to `body`, are that class's."""

    def __init__(
        self, context: GatewayContext, connection: Downstream, route: Route, head: RequestHead
    ) -> None:
        self.response_complete = False
        self.disconnected = False
        self.more_body = True
        self.message_event = _UNUSED_EVENT
        self.body = bytearray()
        self.id = context.new_request_id()
        self.route = route
        self._context = context
        self._connection = connection
        self._head = head
        self._transport = connection.transport
        self._bearer, self.endpoint = "", ""
        self._grant: KeyGrant | None = None
        self._task: asyncio.Task[None] | None = None
        self._request: request_body.InferenceRequest | None = None
        self._pending: Pending | None = None
        self._exchange: UpstreamExchange | None = None
        self._started = False
        self.client_request_id = (head.client_request_id or b"").decode()
        shared = connection.server_state.default_headers + context.cors.headers(head.origin)
        common = common_headers(route.dialect, self.id, head, shared)
        keep_alive = head.keep_alive and not context.lame_duck
        self._response = ResponseWriter(connection.transport, route.dialect, common, head.http11, keep_alive)

    @property
    def keep_alive(self) -> bool:
        return self._response.keep_alive

    @keep_alive.setter
    def keep_alive(self, value: bool) -> None:
        """True if the connection stays open after the answer; uvicorn clears the value at shutdown."""
        self._response.keep_alive = value

    # the connection's side

    def start(self, grant: KeyGrant | None = None) -> None:
        """Starts the request once the answers before are complete; `grant` if the key is already known."""
        self._started, self._grant = True, grant
        self._deadline_s = self._context.deps.clock.mono_s() + self._context.settings.body_timeout_s
        self._context.enter(self)
        problem = self._head.problem or self._refusal_by_head()
        if problem is not None:
            self.refuse(problem)
            return
        if self.more_body and self._head.expects_continue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self.more_body:
            self._proceed()

    def take_body(self, data: bytes) -> None:
        self.body += data
        if len(self.body) <= UNCOUNTED_BYTES or self.response_complete:
            return
        problem = self._context.body_budget.grew(self, self.body, self.route.media, self.route.form)
        if problem is not None:
            self._context.body_budget.ended(self)
            self._head = self._head.with_problem(problem)
            self.body.clear()
            if self._started:
                self.refuse(problem)

    def body_complete(self) -> None:
        self.more_body = False
        self._context.body_budget.ended(self)
        if self._started and not self.response_complete:
            self._proceed()

    def caller_gone(self) -> None:
        self.disconnected = True
        if self._exchange is not None:
            self._exchange.caller_gone()
        elif not self.response_complete:
            self._count("refused", 499)
            self._leave()

    def pause(self) -> None:
        if self._exchange is not None:
            self._exchange.pause()

    def resume(self) -> None:
        if self._exchange is not None:
            self._exchange.resume()

    # the context's side

    def tick(self, now_s: float) -> None:
        if self._exchange is not None:
            self._exchange.tick(now_s)
        elif now_s > self._deadline_s and self._pending is None and (self._task is None or self._task.done()):
            self.refuse(Problem("request_timeout"))

    def is_last(self) -> None:
        if not self._response.head_sent:
            self.keep_alive = False

    def cut(self) -> None:
        if self._exchange is not None:
            self._exchange.fail("node_draining", server_fault=True)
        else:
            self.refuse(Problem("node_draining"))

    # deciding

    def _refusal_by_head(self) -> Problem | None:
        """The refusal that follows from the head alone."""
        if self._context.draining:
            self.keep_alive = False
            return Problem("node_draining")
        if self._grant is None:
            bearer = bearer_of(self._head.authorization)
            if isinstance(bearer, Problem):
                return bearer
            self._bearer = bearer
            self._grant = self._context.deps.keys.peek(bearer)
        return authorize(self._grant) if self._grant is not None else None

    def _proceed(self) -> None:
        if self._grant is not None and len(self.body) <= self._context.on_loop_bytes:
            try:
                self._apply(self._grant, request_body.read(self.route, self.body))
            except Exception as error:  # the parser would report broken HTTP of the caller
                self.crashed(error)
        else:
            self._task = asyncio.get_running_loop().create_task(self._proceed_slowly())

    async def _proceed_slowly(self) -> None:
        """Continues with an unknown key, or with a body too large to parse on the event loop."""
        try:
            grant, request = await resolve_credentials(
                self._context, self._grant, self._bearer, self.route, self.body
            )
            if not self._over:
                self._apply(grant, request)
        except Exception as error:
            self.crashed(error)

    def crashed(self, error: Exception) -> None:
        """Handles an internal error: an event, a 500 for the caller, and a record if the request was admitted."""
        self._context.deps.emit(
            Event("request_crashed", "error", {"request_id": self.id, "error": repr(error)})
        )
        if self._exchange is not None:
            self._exchange.fail("internal", server_fault=True)
        else:
            self.refuse(Problem("internal"))

    def _apply(self, grant: KeyGrant | None, request: request_body.InferenceRequest | Problem) -> None:
        if grant is None or isinstance(request, Problem):
            self.refuse(request if isinstance(request, Problem) else Problem("invalid_api_key"))
            return
        idempotency_key = idempotency_key_of(self._head.idempotency_key, self.body)
        self._request, self.body = request, bytearray()
        pending = self._context.apply(self, self.route, grant, request, idempotency_key)
        if not self._over and self._exchange is None:
            self._pending = pending

    # the result of the admission

    def admitted(self, admitted: AdmittedRequest) -> None:
        assert self._request is not None
        request, self._request, self._pending = self._request, None, None
        self._exchange = UpstreamExchange(self._context, self, request, admitted)
        there, salt = admitted.target.endpoint, self._context.salt_of(admitted.admission.org)
        self._exchange.begin(
            request_body.rebuild(
                self.route, request, there.system_prompt, salt, there.served_as, greedy=there.greedy
            )
        )

    def hang_up(self) -> None:
        """Closes the connection of a caller that does not read."""
        self._transport.abort()

    def replay(self, request_id: str, document: bytes) -> None:
        """Sends the stored answer of the same call."""
        self._count("replayed", 200)
        self._response.add_headers({"idempotent-replayed": "true", "x-original-request-id": request_id})
        self._response.document(document)
        self._complete()

    def send_keepalive(self) -> None:
        self._response.piece(COMMENT)

    def add_headers(self, headers: dict[str, str]) -> None:
        self._response.add_headers(headers)

    @property
    def _over(self) -> bool:
        return self.disconnected or self.response_complete

    # the downstream side of the exchange

    def stream_gave(self, payload: bytes) -> None:
        self._response.piece(payload)

    def verbatim(self) -> Callable[[bytes], None] | None:
        return self._response.framed()

    def finish_stream(self, last: bytes) -> None:
        if not self.disconnected:
            self._response.end_stream(last)
        self._complete()

    def finish_document(self, document: bytes) -> None:
        if not self.disconnected:
            self._response.document(document)
        self._complete()

    def finish_badly(self, problem: Problem, events: int) -> None:
        """Reports the failure after so many events, as a document or within the stream."""
        if not self.disconnected:
            self._response.problem(problem, events)
        self._complete()

    def refuse(self, problem: Problem) -> None:
        if self._over:
            return
        self._count("refused", problem.status)
        if self.more_body:
            self.keep_alive = False
        self._response.problem(problem)
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self._leave()
        if not self.disconnected:
            self._connection.call_complete(self)

    def _leave(self) -> None:
        self._exchange = None
        if self._pending is not None:
            self._pending.withdraw()
            self._pending = None
        self._context.leave(self)

    def _count(self, outcome: str, status: int) -> None:
        labels = (self.endpoint, self.route.path, outcome, str(status))
        self._context.deps.metrics.inc("pareta_requests_total", *labels)
