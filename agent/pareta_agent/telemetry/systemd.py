"""The two words that systemd wants to hear from a Type=notify service; silence anywhere else."""

from __future__ import annotations

import socket


def notify(address: str | None, *lines: str) -> None:
    """Send `lines` (`READY=1`, `WATCHDOG=1`, `STATUS=…`) to the socket that systemd named in NOTIFY_SOCKET."""
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto("\n".join(lines).encode(), target)
