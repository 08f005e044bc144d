"""Upstream exchange: sends an admitted request to a replica, relays the answer, and settles the usage record.

A lost request is retried before any byte of the answer was passed on: on a new connection if an idle connection was
stale, else once on another replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import orjson

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.outcome import RequestFacts
from pareta_agent.contract.usage_record import Outcome, Tokens, UsageRecord
from pareta_agent.gateway.accounting.billing import failure_event
from pareta_agent.gateway.accounting.usage import Times, Used, bounds_of, settle
from pareta_agent.gateway.admission.admitted import error_of
from pareta_agent.gateway.admission.balancer import select_other_replica
from pareta_agent.gateway.api import multipart
from pareta_agent.gateway.api.constraints import constraint_of
from pareta_agent.gateway.api.refusals.engine_errors import precedes_work, problem_in, problem_of
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.gateway.downstream.context import GatewayContext
from pareta_agent.gateway.ports import AdmittedRequest, GatewayCaller
from pareta_agent.gateway.upstream.pool import EngineConnection
from pareta_agent.gateway.upstream.relay import Relay

LAST_WORDS_S: Final = 2.0


class UpstreamExchange:
    """Settles the admitted request in `_settle`, exactly once."""

    def __init__(
        self,
        context: GatewayContext,
        caller: GatewayCaller,
        request: InferenceRequest,
        admitted: AdmittedRequest,
    ) -> None:
        self._context = context
        self._caller = caller
        self._admitted = admitted
        self._admission = admitted.admission
        self._request = request
        self._target = target = admitted.target
        self._relay: Relay | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._request_bytes: list[bytes] = []
        # A constraint that cannot be compiled fails after the opening of a stream, which waits for what comes next.
        self._opening: bytes | None = None if constraint_of(request.fields) is None else b""
        self._fresh = self._moved = self._settled = self._unread = False
        self._retries = self._audio_seconds = 0
        self._document: bytes | None = None
        self._tokens: Tokens | None = None
        self._finish_reasons: tuple[str, ...] = ()
        self._bounds = bounds_of(request, target.endpoint)
        self._admitted_s = context.deps.clock.mono_s()
        self._first_s: float | None = None
        self._deadline_s = self._admitted_s + context.settings.request_timeout_s
        self._quiet_since_s = self._admitted_s

    def begin(self, body: bytes) -> None:
        """Sends the request; `body` is the engine's."""
        kind = multipart.CONTENT_TYPE if self._caller.route.form else "application/json"
        head = (
            f"POST {self._caller.route.path} HTTP/1.1\r\nhost: engine\r\ncontent-type: {kind}\r\n"
            f"x-request-id: {self._caller.id}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._request_bytes = [head.encode(), body]
        connection = self._context.pools.of(self._target.replica.socket).take()
        if connection is not None:
            self._send(connection)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    # the caller's side

    def caller_gone(self) -> None:
        """Aborts the engine's work, unless every choice has finished: then the usage event is awaited."""
        if self._settled:
            return
        relay = self._relay
        if self._request.stream and relay and len(relay.listener.finish_reasons) >= self._request.choices:
            relay.overhear()
            self._deadline_s = min(self._deadline_s, self._context.deps.clock.mono_s() + LAST_WORDS_S)
        else:
            self._fail(Problem("internal"))

    def pause(self) -> None:
        self._unread = True
        if self._relay is not None:
            self._relay.pause()

    def resume(self) -> None:
        self._unread = False
        if self._relay is not None:
            self._relay.resume()

    # the context's side

    def tick(self, now_s: float) -> None:
        if self._settled:
            return
        if self._relay is not None and self._relay.alive:
            self._relay.alive, self._quiet_since_s = False, now_s
        stalled = now_s - self._quiet_since_s > self._context.settings.stall_timeout_s
        if now_s > self._deadline_s and self._caller.disconnected:
            self._fail(Problem("internal"))
        elif stalled and self._unread:
            self._caller.hang_up()  # no reader for so long: the caller's end, and not the engine's
        elif now_s > self._deadline_s or stalled:
            # A request that took the whole time would take the same again; a silent engine is replaced.
            self._fail(Problem("engine_timeout", retry=None if stalled else False), timed_out=True)

    def fail(self, code: str, server_fault: bool = False) -> None:
        """Ends the exchange from outside."""
        if not self._settled:
            self._fail(Problem(code), server_fault=server_fault)

    # the relay's side

    def stream_gave(self, payload: bytes) -> None:
        if self._first_s is None:
            self._first_s = self._context.deps.clock.mono_s()
        if self._opening is not None:
            self._opening += payload
            if self._opens:
                return
            payload, self._opening = self._opening, None
        if not self._caller.disconnected:
            self._caller.stream_gave(self._target.renamed(payload))

    def verbatim(self) -> Callable[[bytes], None] | None:
        careful = self._caller.disconnected or self._target.endpoint.served_as or self._opening is not None
        return None if careful else self._caller.verbatim()

    def stream_ended(self) -> None:
        assert self._relay is not None
        listener = self._relay.listener
        self._tokens, self._finish_reasons = listener.tokens, tuple(listener.finish_reasons)
        if listener.failed and self._opens:
            self._refused(problem_in(listener.error, self._caller.route, self._request.fields), 500)
        else:
            self._settle(self._facts(ended=listener.done, error_event=listener.failed))

    def document_came(self, status: int, body: bytes) -> None:
        if status != 200:
            self._refused(problem_of(status, body, self._caller.route, self._request.fields), status)
            return
        try:
            self._read_document(body)
        except (orjson.JSONDecodeError, TypeError, AttributeError):
            self._settle(self._facts(ended=False))
        else:
            self._settle(self._facts(ended=True))

    def engine_lost(self) -> None:
        relay = self._relay
        if self._settled:
            return
        # An idle connection that the engine had closed meanwhile: the engine never saw the request.
        stale = relay is not None and relay.status is None and not self._fresh
        self._admitted.lost(self._target, self._request)
        if (stale and not self._caller.disconnected) or self._elsewhere():
            self._again()
        else:
            self._fail(Problem("engine_failed" if relay and relay.status else "engine_unreachable"))

    def relay_failed(self, error: Exception) -> None:  # noqa: ARG002
        self.fail("engine_failed")

    # inside

    @property
    def _opens(self) -> bool:
        """True if a stream has no text yet."""
        assert self._relay is not None
        listener = self._relay.listener
        opening = self._caller.route.dialect.stream_format.overhead * self._request.choices
        return listener.events - listener.failed <= opening

    def _refused(self, problem: Problem, status: int) -> None:
        """Settles the engine's refusal, which is no failure of the engine if the caller caused the refusal."""
        blamed = min(status, problem.status)
        late = not precedes_work(blamed, problem, self._request.prompts)
        facts = self._facts(ended=True, late=late)
        self._settle(facts._replace(upstream_status=blamed), problem)

    @property
    def _events(self) -> int:
        return self._relay.listener.events if self._relay is not None else 0

    def _elsewhere(self) -> bool:
        """Moves to another replica, once, before any part of the answer was passed on; False if there is none."""
        if self._settled or self._moved or self._caller.disconnected or self._first_s is not None:
            return False
        target = select_other_replica(self._context.admission, self._target)
        if target is None:
            return False
        self._admitted.moved(target)
        self._target, self._moved = target, True
        return True

    def _again(self) -> None:
        self._relay = None
        self._retries += 1
        self._context.deps.metrics.inc("pareta_upstream_retries_total", self._admission.endpoint)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        pool = self._context.pools.of(self._target.replica.socket)
        try:
            connection = await pool.connect(self._context.settings.connect_timeout_s)
        except (OSError, TimeoutError):
            self._connecting = None
            if self._elsewhere():
                self._again()
            else:
                self.fail("engine_unreachable")
            return
        self._connecting = None
        if self._settled:
            connection.give_back()
        else:
            self._fresh = True
            self._send(connection)

    def _send(self, connection: EngineConnection) -> None:
        stream_format = self._caller.route.dialect.stream_format
        relay = Relay(
            connection,
            self,
            self._request.wants_usage,
            self._context.settings.max_answer_bytes,
            stream_format,
        )
        self._relay = relay
        connection.send(self._request_bytes, relay)

    def _read_document(self, body: bytes) -> None:
        reading = self._caller.route.dialect.read(body)
        self._finish_reasons, self._tokens = reading.finish_reasons, reading.tokens
        self._audio_seconds = reading.audio_seconds
        self._document = self._target.renamed(reading.document)

    def _facts(self, **seen: bool) -> RequestFacts:
        return RequestFacts(
            upstream_status=self._relay.status if self._relay else None,
            choices=self._request.choices if self._caller.route.generates else 0,
            finish_reasons=self._finish_reasons,
            client_gone=self._caller.disconnected,
            **seen,
        )

    def _fail(self, problem: Problem, timed_out: bool = False, server_fault: bool = False) -> None:
        if self._relay is not None:
            listener = self._relay.listener
            self._tokens, self._finish_reasons = listener.tokens, tuple(listener.finish_reasons)
            self._relay.close()
        self._settle(self._facts(timed_out=timed_out, server_fault=server_fault), problem)

    def _settle(self, facts: RequestFacts, problem: Problem | None = None) -> None:
        """Closes the admission; a success waits for the durable record, a failure is reported at once."""
        self._settled = True
        self._request_bytes = []
        record = self._record(facts)
        if record.outcome is Outcome.COMPLETED:
            durable = self._admitted.settle(record, 200, facts.unworked, self._document)
            durable.add_done_callback(self._say_success)
            return
        problem = problem or Problem("engine_failed")
        status = 499 if self._caller.disconnected else problem.status
        self._admitted.settle(record, status, facts.unworked, None)
        self._caller.finish_badly(problem, self._events)
        self._relay = None  # cuts the cycle, so that a request's objects die at once
        self._context.deps.emit(failure_event(record, problem))

    def _record(self, facts: RequestFacts) -> UsageRecord:
        relay = self._relay
        overhead = self._caller.route.dialect.stream_format.overhead * self._request.choices
        chunks = max(0, relay.events - relay.listener.done - overhead) if relay else 0
        times = Times(self._admitted_s, self._context.deps.clock.mono_s(), self._first_s, self._retries)
        target = self._target.replica
        used = Used(self._tokens, chunks, self._audio_seconds)
        record = settle(self._admission, facts, used, self._bounds, times, target)
        given = self._caller.client_request_id
        return replace(record, client_request_id=given) if given else record

    def _say_success(self, saved: asyncio.Future[None]) -> None:
        if error_of(saved) is not None:
            self._caller.finish_badly(Problem("metering_unavailable"), self._events)
        elif self._document is not None:
            self._caller.finish_document(self._document)
        elif self._relay is not None:
            last = (self._opening or b"") + self._relay.listener.last
            self._caller.finish_stream(self._target.renamed(last))
        if self._relay is not None:
            self._relay.close()
        self._relay = None
