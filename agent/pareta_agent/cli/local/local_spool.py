"""Local spool: opens the node's spool for commands, while its agent runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pareta_agent.errors import HostError
from pareta_agent.meter.reader import SpoolReader
from pareta_agent.meter.sqlite_store import StoreError


@contextmanager
def open_spool(path: Path) -> Iterator[SpoolReader]:
    """The spool's reader. Raises HostError for a damaged file."""
    try:
        with closing(SpoolReader(path)) as reader:
            yield reader
    except StoreError as error:
        raise HostError(
            "spool_unreadable",
            f"the spool {path} cannot be read: {error}",
            "start the node: the agent moves a damaged spool aside and delivers its readable records",
        ) from None
