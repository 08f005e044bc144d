"""Ports for programs that have to be told one: from below those that the kernel hands out by itself, to listeners and
to every outgoing connection, so that nobody has taken it by the time the program binds it, or binds it again."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOWEST = 10_000


def free_port() -> int:
    handed_out = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(LOWEST, max(handed_out, 2 * LOWEST))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
