"""Messages and descriptors between two agents, over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from pareta_agent.engine.view import FleetView
from pareta_agent.node.elder import Elder
from pareta_agent.node.heir import Heir
from pareta_agent.node.line import Door, Line, dial


async def pair(tmp_path: Path) -> tuple[Line, Line, Door]:
    door = Door(tmp_path / "d.sock")
    door.open()
    dialled, answered = await asyncio.gather(dial(tmp_path / "d.sock"), door.next())
    assert dialled is not None
    return dialled, answered, door


async def test_messages_come_whole_in_order_with_their_descriptors(tmp_path: Path) -> None:
    """A megabyte that no socket's buffer holds, and a pipe in the midst of small ones."""
    here, there, door = await pair(tmp_path)
    reading, writing = os.pipe()
    here.send("large", "x" * 2**20)
    here.send("pipe", {"n": 1}, [writing])
    here.send("last")
    heard = [await there.receive() for _ in range(3)]
    assert [message.kind for message in heard if message] == ["large", "pipe", "last"]
    assert heard[0] is not None
    assert len(heard[0].body) == 2**20
    assert heard[1] is not None
    os.write(heard[1].descriptors[0], b"through")
    os.close(heard[1].descriptors[0])
    assert os.read(reading, 100) == b"through"
    assert os.read(reading, 100) == b""
    os.close(reading)
    assert there.peer_pid == os.getpid()
    for each in (here, there, door):
        each.close()


async def test_the_end_is_told_and_what_is_said_afterwards_is_dropped(tmp_path: Path) -> None:
    """A line whose other side is gone gives None, and takes what it is given without a leak."""
    here, there, door = await pair(tmp_path)
    there.close()
    assert await here.receive() is None
    reading, writing = os.pipe()
    here.send("late", None, [writing])
    assert os.read(reading, 1) == b""
    os.close(reading)
    here.close()
    door.close()


async def test_last_words_are_heard_also_by_who_was_about_to_speak(tmp_path: Path) -> None:
    """One side says its last and is gone; the other, which waits for words, speaks before it has looked."""
    here, there, door = await pair(tmp_path)
    heard = asyncio.create_task(here.receive())
    await asyncio.sleep(0)
    there.send("bye")
    there.close()
    reading, writing = os.pipe()
    here.send("late", None, [writing])
    assert os.read(reading, 1) == b""
    os.close(reading)
    async with asyncio.timeout(60):
        last = await heard
        assert last is not None
        assert last.kind == "bye"
        assert await here.receive() is None
    here.close()
    door.close()


async def test_a_line_that_is_closed_here_ends_the_wait_for_words(tmp_path: Path) -> None:
    """Whoever waits for the other side is told that there is none any more."""
    here, there, door = await pair(tmp_path)
    heard = asyncio.create_task(here.receive())
    await asyncio.sleep(0)
    here.close()
    async with asyncio.timeout(60):
        assert await heard is None
    there.close()
    door.close()


async def test_a_door_is_taken_over_and_left_to_its_new_owner(tmp_path: Path) -> None:
    """The file is the newest one's; the older one's end does not remove it."""
    path = tmp_path / "d.sock"
    assert await dial(path) is None
    old, new = Door(path), Door(path)
    old.open()
    new.open()
    old.close()
    line = await dial(path)
    assert line is not None
    line.close()
    new.close()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert await dial(path) is None


async def test_what_is_to_end_is_used_until_the_other_one_knows(tmp_path: Path) -> None:
    """It sends requests to an engine until it has heard that it is not kept; its answer says what it has there."""
    here, there, door = await pair(tmp_path)
    load: dict[str, int] = {}
    elder, heir = Elder(here, lambda _event: None), Heir(there, lambda: dict(load))
    heir.tell()
    elder._hear(await here.receive(), None)
    load["ep_x/0"] = 2
    assert elder.unaware("ep_x/0")
    for kept in (["ep_x/0"], []):
        elder._tell(FleetView(), kept, True)
        for _ in ("fleet", "look"):
            heir.hear(await there.receive())
        assert heir.kept == frozenset(kept)
        assert elder.unaware("ep_x/0")
        elder._hear(await here.receive(), None)
    assert not elder.unaware("ep_x/0")
    assert elder.borrowed.load["ep_x/0"] == 2
    load.clear()
    heir.tell()
    elder._hear(await here.receive(), None)
    assert elder.borrowed.load["ep_x/0"] == 0
    for each in (here, there, door):
        each.close()


async def test_what_the_other_one_still_answers_is_known_with_its_engines(tmp_path: Path) -> None:
    """Before its first tick, which a loaded machine delays: an engine that nobody wants any more would be ended."""
    here, there, door = await pair(tmp_path)
    elder = Elder(here, lambda _event: None)
    Heir(there).begins({"ep_x/0": 3})
    await elder.taken(())
    assert (elder.borrowed.load["ep_x/0"], elder.borrowed.load["ep_x/1"]) == (3, 0)
    for each in (here, there, door):
        each.close()
