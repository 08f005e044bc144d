"""Service notifier: sends `READY=1`, `WATCHDOG=1` and `STATUS=…` to systemd, if systemd provides a socket."""

from __future__ import annotations

import socket


class Notifier:
    """Never waits and never raises. A line that cannot be sent is counted in `failures` and sent with the next line."""

    def __init__(self, address: str | None) -> None:
        """`address` is NOTIFY_SOCKET; `@` begins the name of an abstract socket."""
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._unsent: dict[str, str] = {}
        self.name, self.failures, self.dropped_lines = "systemd", 0, 0

    @property
    def waiting_bytes(self) -> int:
        return sum(len(line) for line in self._unsent.values())

    def __call__(self, *lines: str) -> None:
        if not self._address:
            return
        self._unsent |= {line.partition("=")[0]: line for line in lines}
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            ) as sock:
                sock.sendto("\n".join(self._unsent.values()).encode(), self._address)
        except OSError:
            self.failures += 1
            return
        self._unsent.clear()

    def leave(self) -> None:
        """Stops notifications: from now on another process notifies systemd for the service."""
        self._address = None
