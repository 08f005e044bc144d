"""Multipart forms: read strictly, built anew."""

import email

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pareta_agent.gateway.api import multipart
from pareta_agent.gateway.api.multipart import Upload


def body(**fields) -> bytes:
    """A form as an SDK sends it."""
    files = {name: value for name, value in fields.items() if isinstance(value, tuple)}
    data = {name: value for name, value in fields.items() if name not in files}
    return httpx.Request("POST", "http://x", data=data, files=files or None).read()


WAV = ("talk.WAV", b"RIFF\r\n--x\r\n\x00\xff", "audio/wav")


def test_what_an_sdk_sends_is_read():
    """Texts as texts, the file with its bytes and its kind, a repeated name as a list."""
    read = multipart.read(
        body(file=WAV, model="ep_x", language="é", **{"timestamp_granularities[]": ["word", "segment"]})
    )
    assert read == {
        "model": "ep_x",
        "language": "é",
        "timestamp_granularities[]": ["word", "segment"],
        "file": Upload(".wav", WAV[1]),
    }


GOOD = b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"--",
        b"{}",
        GOOD[:-4],
        GOOD[:-6] + b"\r\n",
        GOOD.replace(b"--b\r\n", b"--b\n", 1),
        GOOD.replace(b"form-data; ", b"attachment; "),
        GOOD.replace(b'name="a"', b'name="a'),
        GOOD.replace(b'name="a"', b'name="' + b"a" * 65 + b'"'),
        GOOD.replace(b"\r\n\r\n1", b"\r\nx: " + b"y" * 3000 + b"\r\n\r\n1"),
        GOOD.replace(b"1\r\n", b"\xff\r\n"),
        GOOD[:-4] + b"\r\n" + GOOD[5:],
        GOOD[:-4] + b"tail--\r\n",
        b"".join(GOOD[:-4].replace(b'"a"', b'"%d"' % i) + b"\r\n" for i in range(40)) + b"--b--",
    ],
)
def test_what_is_no_sound_form_is_none(bad):
    """Another framing, a name said twice, parts or heads beyond their limits, text that is none."""
    assert multipart.read(bad) is None
    assert multipart.read(GOOD) == {"a": "1"}


def test_a_built_form_is_read_by_another_parser():
    """Ours has one part a value, our boundary, and nothing of the caller's names."""
    built = multipart.build({"model": "ep_x", "n[]": ["a", "b"], "file": Upload(".wav", WAV[1])})
    message = email.message_from_bytes(f"content-type: {multipart.CONTENT_TYPE}\r\n\r\n".encode() + built)
    parts = [(part.get_param("name", header="content-disposition"), part) for part in message.get_payload()]
    assert [name for name, _ in parts] == ["model", "n[]", "n[]", "file"]
    assert parts[-1][1].get_filename() == "audio.wav"
    assert multipart.read(built) == {"model": "ep_x", "n[]": ["a", "b"], "file": Upload(".wav", WAV[1])}


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda data: GOOD[:30] + data + GOOD[30:]))
def test_no_bytes_raise(data):
    """A form, or None."""
    assert multipart.read(data) is None or isinstance(multipart.read(data), dict)


@given(st.binary(max_size=200), st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_what_was_built_is_read_as_it_was(content, text):
    """Whatever bytes a file or a text has."""
    fields = {"prompt": text, "file": Upload("", content)}
    assert multipart.read(multipart.build(fields)) == fields
