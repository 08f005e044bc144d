"""Chunk framing: strict, split anywhere, and the ways past it."""

import pytest

from pareta_agent.gateway.upstream.chunked import BadFraming, ChunkReader, chunk, template_of, whole_events

EVENT = b'data: {"choices":[{"delta":{"content":"word"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (chunk(EVENT), 1),
        (chunk(EVENT) * 3, 3),
        (b"", 0),
        (chunk(EVENT)[:-1], 0),
        (chunk(EVENT) + b"4\r\n", 0),
        (chunk(EVENT) + b"0\r\n\r\n", 0),
        (b"0\r\n\r\n", 0),
        (chunk(b"data: half"), 0),
        (b"+5\r\nabc\n\n\r\n", 0),
        (b"0x5\r\nabc\n\n\r\n", 0),
        (b"1_0\r\n" + b"a" * 14 + b"\n\n\r\n", 0),
        (b" 5\r\nabc\n\n\r\n", 0),
        (b"5;x=1\r\nabc\n\n\r\n", 0),
        (b"\r\nabc\n\n\r\n", 0),
        (b"6\r\nabc\n\n\r\n", 0),
        (b"1\r\n\n\r\n", 0),
    ],
)
def test_only_whole_chunks_that_end_events_count(data, count):
    """Anything half, foreign or last takes the careful way."""
    assert whole_events(data) == count


@pytest.mark.parametrize("sizes", [(0x85, 0x88), (0x88, 0x85), (0x85, 0x5), (0xFF0, 0xFFF), (0x9, 0x95)])
def test_a_run_that_is_cut_anywhere_is_whole_only_between_chunks(sizes):
    """Also within a size line, whose digits then say where nothing is."""
    chunks = [chunk(b"data:" + b"x" * (size - 7) + b"\n\n" if size > 6 else b"abc\n\n") for size in sizes]
    run, first = b"".join(chunks), len(chunks[0])
    whole = {0: 0, first: 1, len(run): 2}
    for end in range(len(run) + 1):
        assert whole_events(run[:end]) == whole.get(end, 0)
        reader = ChunkReader()
        payload = reader.feed(run[:end]) + reader.feed(run[end:])
        assert payload == b"".join(each[each.index(b"\n") + 1 : -2] for each in chunks)


@pytest.mark.parametrize(
    "data",
    [
        b"z\r\n",
        b"\r\n",
        b"5\n",
        b"-1\r\n",
        b"5\r\nabcdeX\r\n",
        b"5\r\nabcde\n",
        b"0\r\nx: y\r\n\r\n",
        b"0\r\n\r\nmore",
        b"1" * 80,
    ],
)
def test_broken_framing_is_refused(data):
    """Nothing is guessed."""
    with pytest.raises(BadFraming):
        ChunkReader().feed(data)


def test_a_template_fits_other_words_of_the_same_stream_only():
    """Another word fits; a quote in it, a finish reason or another skeleton does not."""
    template = template_of(EVENT)
    assert template is not None
    fits = [
        template.fits(chunk(EVENT.replace(b"word", word))) for word in (b"", b"x", b"\xc3\xa9 \\n", b'\\"')
    ]
    assert fits == [1, 1, 1, 0]
    assert template.fits(chunk(EVENT) * 4) == 4
    assert template.fits(chunk(EVENT.replace(b"null", b'"stop"'))) == 0
    assert template.fits(chunk(EVENT) + b"0\r\n\r\n") == 0
    assert template.fits(chunk(EVENT)[:-1]) == 0
    assert template.fits(chunk(EVENT.replace(b'"word"', b'"'))) == 0


@pytest.mark.parametrize(
    "data",
    [
        chunk(EVENT.replace(b"word", b"pair")),
        chunk(EVENT.replace(b"word", b'a"b:')),
        chunk(EVENT.replace(b"null", b"true")),
        chunk(EVENT.replace(b"data", b"date")),
        chunk(EVENT).replace(b"\r\n", b"\n\r", 1),
        b"0" + chunk(EVENT)[1:],
        chunk(EVENT)[:-1] + b"x",
        chunk(EVENT[:-10]) + b"5\r\nfalse\r\n",
    ],
)
def test_a_template_judges_a_length_it_has_seen_as_it_did_the_first_time(data):
    """What it remembers of a length is a short cut to the same answer."""
    fresh, used = template_of(EVENT), template_of(EVENT)
    assert fresh is not None
    assert used is not None
    assert (used.fits(chunk(EVENT)), len(data)) == (1, len(chunk(EVENT)))
    assert used.fits(data) == fresh.fits(data)


@pytest.mark.parametrize(
    "event", [b"data: {}\n\n", b": ping\n\n", EVENT[:-1], EVENT.replace(b"word", b'a\\"b')]
)
def test_an_event_without_plain_words_is_no_template(event):
    """Then every chunk is searched instead."""
    assert template_of(event) is None
