"""Quarantine: refuses a request that was in flight when two engines ended, by fingerprint, for a limited time.

An innocent request may share both ends with the cause, so the refusal expires. Callers of this module decide which
ends count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import orjson

from pareta_agent.clock import Clock
from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import EndpointView, ReplicaView
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.telemetry.metrics import Metrics

ENDS: Final = 2
WITHIN_S: Final = 600.0
REFUSED_S: Final = 600.0
CONFIRMED_WITHIN_S: Final = 60.0
REMEMBERED: Final = 4096


def refused_until(ends: Sequence[float]) -> float | None:
    """The end of a request's refusal by the moments at which the request's engines ended; None if not refused. Pure."""
    last = ends[-ENDS:]
    if len(last) < ENDS or last[-1] - last[0] > WITHIN_S:
        return None
    return last[-1] + REFUSED_S


def fingerprint(org: str, endpoint: str, request: InferenceRequest) -> bytes:
    """Equal for the same request of the same org to the same endpoint."""
    content = orjson.dumps([org, endpoint, request.fields], default=_digest, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(content, digest_size=16).digest()


def fingerprint_of(endpoint: EndpointView, request: InferenceRequest) -> bytes:
    """The fingerprint of a request to this endpoint; a worker's request brings a fingerprint."""
    return request.fingerprint or fingerprint(endpoint.org, endpoint.id, request)


def _digest(value: object) -> str:
    """A digest of a value that JSON cannot express, such as an upload."""
    data = value if isinstance(value, bytes | bytearray | memoryview) else repr(value).encode()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Quarantine:
    """Costs nothing while no engine ends: a request is fingerprinted only if an engine was lost."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics, self._clock = metrics, clock
        self._lost: dict[tuple[str, int], list[tuple[float, bytes]]] = {}
        self._ends: dict[bytes, list[float]] = {}

    @property
    def active(self) -> bool:
        """True if engines ended recently, so that requests are checked."""
        return bool(self._ends)

    def lost(self, endpoint: EndpointView, replica: ReplicaView, request: InferenceRequest) -> None:
        """Notes a request in flight on a connection that ended; `ended` confirms the engine's end."""
        self.note(replica.name, replica.generation, fingerprint_of(endpoint, request))

    def note(self, replica: str, generation: int, fingerprint: bytes) -> None:
        """`lost`, by the request's fingerprint."""
        noted = self._lost.setdefault((replica, generation), [])
        if len(noted) < REMEMBERED:
            noted.append((self._clock.mono_s(), fingerprint))

    def ended(self, replica: str, generation: int) -> None:
        """Counts an engine's unexpected end against the requests that were lost there."""
        now_s = self._clock.mono_s()
        here = [
            fingerprint
            for at_s, fingerprint in self._lost.pop((replica, generation), ())
            if now_s - at_s < CONFIRMED_WITHIN_S
        ]
        self._lost = {
            key: noted for key, noted in self._lost.items() if now_s - noted[-1][0] < CONFIRMED_WITHIN_S
        }
        for fingerprint in set(here):
            self._ends[fingerprint] = [*self._ends.pop(fingerprint, ())[-1:], now_s]
        while len(self._ends) > REMEMBERED:
            del self._ends[next(iter(self._ends))]

    def refusal(self, endpoint: EndpointView, request: InferenceRequest) -> Problem | None:
        """The refusal of a quarantined request."""
        if not self._ends:
            return None
        now_s = self._clock.mono_s()
        oldest = next(iter(self._ends))
        if now_s - self._ends[oldest][-1] > max(WITHIN_S, REFUSED_S):
            del self._ends[oldest]
        until_s = refused_until(self._ends.get(fingerprint_of(endpoint, request), ()))
        if until_s is None or now_s > until_s:
            return None
        self._metrics.inc("pareta_requests_quarantined_total", endpoint.id)
        return Problem("request_quarantined", retry=False)
