"""Spool commit: collects the work of one transaction and resolves the callers' futures afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.errors import AgentError


@dataclass(slots=True)
class Operation:
    """Work inside the transaction. An AgentError of the work goes to the caller and leaves the transaction intact."""

    apply: Callable[[], Any]
    future: asyncio.Future[Any]
    result: Any = None
    refusal: AgentError | None = None

    def run(self) -> None:
        try:
            self.result = self.apply()
        except AgentError as error:
            self.refusal = error


@dataclass(slots=True)
class Commit:
    admissions: list[Admission] = field(default_factory=list)
    records: list[tuple[UsageRecord, asyncio.Future[None]]] = field(default_factory=list)
    calls: list[Operation] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.admissions) + len(self.records) + len(self.calls)

    @property
    def closed(self) -> set[str]:
        """Ids of the requests that end in this commit."""
        return {record.admission.request_id for record, _ in self.records}

    def add(self, job: Admission | tuple[UsageRecord, asyncio.Future[None]] | Operation | None) -> None:
        """Adds a job; None, the end of all jobs, adds nothing."""
        if job is None:
            return
        if isinstance(job, Admission):
            self.admissions.append(job)
        elif isinstance(job, Operation):
            self.calls.append(job)
        else:
            self.records.append(job)

    def postpone(self, now_s: float, delay_s: float) -> list[Admission]:
        """Removes and returns the admissions that may wait for their records.

        Most records arrive within `delay_s`, which saves two writes a request. No admission waits when a caller waits
        for an operation, or when no record is to be written.
        """
        if self.calls or not self.records:
            return []
        closed = self.closed
        young = [
            each
            for each in self.admissions
            if 0 <= now_s - each.t_admit_wall_s < delay_s and each.request_id not in closed
        ]
        if young:
            waiting = {each.request_id for each in young}
            self.admissions = [each for each in self.admissions if each.request_id not in waiting]
        return young

    def moves(self, already_open: Collection[str]) -> tuple[Sequence[tuple[str, bytes]], Sequence[str]]:
        """Returns rows to add to the open requests, and ids to remove. A request that opens and ends here is in
        neither.
        """
        closed = self.closed
        opened = [
            (each.request_id, orjson.dumps(each)) for each in self.admissions if each.request_id not in closed
        ]
        return opened, [request_id for request_id in closed if request_id in already_open]

    def resolve(self, failure: AgentError | None, listeners: Sequence[Callable[[], None]]) -> None:
        """Resolves every future and calls the listeners; runs on the event loop."""
        for _, future in self.records:
            _answer(future, None, failure)
        for call in self.calls:
            _answer(call.future, call.result, failure or call.refusal)
        for listener in listeners:
            listener()


def _answer(future: asyncio.Future[Any], result: Any, failure: AgentError | None) -> None:
    if future.done():
        return  # the caller gave up
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
