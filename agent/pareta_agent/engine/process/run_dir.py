"""Run directory: names and makes the private directory, the socket and the log of a replica's generation.

Paths are short by design: a unix socket's holds 107 bytes, and vLLM appends a uuid to ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pareta_agent.engine.process.log_tail import turn_over
from pareta_agent.engine.spec import EngineSettings
from pareta_agent.errors import HostError

_SOCKET_PATH_BYTES = 107
_UUID_CHARS = 37
_SHM = Path("/dev/shm")
_KEEPER = str(Path(__file__).with_name("log_keeper.py"))


@dataclass(frozen=True, slots=True)
class RunDir:
    name: str
    generation: int
    directory: Path
    log: Path
    log_max_bytes: int
    marker: str

    @property
    def socket(self) -> Path:
        return self.directory / "s"

    @property
    def tmp(self) -> Path:
        return self.directory / "t"

    @property
    def log_keeper(self) -> list[str]:
        """The program that bounds the log, for the engine's process group to run."""
        return [sys.executable, "-I", "-S", _KEEPER, str(self.log), str(self.log_max_bytes)]

    def make(self) -> None:
        """Creates the private directories (0700) and turns the logs over. Raises HostError, OSError."""
        if len(str(self.tmp)) + _UUID_CHARS > _SOCKET_PATH_BYTES:
            raise HostError(
                "run_dir_too_long",
                f"the run directory's path is too long for unix sockets ({len(str(self.directory))} bytes)",
                "set a shorter run directory (engine.run_dir), such as /run/pareta",
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        self.tmp.mkdir(mode=0o700, exist_ok=True)
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        turn_over(self.log)

    def sweep(self, segments: Iterable[str] = ()) -> None:
        """Removes the socket, the temporary files and the given segments of /dev/shm; idempotent."""
        for segment in segments:
            with contextlib.suppress(OSError):
                (_SHM / Path(segment).name).unlink()
        shutil.rmtree(self.directory, ignore_errors=True)


def run_dir_of(settings: EngineSettings, endpoint: str, index: int, generation: int) -> RunDir:
    """The run directory of that generation; depends on the arguments alone."""
    short = hashlib.sha256(endpoint.encode()).hexdigest()[:6]
    return RunDir(
        name=f"{endpoint}/{index}",
        generation=generation,
        directory=settings.run_dir / f"{short}.{index}.{generation}",
        log=settings.log_dir / f"{endpoint}-{index}.log",
        log_max_bytes=settings.log_max_bytes,
        marker=f"{settings.home_id}/{endpoint}/{index}/{generation}",
    )
