"""sd_notify: what systemd is told, over the socket that it named."""

import socket

from pareta_agent.telemetry.systemd import notify


def test_lines_arrive_as_one_datagram(tmp_path):
    """systemd reads one message of newline-separated assignments."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        notify(str(tmp_path / "notify"), "READY=1", "STATUS=live")
        assert server.recv(1024) == b"READY=1\nSTATUS=live"


def test_an_abstract_address_is_understood():
    """systemd may name a socket without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0pareta-notify-test")
        notify("@pareta-notify-test", "WATCHDOG=1")
        assert server.recv(1024) == b"WATCHDOG=1"


def test_outside_systemd_nothing_is_said():
    """No address, no effect, no error."""
    notify(None, "READY=1")
