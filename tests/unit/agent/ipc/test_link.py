"""Messages and descriptors between two agents, over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from upgrade_pair import pair

from pareta_agent.node.upgrade.upgrade_socket import UpgradeListener, connect


async def test_messages_come_whole_in_order_with_their_descriptors(tmp_path: Path) -> None:
    """A megabyte that no socket's buffer holds, and a pipe in the midst of small ones."""
    here, there, listener = await pair(tmp_path)
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
    for each in (here, there, listener):
        each.close()


async def test_the_end_is_told_and_what_is_said_afterwards_is_dropped(tmp_path: Path) -> None:
    """A link whose other side is gone gives None, and takes what it is given without a leak."""
    here, there, listener = await pair(tmp_path)
    there.close()
    assert await here.receive() is None
    reading, writing = os.pipe()
    here.send("late", None, [writing])
    assert os.read(reading, 1) == b""
    os.close(reading)
    here.close()
    listener.close()


async def test_last_words_are_heard_also_by_who_was_about_to_speak(tmp_path: Path) -> None:
    """One side says its last and is gone; the other, which waits for words, speaks before it has looked."""
    here, there, listener = await pair(tmp_path)
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
    listener.close()


async def test_a_link_that_is_closed_here_ends_the_wait_for_words(tmp_path: Path) -> None:
    """Whoever waits for the other side is told that there is none any more."""
    here, there, listener = await pair(tmp_path)
    heard = asyncio.create_task(here.receive())
    await asyncio.sleep(0)
    here.close()
    async with asyncio.timeout(60):
        assert await heard is None
    there.close()
    listener.close()


async def test_a_socket_file_is_taken_over_and_left_to_its_new_owner(tmp_path: Path) -> None:
    """The file is the newest one's; the older one's end does not remove it."""
    path = tmp_path / "d.sock"
    assert await connect(path) is None
    old, new = UpgradeListener(path), UpgradeListener(path)
    old.open()
    new.open()
    old.close()
    link = await connect(path)
    assert link is not None
    link.close()
    new.close()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert await connect(path) is None
