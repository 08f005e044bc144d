"""Both ends of an upgrade's link, over a real socket."""

import asyncio
from pathlib import Path

from pareta_agent.ipc.link import Link
from pareta_agent.node.upgrade.upgrade_socket import UpgradeListener, connect


async def pair(tmp_path: Path) -> tuple[Link, Link, UpgradeListener]:
    listener = UpgradeListener(tmp_path / "d.sock")
    listener.open()
    connected, answered = await asyncio.gather(connect(tmp_path / "d.sock"), listener.next())
    assert connected is not None
    return connected, answered, listener
