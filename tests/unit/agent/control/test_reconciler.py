"""The controller: level-based, patient with the plane, and honest about what it could not start."""

import asyncio
from dataclasses import replace

import pytest

from pareta_agent.control.reconcile import Wanted
from pareta_agent.control.reconciler import Controller
from pareta_agent.errors import NothingFits, PlaneError

A = Wanted("ep_a", "org", "task", "alias-1", "running")


class ActionExecutor:
    """Records what was asked of it; `refuse` names endpoints that cannot start."""

    def __init__(self, refuse=()):
        self.acts, self.refuse, self.spared = [], set(refuse), []

    async def begin(self, running):
        self.spared.append(running)

    async def done(self, running):
        self.spared.append(running)

    def expect(self, wanted):
        self.expected = [entry.id for entry in wanted]

    async def deploy(self, wanted):
        if wanted.id in self.refuse:
            raise NothingFits("nothing_fits", "needs 10 GiB, has 2 GiB", "use a smaller variant")
        self.acts.append(("deploy", wanted.id))

    async def stop(self, wanted):
        self.acts.append(("stop", wanted.id))

    async def forget(self, endpoint):
        self.acts.append(("forget", endpoint))


class Clock:
    def __init__(self):
        self.slept = []

    async def sleep(self, seconds):
        self.slept.append(seconds)


async def run(answers, hands, clock=None):
    """Runs a controller over `answers`, one a poll (an exception is raised), then waits for ever."""
    events, asked = [], []

    async def desired(revision, wait_s):
        asked.append(revision)
        if not answers:
            await asyncio.Event().wait()
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    controller = Controller(desired, hands, clock or Clock(), events.append)
    task = asyncio.create_task(controller.run())
    for _ in range(50):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return controller, events, asked


async def test_each_revision_is_carried_out_once_and_asked_past():
    """The next poll names the revision that was applied."""
    hands = ActionExecutor()
    _, _, asked = await run([(3, [A]), (3, [A]), (4, [A])], hands)
    assert hands.acts == [("deploy", "ep_a")]
    assert asked == [0, 3, 3, 4]


async def test_a_plane_that_is_away_is_asked_again_after_a_bounded_wait():
    """What runs goes on running; the waits are jittered and at most a minute."""
    clock, away = Clock(), PlaneError("plane_away", "connection refused")
    hands = ActionExecutor()
    _, events, _ = await run([(1, [A]), *[away] * 10, (2, [])], hands, clock)
    assert hands.acts == [("deploy", "ep_a"), ("forget", "ep_a")]
    assert len(clock.slept) == 10
    assert max(clock.slept) <= 60
    assert {event.name for event in events} == {"desired_unknown"}


async def test_a_plane_that_is_away_for_a_day_is_asked_again():
    """2.0 ** 1024 was an OverflowError, which ended the agent's task."""
    clock, hands = Clock(), ActionExecutor()
    await run([*[PlaneError("plane_away", "connection refused")] * 1100, (1, [A])], hands, clock)
    assert (hands.acts, len(clock.slept)) == ([("deploy", "ep_a")], 1100)


async def test_an_endpoint_that_cannot_start_does_not_keep_others_from_it():
    """Its failure is kept with the arithmetic, and told once."""
    b = replace(A, id="ep_b")
    hands = ActionExecutor(refuse=["ep_a"])
    controller, events, _ = await run([(1, [A, b]), (2, [A, b])], hands)
    assert hands.acts == [("deploy", "ep_b")]
    assert controller.failures["ep_a"].message == "needs 10 GiB, has 2 GiB"
    assert [event.name for event in events] == ["deploy_refused"]


async def test_survivors_are_spared_for_what_is_wanted_and_runs():
    """Before anything is planned all that nobody wants is ended, and afterwards what could not be taken over."""
    b, c = replace(A, id="ep_b"), replace(A, id="ep_c", state="stopped")
    hands = ActionExecutor(refuse=["ep_a"])
    await run([(1, [A, b, c])], hands)
    assert hands.spared == [{"ep_a", "ep_b"}, {"ep_b"}]


async def test_asking_again_for_what_failed_tries_again():
    """A stop and a start are a fresh attempt."""
    hands = ActionExecutor(refuse=["ep_a"])
    stopped = replace(A, state="stopped")
    controller, events, _ = await run([(1, [A]), (2, [stopped]), (3, [A])], hands)
    assert [event.name for event in events] == ["deploy_refused"] * 2
    assert hands.acts == [("stop", "ep_a")]
    assert list(controller.failures) == ["ep_a"]
