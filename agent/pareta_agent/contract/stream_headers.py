"""Stream headers: forbid proxies to collect a stream before they pass it on, as nginx does by default."""

from typing import Final

UNBUFFERED: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
