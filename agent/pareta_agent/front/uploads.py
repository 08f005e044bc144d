"""Bodies on their way in: how large one may become, and all of them together.

Text has a limit of its own; a larger body must carry media, which is looked for once it grows past that.
"""

from __future__ import annotations

from typing import Final

from pareta_agent.front.deps import GatewaySettings
from pareta_agent.front.envelope import Problem
from pareta_agent.front.media import too_much_text

UNCOUNTED_BYTES: Final = 16 * 2**10
_MEDIA: Final = b'"data'  # how a data: URL and a part of audio begin


class InboundBodyBudget:
    """What is here of each body that has not arrived whole; small ones are not counted."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._sizes: dict[object, int] = {}
        self._bytes = 0

    def grew(self, upload: object, body: bytearray, media: bool, form: bool = False) -> Problem | None:
        """Notes that a body has grown; the problem with it, if that is too much. A form is mostly its file."""
        before, size, limit = self._sizes.get(upload, 0), len(body), self._settings.max_body_bytes
        if size > self._settings.most_body_bytes(media):
            return Problem("body_too_large")
        if size > limit >= before and not form and _MEDIA not in body:
            return too_much_text(limit)
        if size > UNCOUNTED_BYTES:
            self._bytes += size - before
            self._sizes[upload] = size
        return Problem("too_many_requests") if self._bytes > self._settings.max_uploads_bytes else None

    def ended(self, upload: object) -> None:
        self._bytes -= self._sizes.pop(upload, 0)
