"""Heartbeat: registers the node, renews its lease, and refuses admission once the lease has expired.

The lease starts at the moment a renewal was *sent*, on the clock that counts suspended time. A suspended or
disconnected node therefore stops before the plane reassigns its work. The heartbeat never interprets the reported
values.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pareta_agent.backoff import FULL_JITTER, Backoff
from pareta_agent.clock import Clock
from pareta_agent.contract import wire
from pareta_agent.control.plane_client import FENCED, UNAUTHORIZED
from pareta_agent.errors import PlaneError
from pareta_agent.meter.spool import Spool
from pareta_agent.telemetry.events import Emit, Event


class LeaseClient(Protocol):
    """The two calls of the plane's client that renew a lease."""

    async def register(self, body: wire.Register) -> wire.Registered: ...

    async def heartbeat(
        self, body: wire.Heartbeat, timeout_s: float | None = None
    ) -> wire.HeartbeatAnswer: ...


@dataclass(frozen=True, slots=True)
class HeartbeatSettings:
    """Timing of heartbeat and lease.

    `admit_for_s`: seconds after the send time of the last renewal in which new requests are admitted.
    `offline_grace_s`: seconds added to that for a node that may serve without a plane. `token_refusals`: refusals in
    a row that end a node that never registered.
    """

    admit_for_s: float = 30.0
    offline_grace_s: float = 0.0
    jitter_ratio: float = 0.1
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    call_timeout_s: float = 8.0
    steady_epoch_s: float = 60.0
    token_refusals: int = 3
    inventory_every_s: float = 300.0


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Identity of this node for the life of the process."""

    node: str
    boot_id: str
    agent_version: str
    capabilities: tuple[str, ...] = ()
    front_url: str = ""


@dataclass(frozen=True, slots=True)
class Vitals:
    """The node's part of a heartbeat; the spool adds its own."""

    state: wire.NodeState
    engines_ready: int = 0
    engines_starting: int = 0
    engines_failed: int = 0
    running: int = 0
    waiting: int = 0
    disk_free_bytes: int = 0
    config_digest: str = ""
    desired_revision: int = 0
    inventory: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listeners:
    """Callbacks for the members of a heartbeat's answer. Each runs on the event loop and must not block.

    `keys_revision` receives the revision of the keys and the hashes withdrawn since the last revision. None: any key
    may have been withdrawn.
    """

    epoch: Callable[[int], None] = lambda _: None
    keys_revision: Callable[[int, list[str] | None], None] = lambda _revision, _withdrawn: None
    credit_lease: Callable[[wire.CreditLease], None] = lambda _: None
    directive: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class HeartbeatView:
    """`epoch` 0: not registered yet. `renewed_boot_s` is the send time of the last renewal."""

    epoch: int = 0
    fenced: bool = False
    renewed_boot_s: float | None = None
    sent: int = 0
    failed: int = 0
    clock_offset_s: float | None = None
    desired_revision: int = 0
    trouble: str = ""


