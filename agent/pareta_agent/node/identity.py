"""Identity: stores the node's id, made once, and reads the host's boot id."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ulid import ULID

from pareta_agent import config
from pareta_agent.errors import HostError
from pareta_registry.files import write_atomically

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    node: str
    boot_id: str


def prepare(home: Path) -> None:
    """Makes the node's directories, for its user only. Raises HostError when the permission is missing.

    The sockets' directory may lie under the machine's temporary directory, where another user could have made it first.
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
            "remove this directory, or set a shorter PARETA_HOME",
        )


def identify(home: Path, named: str | None) -> StoredIdentity:
    """The identity of the node under `home`; the id is `named`, or made at the first start.

    Raises HostError where the stored id is damaged: a new id would be another node to the plane.
    """
    boot_id = BOOT_ID.read_text().strip()
    if named:
        return StoredIdentity(named, boot_id)
    path = home / "node-id"
    if not path.exists():
        write_atomically(path, f"node-{str(ULID()).lower()}\n".encode())
    return StoredIdentity(_kept(path), boot_id)


def _kept(path: Path) -> str:
    node = path.read_bytes().strip().decode("ascii", "replace")
    if _ID.fullmatch(node) is None:
        raise HostError(
            "node_id_damaged",
            f"{path} holds no node id",
            "write the node's id at the control plane into the file, or remove the file for a new id",
        )
    return node
