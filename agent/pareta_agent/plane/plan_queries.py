"""Plan queries: send questions to the nodes' planners and collect the answers.

Kept in memory: after a restart, the caller repeats a lost query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from ulid import ULID

from pareta_agent.contract.wire import PlanQuestion, PlanVerdict


@dataclass(slots=True)
class _NodeQueue:
    """Open queries of a node; `news` is set while any is open."""

    open: dict[str, PlanQuestion] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class PlanQueries:
    """Bound to one event loop."""

    def __init__(self) -> None:
        self._queues: dict[str, _NodeQueue] = {}
        self._waiting: dict[tuple[str, str], asyncio.Future[PlanVerdict]] = {}

    async def ask(self, nodes: Sequence[str], task: str, alias: str, timeout_s: float) -> PlanVerdict | None:
        """Returns the best answer of `nodes` (fits before busy before never); None when no node answered in time."""
        asked = [self._put(node, PlanQuestion(id=f"q_{ULID()}", task=task, alias=alias)) for node in nodes]
        futures = [future for _, future in asked]
        try:
            done, _ = await asyncio.wait(futures, timeout=timeout_s) if futures else (set(), set())
        finally:
            for (node, question), future in asked:
                future.cancel()
                self._waiting.pop((node, question), None)
                self._close(node, question)
        order = ("fits", "busy", "never")
        return min((one.result() for one in done), key=lambda v: order.index(v.verdict), default=None)

    async def open(self, node: str, wait_s: float) -> list[PlanQuestion]:
        """Returns the node's open queries; waits up to `wait_s` for the first."""
        queue = self._queues.setdefault(node, _NodeQueue())
        try:
            async with asyncio.timeout(wait_s):
                await queue.news.wait()
        except TimeoutError:
            return []
        asked = list(queue.open.values())
        for question in asked:
            self._close(node, question.id)
        return asked

    def answer(self, node: str, verdict: PlanVerdict) -> None:
        """Delivers an answer; ignores a late answer and an answer to another node's query."""
        future = self._waiting.pop((node, verdict.id), None)
        if future is not None and not future.done():
            future.set_result(verdict)

    def _put(self, node: str, question: PlanQuestion) -> tuple[tuple[str, str], asyncio.Future[PlanVerdict]]:
        queue = self._queues.setdefault(node, _NodeQueue())
        queue.open[question.id] = question
        queue.news.set()
        future: asyncio.Future[PlanVerdict] = asyncio.get_running_loop().create_future()
        self._waiting[node, question.id] = future
        return (node, question.id), future

    def _close(self, node: str, question: str) -> None:
        queue = self._queues[node]
        queue.open.pop(question, None)
        if not queue.open:
            queue.news.clear()
