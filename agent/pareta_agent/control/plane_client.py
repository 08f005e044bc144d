"""Plane client: sends one typed request a call, each with a deadline. Retries nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, ValidationError

from pareta_agent.access.credit import GrantedLease
from pareta_agent.contract import wire
from pareta_agent.contract.grant import GrantLimits, KeyGrant
from pareta_agent.errors import PlaneError

Answer = TypeVar("Answer", bound=BaseModel)

AWAY, UNAUTHORIZED, FENCED, REFUSED = "plane_away", "plane_unauthorized", "plane_fenced", "plane_refused"
_REMEDIES = {
    AWAY: "check plane.url and the network to the plane; the node continues to retry",
    UNAUTHORIZED: "write this node's token into plane.token_file (`pareta-agent plane token` on the plane makes one)",
}
_CODES = {401: UNAUTHORIZED, 403: UNAUTHORIZED, 410: FENCED}


@dataclass(frozen=True, slots=True)
class EventsAnswer:
    """The raw answer to a batch. `delivery` classifies the answer."""

    status: int
    body: bytes
    retry_after_s: float | None


class PlaneClient:
    """Client of one plane for one node. Every call raises PlaneError:

    plane_away          no connection, deadline passed, or status 5xx or 429
    plane_unauthorized  status 401 or 403
    plane_fenced        status 410
    plane_refused       any other status, or an invalid body
    """

    def __init__(self, base_url: str, token: str, node: str, timeout_s: float = 10.0) -> None:
        self._base, self._node = base_url.rstrip("/") + "/node/v1", node
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"})
        self._path = f"{self._base}/nodes/{quote(node, safe='')}"

    async def __aenter__(self) -> PlaneClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def register(self, body: wire.Register) -> wire.Registered:
        return await self._post(f"{self._base}/register", body, wire.Registered)

    async def heartbeat(self, body: wire.Heartbeat, timeout_s: float | None = None) -> wire.HeartbeatAnswer:
        return await self._post(f"{self._path}/heartbeat", body, wire.HeartbeatAnswer, timeout_s)

    async def desired(self, revision: int, wait_s: float) -> wire.Desired:
        """The whole desired state. Waits up to `wait_s` seconds while the plane's revision is still `revision`."""
        url = f"{self._path}/desired?revision={revision}&wait_s={wait_s:g}"
        answer = await self._call("GET", url, None, self._timeout_s + wait_s)
        return _parse(answer, wire.Desired)

    async def observed(self, body: wire.Observed) -> None:
        await self._report(f"{self._path}/observed", body)

    async def questions(self, wait_s: float) -> list[wire.PlanQuestion]:
        """The plane's open questions to this node's planner. Waits up to `wait_s` seconds for a question."""
        url = f"{self._path}/questions?wait_s={wait_s:g}"
        answer = await self._call("GET", url, None, self._timeout_s + wait_s)
        return _parse(answer, wire.PlanQuestions).questions

    async def verdict(self, body: wire.PlanVerdict) -> None:
        await self._report(f"{self._path}/verdicts", body)

    async def events(
        self, events: Sequence[bytes], *, resync: bool = False, timeout_s: float = 30.0
    ) -> EventsAnswer:
        """Sends a batch of events, each already in wire form. Raises `plane_away` alone; a 5xx is an answer.

        `resync`: earlier events that the plane misses are no longer in the spool.
        """
        body = b"[" + b",".join(events) + b"]"
        url = f"{self._path}/events?resync=true" if resync else f"{self._path}/events"
        return await self._call("POST", url, body, timeout_s, wire.EVENTS_CONTENT_TYPE)

    async def introspect(self, sha256_hex: str) -> KeyGrant | None:
        """The grant of the key with that hash; None for an unknown key."""
        body = wire.Introspect(sha256=sha256_hex).model_dump_json().encode()
        answer = await self._call("POST", f"{self._base}/keys:introspect", body, self._timeout_s)
        if answer.status == 404:
            return None
        found = _parse(answer, wire.KeyAnswer)
        endpoints = None if found.endpoints is None else frozenset(found.endpoints)
        limits = GrantLimits(**found.limits.model_dump())
        return KeyGrant(found.org, found.key_id, found.state, endpoints, found.ttl_s, limits, found.partial)

    async def credit_lease(
        self, epoch: int, org: str, micro_usd: int, heard_micro_usd: int | None = None
    ) -> GrantedLease:
        body = wire.CreditRequest(org=org, epoch=epoch, micro_usd=micro_usd, heard_micro_usd=heard_micro_usd)
        found = (await self._post(f"{self._base}/credit:lease", body, wire.CreditAnswer)).lease
        return GrantedLease(found.granted_micro_usd, found.expires_s)

    async def _report(self, url: str, body: BaseModel) -> None:
        answer = await self._call("POST", url, body.model_dump_json().encode(), self._timeout_s)
        if answer.status != 204:
            raise _refusal(answer)

    async def _post(
        self, url: str, body: BaseModel, answer: type[Answer], timeout_s: float | None = None
    ) -> Answer:
        sent = body.model_dump_json(exclude_none=True).encode()
        return _parse(await self._call("POST", url, sent, timeout_s or self._timeout_s), answer)

    async def _call(
        self, method: str, url: str, body: bytes | None, timeout_s: float, content: str = "application/json"
    ) -> EventsAnswer:
        headers = {"Content-Type": content} if body is not None else None
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, timeout=timeout
            ) as response:
                answer = await response.read()
                return EventsAnswer(response.status, answer, _seconds(response.headers.get("Retry-After")))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            message = f"the control plane does not answer: {type(error).__name__}"
            raise PlaneError(AWAY, message, _REMEDIES[AWAY]) from error


def _parse(answer: EventsAnswer, model: type[Answer]) -> Answer:
    if answer.status != 200:
        raise _refusal(answer)
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        message = (
            f"the control plane's answer violates the wire: {error.error_count()} errors in {model.__name__}"
        )
        raise PlaneError(REFUSED, message) from None


def _refusal(answer: EventsAnswer) -> PlaneError:
    code = AWAY if answer.status >= 500 or answer.status == 429 else _CODES.get(answer.status, REFUSED)
    said = "refuses this node's token" if code == UNAUTHORIZED else "answered"
    return PlaneError(code, f"the control plane {said} ({answer.status})", _REMEDIES.get(code, ""))


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after is not None else None
    except ValueError:
        return None  # a date: the caller's own backoff applies
