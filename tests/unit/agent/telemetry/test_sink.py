"""Log sinks: what they take is never waited for, and no failure of theirs is raised."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.telemetry.sink import LogSink
from pareta_agent.telemetry.sink_counts import SinkCounts


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_text_arrives_in_order(pipe):
    """And `settle` returns once all of it is out."""
    sink = LogSink(pipe[1])
    for number in range(100):
        sink.write(f"{number}\n")
    assert sink.settle(60)
    assert os.read(pipe[0], 4096).decode() == "".join(f"{number}\n" for number in range(100))
    assert (sink.waiting_bytes, sink.failures, sink.dropped_lines) == (0, 0, 0)


def test_a_full_pipe_holds_nobody_up_and_costs_the_oldest_lines(pipe):
    """Once somebody reads, whole lines come: those under way, and the newest."""
    sink = LogSink(pipe[1], room_bytes=1000)
    line = "x" * 99 + "\n"
    for _ in range(2000):
        sink.write(line)
    sink.write("the last\n")
    assert sink.dropped_lines > 0
    assert 0 < sink.waiting_bytes < 2000
    text = b""
    while not text.endswith(b"the last\n"):
        text += os.read(pipe[0], 65536)
    assert sink.settle(60)
    assert set(text.decode().splitlines()) == {"x" * 99, "the last"}
    assert text.count(b"\n") + sink.dropped_lines == 2001


def test_a_sink_whose_reader_left_counts_and_keeps_the_text(pipe):
    """No exception, and the line goes out when the descriptor takes it again."""
    os.close(pipe[0])
    sink = LogSink(pipe[1])
    sink.write("a line\n")
    while not sink.failures:
        assert not sink.settle(0.05)
    reader, writer = os.pipe()
    os.dup2(writer, pipe[1])  # a log shipper that was restarted
    assert sink.settle(60)
    assert os.read(reader, 100) == b"a line\n"
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("text", ["→ é ✓", "\U0001f600", "a\udc80b"])
def test_what_an_encoding_lacks_is_escaped_as_in_json(pipe, encoding, text):
    """A JSON line says the same in every encoding."""
    sink = LogSink(pipe[1], encoding)
    sink.write(json.dumps(text, ensure_ascii=False))
    assert sink.settle(60)
    assert json.loads(os.read(pipe[0], 100).decode(encoding)) == text


def test_what_sinks_count_is_in_the_metrics():
    """Counters grow by the difference, the gauge is what waits now."""
    sink = LogSink(os.open("/dev/full", os.O_WRONLY))
    metrics = Metrics()
    counts = SinkCounts(metrics, [sink])
    sink.write("four")
    while not sink.failures:
        sink.settle(0.05)
    for _ in range(2):
        counts.count()
    text = metrics.render().decode()
    assert f'pareta_sink_waiting_bytes{{sink="{sink.name}"}} 4.0' in text
    (failures,) = [line for line in text.splitlines() if line.startswith("pareta_sink_errors_total{")]
    assert 1 <= float(failures.split()[-1]) <= sink.failures
