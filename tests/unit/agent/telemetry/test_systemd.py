"""sd_notify: what systemd is told, over the socket that it named."""

import socket

import pytest

from pareta_agent.telemetry.systemd import Notifier


def test_lines_arrive_as_one_datagram(tmp_path):
    """systemd reads one message of newline-separated assignments."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        Notifier(str(tmp_path / "notify"))("READY=1", "STATUS=live")
        assert server.recv(1024) == b"READY=1\nSTATUS=live"


def test_an_abstract_address_is_understood():
    """systemd may name a socket without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0pareta-notify-test")
        Notifier("@pareta-notify-test")("WATCHDOG=1")
        assert server.recv(1024) == b"WATCHDOG=1"


def test_outside_systemd_nothing_is_said():
    """No address, no effect, no error."""
    notify = Notifier(None)
    notify("READY=1")
    assert (notify.failures, notify.waiting_bytes) == (0, 0)


def test_what_could_not_be_sent_goes_with_the_next_word(tmp_path):
    """A socket that is away, or full, is counted; of two values of one name the newer is sent."""
    notify = Notifier(str(tmp_path / "notify"))
    notify("READY=1", "STATUS=starting")
    assert (notify.failures, notify.waiting_bytes > 0) == (1, True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        while notify.failures == 1:
            notify("WATCHDOG=1")  # until the socket's queue is full: a blocking one would wait here for ever
        assert server.recv(1024) == b"READY=1\nSTATUS=starting\nWATCHDOG=1"
        notify("STATUS=live")
        while (told := server.recv(1024)) == b"WATCHDOG=1":
            continue
        assert told == b"WATCHDOG=1\nSTATUS=live"
    assert notify.waiting_bytes == 0


def test_another_process_speaks_after_leaving(tmp_path):
    """The successor owns the service's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.setblocking(False)
        notify = Notifier(str(tmp_path / "notify"))
        notify.leave()
        notify("WATCHDOG=1")
        with pytest.raises(BlockingIOError):
            server.recv(1024)
