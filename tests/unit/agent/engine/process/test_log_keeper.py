"""What is left of a log that is cut, and when."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pareta_agent.engine.process import log_keeper
from pareta_agent.engine.process.log_keeper import LOW_DISK_BYTES, LOW_DISK_LOG_BYTES, bounded, limit_bytes
from pareta_agent.engine.process.log_tail import LogTail

LIMIT = 4096


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "log", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %06d\n" % number for number in range(first, last))


def test_a_log_within_its_limit_is_left_alone(log: int) -> None:
    os.write(log, lines(0, 300))
    assert bounded(log, LIMIT) == 300 * 12
    assert os.pread(log, LIMIT, 0) == lines(0, 300)


def test_what_is_cut_is_the_middle(log: int) -> None:
    """A quarter from each end, whole lines, and how many bytes went."""
    os.write(log, lines(0, 1000))
    size = bounded(log, LIMIT)
    text = os.pread(log, LIMIT, 0)
    head, note, tail = text.partition(log_keeper.NOTE % (12000 - 85 * 12 - 85 * 12))
    assert (head, tail) == (lines(0, 85), lines(915, 1000))
    assert (bool(note), size) == (True, len(text))


def test_cut_again_the_beginning_is_the_same(log: int) -> None:
    """However often."""
    for turn in range(20):
        os.write(log, lines(1000 * turn, 1000 * (turn + 1)))
        assert bounded(log, LIMIT) <= LIMIT
    text = os.pread(log, LIMIT, 0)
    assert text.startswith(lines(0, 85))
    assert text.endswith(lines(19_920, 20_000))


def test_a_log_without_lines_is_bounded_too(log: int) -> None:
    os.write(log, 100_000 * b"x")
    assert bounded(log, LIMIT) <= LIMIT


def test_on_a_full_disk_logs_give_way() -> None:
    """Before the spool's own reserve is touched."""
    assert limit_bytes(1 << 24, LOW_DISK_BYTES) == 1 << 24
    assert limit_bytes(1 << 24, LOW_DISK_BYTES - 1) == LOW_DISK_LOG_BYTES
    assert limit_bytes(1 << 10, LOW_DISK_BYTES - 1) == 1 << 10


def test_a_reader_whose_file_was_cut_goes_on_with_its_end(log: int, tmp_path: Path) -> None:
    """What it read before was dropped; the last lines are there."""
    tail = LogTail(tmp_path / "log")
    os.write(log, lines(0, 1000))
    assert len(tail.read()) == 1000
    bounded(log, LIMIT)
    os.write(log, b"the end\n")
    assert tail.read()[-2:] == ["line 000999", "the end"]
    assert tail.last[-1] == "the end"
