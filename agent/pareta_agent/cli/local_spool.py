"""The node's spool, for the commands that read it beside its agent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pareta_agent.errors import HostError
from pareta_agent.meter.reader import SpoolReader
from pareta_agent.meter.store import StoreError


@contextmanager
def open_spool(path: Path) -> Iterator[SpoolReader]:
    """Raises HostError for a file that is damaged."""
    try:
        with closing(SpoolReader(path)) as reader:
            yield reader
    except StoreError as error:
        raise HostError(
            "spool_unreadable",
            f"the spool {path} cannot be read: {error}",
            "start the node: it puts a damaged spool aside and sends what can be read of it",
        ) from None
