"""Admission state: load, limits, wake queue and caches that balancer, controller and admitted requests share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pareta_agent.access.limits import Limiter
from pareta_agent.contract.fleet_view import ReplicaView
from pareta_agent.gateway.accounting.partial_answers import PartialAnswers
from pareta_agent.gateway.admission.idempotency import IdempotencyCache
from pareta_agent.gateway.admission.quarantine import Quarantine
from pareta_agent.gateway.admission.wake_queue import WakeQueue
from pareta_agent.gateway.ports import GatewayDeps
from pareta_agent.gateway.settings import GatewaySettings

PACE_WEIGHT: Final = 0.1
REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class ConcurrencyCap:
    """Maximum in-flight requests of a replica: a multiple of the replica's sequence slots, within bounds."""

    per_slot: int
    least: int
    most: int

    def of(self, replica: ReplicaView) -> int:
        return min(self.most, max(self.least, (replica.seats or self.most) * self.per_slot))


class Affinity:
    """The replica that last read each prompt prefix, by org; the oldest entries are dropped."""

    def __init__(self) -> None:
        self._seen: dict[int, str] = {}

    def preferred(self, key: int) -> str:
        return self._seen.get(key, "")

    def record(self, key: int, replica: str) -> None:
        self._seen.pop(key, None)
        self._seen[key] = replica
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]


class AdmissionState:
    """A single state per process, owned by the event loop. Replicas are counted by name, keys by id.

    - `load`, `by_key`: requests in flight of a replica, of a key.
    - `pace`: moving average of a replica's request duration, seconds.
    - `used_s`: the monotonic moment at which a replica's last request ended.
    """

    def __init__(self, settings: GatewaySettings, deps: GatewayDeps) -> None:
        self.settings, self.deps = settings, deps
        self.limiter = Limiter(deps.clock)
        self.wake_queue = WakeQueue(settings, deps)
        self.cap = ConcurrencyCap(
            settings.in_flight_per_seat,
            settings.min_in_flight_per_replica,
            settings.max_in_flight_per_replica,
        )
        self.affinity = Affinity()
        self.idempotency = IdempotencyCache(
            settings.idempotency_bytes, settings.idempotency_ttl_s, deps.clock
        )
        self.quarantine = Quarantine(deps.metrics, deps.clock)
        self.partial_answers = PartialAnswers(deps.metrics, deps.clock, deps.emit)
        self.pace: dict[str, float] = {}
        self.load: dict[str, int] = {}
        self.used_s: dict[str, float] = {}
        self.by_key: dict[str, int] = {}

    def begin_run(self, replica: str, key_id: str) -> None:
        _one_more(self.load, replica)
        _one_more(self.by_key, key_id)

    def end_run(self, replica: str, key_id: str, took_s: float) -> None:
        """Drops the counts that reach zero; keeps the replica's pace and the moment of this end."""
        before_s = self.pace.get(replica, took_s)
        self.pace[replica] = before_s + PACE_WEIGHT * (took_s - before_s)
        self.used_s[replica] = self.deps.clock.mono_s()
        _one_less(self.load, replica)
        _one_less(self.by_key, key_id)

    def move_run(self, replica: str, to: str) -> None:
        """Moves a lost replica's request to the count of another."""
        _one_less(self.load, replica)
        _one_more(self.load, to)


def _one_more(counter: dict[str, int], name: str) -> None:
    counter[name] = counter.get(name, 0) + 1


def _one_less(counter: dict[str, int], name: str) -> None:
    if counter[name] == 1:
        del counter[name]
    else:
        counter[name] -= 1