class HeartbeatLoop:
    """Sends the heartbeats of one node. `vitals` is called for each heartbeat."""

    def __init__(
        self,
        plane: LeaseClient,
        spool: Spool,
        identity: NodeIdentity,
        vitals: Callable[[], Vitals],
        clock: Clock,
        emit: Emit,
        listeners: Listeners | None = None,
        settings: HeartbeatSettings | None = None,
    ) -> None:
        self._plane, self._spool, self._identity, self._vitals = plane, spool, identity, vitals
        self._clock, self._emit = clock, emit
        self._listeners, self._settings = listeners or Listeners(), settings or HeartbeatSettings()
        self._interval_s = 10.0
        self._inventory: tuple[Mapping[str, Any], float] | None = None
        self._keys_revision = 0
        self.view = HeartbeatView()

    def may_admit(self) -> bool:
        """True while the lease admits new requests: registered, not fenced, renewed recently enough."""
        renewed_s = self.view.renewed_boot_s
        if self.view.fenced or renewed_s is None:
            return False
        allowed_s = self._settings.admit_for_s + self._settings.offline_grace_s
        return self._clock.boot_s() - renewed_s < allowed_s

    def reached_at(self, front_url: str) -> None:
        """Stores the address at which callers reach this node, for the next registration."""
        self._identity = replace(self._identity, front_url=front_url)

    async def run(self) -> None:
        """Runs until cancelled: registers, sends heartbeats, and registers again after a newer epoch fenced this
        node.

        Raises PlaneError if the plane never accepted this node's token.
        """
        quick_fences = 0
        while True:
            await self._register()
            since_s = self._clock.mono_s()
            await self._clock.sleep(random.uniform(0, self._interval_s))
            while not self.view.fenced:
                await self._beat()
                if not self.view.fenced:
                    await self._clock.sleep(self._next_s())
            # Two agents with one name would fence each other forever: each round waits longer.
            quick_fences = (
                quick_fences + 1 if self._clock.mono_s() - since_s < self._settings.steady_epoch_s else 0
            )
            await self._clock.sleep(self._backoff_s(quick_fences) if quick_fences else 0)

    async def _register(self) -> None:
        """Registers; retries until the plane accepts."""
        attempt = refusals = 0
        while True:
            sent_s = self._clock.boot_s()
            try:
                answer = await self._plane.register(self._registration())
                for epoch, expected in answer.expected.items():
                    await self._rewind(epoch, expected)
                await self._spool.begin_epoch(answer.epoch)
            except PlaneError as error:
                attempt += 1
                refusals = (refusals + 1) * (error.code == UNAUTHORIZED)
                self._failed("register_failed", error)
                if self.view.epoch == 0 and refusals >= self._settings.token_refusals:
                    raise
                await self._clock.sleep(self._backoff_s(attempt + 3 if refusals else attempt))
                continue
            self._interval_s = answer.heartbeat_s
            self.view = replace(
                self.view,
                epoch=answer.epoch,
                fenced=False,
                renewed_boot_s=sent_s,
                desired_revision=answer.desired_revision,
                trouble="",
            )
            self._emit(Event("registered", "info", {"epoch": answer.epoch}))
            self._listeners.epoch(answer.epoch)
            self._notify_keys(answer.keys_revision, None)
            self._notify_leases(answer.credit_leases)
            return

    async def _beat(self) -> None:
        sent_boot_s, sent_wall_s = self._clock.boot_s(), self._clock.wall_s()
        try:
            answer = await self._plane.heartbeat(self._body(), self._settings.call_timeout_s)
        except PlaneError as error:
            if error.code == FENCED:
                self.view = replace(self.view, fenced=True)
                self._emit(Event("fenced", "warning", {"epoch": self.view.epoch}))
                return
            self._failed("heartbeat_failed", error)
            return
        if self.view.trouble:
            self._emit(Event("heartbeat_recovered"))
        self._interval_s = answer.heartbeat_s
        self.view = replace(
            self.view,
            renewed_boot_s=sent_boot_s,
            sent=self.view.sent + 1,
            clock_offset_s=answer.server_time - (sent_wall_s + self._clock.wall_s()) / 2,
            desired_revision=answer.desired_revision,
            trouble="",
        )
        self._notify_keys(answer.keys_revision, answer.keys_withdrawn)
        self._notify_leases(answer.credit_leases)
        for directive in answer.directives:
            self._listeners.directive(directive)
        if answer.expected_seq is not None:
            await self._rewind(self.view.epoch, answer.expected_seq)

    async def _rewind(self, epoch: int, expected: int) -> None:
        """The plane lost acknowledged records. The spool keeps acknowledged records for a week."""
        first = await self._spool.rewind(epoch, expected)
        fields = {"epoch": epoch, "sequence": expected, "kept_from": first}
        self._emit(Event("plane_behind", "warning" if first == expected else "error", fields))

    def _registration(self) -> wire.Register:
        inventory = self._vitals().inventory
        self._inventory = (inventory, self._clock.mono_s())
        return wire.Register(
            node=self._identity.node,
            boot_id=self._identity.boot_id,
            agent_version=self._identity.agent_version,
            capabilities=list(self._identity.capabilities),
            front_url=self._identity.front_url,
            inventory=dict(inventory),
            spool_id=self._spool.id,
            epochs=[
                wire.EpochMark(epoch=epoch, last_seq=last, acked_seq=acked)
                for epoch, (last, acked) in self._spool.epochs().items()
            ],
        )

    def _body(self) -> wire.Heartbeat:
        vitals, spool = self._vitals(), self._spool.stats()
        return wire.Heartbeat(
            node=self._identity.node,
            epoch=self.view.epoch,
            hb_seq=self.view.sent + self.view.failed,
            boot_id=self._identity.boot_id,
            state=vitals.state,
            engines=wire.EngineCounts(
                ready=vitals.engines_ready, starting=vitals.engines_starting, failed=vitals.engines_failed
            ),
            metering_ok=self._spool.can_admit(),
            running=vitals.running,
            waiting=vitals.waiting,
            spool=wire.SpoolReport(
                last_seq=spool.last_seq,
                last_hash=spool.last_hash,
                acked_seq=spool.acked_seq,
                admitted=spool.admitted,
                terminal=spool.terminal,
                quarantined=spool.quarantined,
                bytes=spool.bytes,
            ),
            disk_free_bytes=vitals.disk_free_bytes,
            clock_offset_s=self.view.clock_offset_s,
            config_digest=vitals.config_digest,
            revisions=wire.Revisions(desired=vitals.desired_revision, keys=self._keys_revision),
            inventory=self._changed_inventory(vitals.inventory),
        )

    def _changed_inventory(self, inventory: Mapping[str, Any]) -> dict[str, Any] | None:
        now_s = self._clock.mono_s()
        if self._inventory is not None:
            before, reported_s = self._inventory
            if before == inventory and now_s - reported_s < self._settings.inventory_every_s:
                return None
        self._inventory = (inventory, now_s)
        return dict(inventory)

    def _notify_keys(self, revision: int, withdrawn: list[str] | None) -> None:
        self._keys_revision = revision
        self._listeners.keys_revision(revision, withdrawn)

    def _notify_leases(self, leases: list[wire.CreditLease]) -> None:
        for lease in leases:
            self._listeners.credit_lease(lease)

    def _failed(self, name: str, error: PlaneError) -> None:
        if error.code != self.view.trouble:
            fields = {"code": error.code, "reason": error.message, "remedy": error.remedy or None}
            self._emit(Event(name, "warning", fields))
        self.view = replace(self.view, failed=self.view.failed + 1, trouble=error.code)

    def _next_s(self) -> float:
        spread_s = self._interval_s * self._settings.jitter_ratio
        return random.uniform(self._interval_s - spread_s, self._interval_s + spread_s)

    def _backoff_s(self, attempt: int) -> float:
        backoff = Backoff(self._settings.backoff_s, self._settings.backoff_max_s, FULL_JITTER)
        return backoff.delay_s(attempt, random.random())
