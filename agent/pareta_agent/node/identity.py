"""Who this node is: an id made once and kept, and the boot it runs in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ulid import ULID

from pareta_agent import config
from pareta_agent.errors import HostError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Identity:
    node: str
    boot_id: str


def prepare(home: Path) -> None:
    """Makes the node's directories, for its user only. Raises HostError when it may not.

    The sockets' directory may lie under the machine's temporary one, where anybody could have made it first.
    """
    try:
        for directory in (home, config.run_dir(home)):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = config.run_dir(home).stat()
    except OSError as error:
        raise HostError(
            "home_unwritable",
            f"cannot make {error.filename}: {error.strerror}",
            "set PARETA_HOME to a directory you own",
        ) from None
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
        raise HostError(
            "run_dir_not_ours",
            f"{config.run_dir(home)} is open to other users",
            "remove it, or set a shorter PARETA_HOME",
        )


def identify(home: Path, named: str | None) -> Identity:
    """The identity of the node under `home`; its id is `named`, or one made at the first start."""
    boot_id = BOOT_ID.read_text().strip()
    if named:
        return Identity(named, boot_id)
    path = home / "node-id"
    if not path.exists():
        partial = path.with_suffix(".partial")
        with partial.open("w") as file:
            file.write(f"node-{str(ULID()).lower()}\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    return Identity(path.read_text().strip(), boot_id)
