"""Frames on a socket pair: their bytes, half a message, and descriptors that nobody takes."""

from __future__ import annotations

import os
import socket

import pytest

from pareta_agent.ipc.frames import FramedSocket, encode_frame


def test_a_frame_is_length_descriptors_and_json() -> None:
    """Both ends may be of two releases."""
    assert encode_frame(["take", None], 2) == b'\x00\x00\x00\x0d\x02["take",null]'
    assert encode_frame(["x", frozenset(("b", "a"))]) == b'\x00\x00\x00\x0f\x00["x",["a","b"]]'


def test_half_a_message_waits_for_its_other_half() -> None:
    """A whole message before it is there at once."""
    raw, ours = socket.socketpair()
    with raw:
        frames = FramedSocket(ours)
        data = encode_frame(["first"]) + encode_frame(["second"])
        raw.send(data[:-3])
        assert frames.fill()
        assert (frames.next_payload(), frames.next_payload()) == ((["first"], 0), None)
        with pytest.raises(BlockingIOError):
            frames.fill()
        raw.send(data[-3:])
        assert frames.fill()
        assert frames.next_payload() == (["second"], 0)
        raw.shutdown(socket.SHUT_WR)
        assert not frames.fill()
        frames.close()


def test_a_descriptor_that_nobody_takes_ends_with_the_socket() -> None:
    """One that was received and one that was not sent yet: the pipe's other end sees its end."""
    one, other = (FramedSocket(each) for each in socket.socketpair())
    ends = [os.pipe(), os.pipe()]
    one.queue(encode_frame(["sent"], 1), [ends[0][1]])
    assert one.flush()
    assert not one.pending
    assert other.fill()
    one.queue(encode_frame(["queued"], 1), [ends[1][1]])
    one.close()
    other.close()
    for reading, _ in ends:
        assert os.read(reading, 1) == b""
        os.close(reading)


def test_a_write_to_a_socket_without_a_reader_drops_one_entry() -> None:
    """Its descriptor is closed; the caller decides about the rest."""
    one, other = (FramedSocket(each) for each in socket.socketpair())
    other.close()
    reading, writing = os.pipe()
    one.queue(encode_frame(["late"], 1), [writing])
    one.queue(encode_frame(["later"]))
    with pytest.raises(BrokenPipeError):
        one.flush()
    assert one.pending
    assert os.read(reading, 1) == b""
    os.close(reading)
    one.close()
