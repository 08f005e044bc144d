"""Eval runner: executes eval runs one after another; resumes after a restart.

Calls to open models use a node's own port like any call: metered and debited there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from pareta_agent.contract import grant
from pareta_agent.contract.price import cost_micro_usd
from pareta_agent.plane.evals import rows, scorers, vendors
from pareta_agent.plane.evals.engine_leases import EngineLeases, NoEngine
from pareta_agent.plane.evals.model_client import ModelAddress, ModelAnswer, ask
from pareta_agent.plane.evals.runs import EvalCandidate, EvalRun, RowAnswer, Runs, VendorCharge
from pareta_agent.plane.evals.sets import EvalSet, Sets
from pareta_agent.plane.evals.vendors import Vendor, Vendors
from pareta_agent.plane.plane import Plane
from pareta_registry.catalog import Catalog, Task

AT_ONCE: Final = 4
LEDGER_S: Final = 60.0
LOOK_EVERY_S: Final = 0.5
IDLE_S: Final = 5.0
LEAST_ANSWER_TOKENS: Final = 256
ROOM_RATIO: Final = 4


class Stopped(Exception):
    """The run cannot continue; the text is for the run's owner."""


class Runner:
    """Bound to one event loop; call `wake` after a run was created."""

    def __init__(
        self, plane: Plane, sets: Sets, runs: Runs, catalog: Callable[[], Catalog], vendors: Vendors
    ) -> None:
        self._plane, self._sets, self._runs = plane, sets, runs
        self._catalog, self._vendors = catalog, vendors
        self._engines = EngineLeases(plane, runs)
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Wakes the runner, from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._news.set)

    async def run(self) -> None:
        """Executes runs until cancelled."""
        self._loop = asyncio.get_running_loop()
        await self._engines.sweep()
        while True:
            self._news.clear()
            run = await run_in_threadpool(self._runs.next)
            if run is not None:
                await self._finish(run)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._news.wait()

    async def _finish(self, run: EvalRun) -> None:
        import aiohttp  # loaded by the first run: a start of the plane must not pay for the import

        error: str | None = None
        try:
            async with aiohttp.ClientSession() as self._session:
                await self._work(run)
        except Stopped as stopped:
            error = str(stopped)
        except Exception:  # an error in one run must not block the next run
            logging.getLogger(__name__).exception("eval run %s failed", run.id)
            error = "an internal error occurred"
        await run_in_threadpool(self._runs.end, run.id, error)

    async def _work(self, run: EvalRun) -> None:
        await run_in_threadpool(self._runs.begin, run.id)
        found = await run_in_threadpool(self._sets.find, run.org, run.set_id)
        task = next((task for task in self._catalog().tasks if task.id == run.task), None)
        if found is None or task is None:
            raise Stopped("the eval set was deleted" if found is None else "the task is no longer offered")
        for candidate in await run_in_threadpool(self._runs.candidates, run.id):
            if not candidate.done:
                try:
                    error = await self._candidate(run, found, task, candidate)
                except Exception:  # but not when the plane stops: the run resumes with the same engine
                    await self._engines.release(run, candidate)
                    raise
                await self._engines.release(run, candidate)
                await run_in_threadpool(self._runs.update, candidate, done=True, error=error)

    async def _candidate(
        self, run: EvalRun, found: EvalSet, task: Task, candidate: EvalCandidate
    ) -> str | None:
        """Calls the model for every row without an answer; returns the reason when the model cannot be called."""
        vendor = self._vendors.find(candidate.model) if candidate.kind == "frontier" else None
        place = self._vendor(vendor) if vendor else await self._open(run, task, candidate)
        if isinstance(place, NoEngine):
            return place.reason
        earlier = await run_in_threadpool(self._runs.answers, run.id, candidate.place)
        asked = {each.place for each in earlier}
        lines = await run_in_threadpool(self._sets.rows, found.id)
        left = iter([(number, row) for number, row in enumerate(lines) if number not in asked])
        at_work = [self._rows(found, task, candidate, place, vendor, left) for _ in range(AT_ONCE)]
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(each) for each in at_work]
        if reason := next((reason for each in workers if (reason := each.result())), None):
            raise Stopped(reason)
        await self._ledgered(run, candidate)
        return None

    async def _rows(
        self,
        found: EvalSet,
        task: Task,
        candidate: EvalCandidate,
        place: ModelAddress,
        vendor: Vendor | None,
        left: Any,
    ) -> str | None:
        """Calls the model for rows from `left`, concurrently with other tasks; returns the reason when the run must
        stop.
        """

        async def where() -> ModelAddress:
            return place if vendor else await self._engines.now(place)

        for number, row in left:
            blobs = await run_in_threadpool(self._sets.blobs, found.id, number)
            reply = await ask(
                self._session,
                self._plane.clock,
                where,
                rows.messages(task, row, blobs),
                max_answer_tokens(task),
            )
            if reply.status == 402:
                return "the organization ran out of credit"
            answer = self._judged(candidate, number, row, reply, found.scorer)
            charge = _charge(vendor, reply) if vendor else None
            await run_in_threadpool(self._runs.answered, candidate, answer, charge)
            if (
                charge is not None
                and (await run_in_threadpool(self._plane.orgs.balance, found.org) or 0) <= 0
            ):
                return "the organization ran out of credit"
        return None

    def _judged(
        self, candidate: EvalCandidate, number: int, row: dict[str, Any], reply: ModelAnswer, scorer: str
    ) -> RowAnswer:
        points = None if reply.text is None else scorers.SCORERS[scorer](reply.text, row["expected"])
        here = f"{candidate.run_id}-{candidate.place}-{number}"
        request_id = reply.request_id if candidate.kind == "open" and reply.request_id else here
        return RowAnswer(number, points, reply.error, reply.latency_s, request_id)

    async def _open(self, run: EvalRun, task: Task, candidate: EvalCandidate) -> ModelAddress | NoEngine:
        alias = next((alias for alias in task.aliases if alias.id == candidate.model), None)
        if alias is None:
            return NoEngine("the task no longer offers this model")
        return await self._engines.get(run, candidate, alias)

    def _vendor(self, vendor: Vendor) -> ModelAddress | NoEngine:
        key = vendors.key_of(vendor)
        if key is None:
            return NoEngine(f"the key for {vendor.id} cannot be read on the plane's host")
        return ModelAddress(vendor.base_url, vendor.model or vendor.id, key)

    async def _ledgered(self, run: EvalRun, candidate: EvalCandidate) -> None:
        """Waits, for a bounded time, until the nodes reported all calls, so that costs are complete."""
        clock = self._plane.clock
        until_s = clock.mono_s() + LEDGER_S
        while clock.mono_s() < until_s:
            if not await run_in_threadpool(self._runs.unledgered, run.id, candidate.place):
                return
            await clock.sleep(LOOK_EVERY_S)


def max_answer_tokens(task: Task) -> int:
    """Returns the longest requested answer in tokens: a multiple of the usual answer, which bounds the cost."""
    usual = task.typical_tokens.output if task.typical_tokens else 0
    return max(LEAST_ANSWER_TOKENS, ROOM_RATIO * usual)


def _charge(vendor: Vendor, reply: ModelAnswer) -> VendorCharge | None:
    if reply.text is None:
        return None
    price = grant.TokenPrice(**vendor.price.model_dump())
    cost = cost_micro_usd(price, reply.input_tokens, 0, reply.output_tokens)
    return VendorCharge("eval", reply.input_tokens, reply.output_tokens, cost)
