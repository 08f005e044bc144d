"""What a successor and its predecessor know of each other's engines, over a real socket."""

from __future__ import annotations

from pathlib import Path

from upgrade_pair import pair

from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.node.upgrade.predecessor import Predecessor
from pareta_agent.node.upgrade.successor import Successor


async def test_what_is_to_end_is_used_until_the_other_one_knows(tmp_path: Path) -> None:
    """It sends requests to an engine until it has heard that it is not kept; its answer says what it has there."""
    here, there, listener = await pair(tmp_path)
    load: dict[str, int] = {}
    predecessor, successor = Predecessor(here, lambda _event: None), Successor(there, lambda: dict(load))
    successor.send_demand()
    predecessor._receive(await here.receive(), None)
    load["ep_x/0"] = 2
    assert predecessor.may_use("ep_x/0")
    for kept in (["ep_x/0"], []):
        predecessor._send_fleet(FleetView(), kept, True)
        for _ in ("fleet", "look"):
            successor.receive(await there.receive())
        assert successor.kept == frozenset(kept)
        assert predecessor.may_use("ep_x/0")
        predecessor._receive(await here.receive(), None)
    assert not predecessor.may_use("ep_x/0")
    assert predecessor.borrowed.load["ep_x/0"] == 2
    load.clear()
    successor.send_demand()
    predecessor._receive(await here.receive(), None)
    assert predecessor.borrowed.load["ep_x/0"] == 0
    for each in (here, there, listener):
        each.close()


async def test_what_the_other_one_still_answers_is_known_with_its_engines(tmp_path: Path) -> None:
    """Before its first tick, which a loaded machine delays: an engine that nobody wants any more would be ended."""
    here, there, listener = await pair(tmp_path)
    predecessor = Predecessor(here, lambda _event: None)
    Successor(there).pass_ownership({"ep_x/0": 3})
    await predecessor.taken(())
    assert (predecessor.borrowed.load["ep_x/0"], predecessor.borrowed.load["ep_x/1"]) == (3, 0)
    for each in (here, there, listener):
        each.close()
