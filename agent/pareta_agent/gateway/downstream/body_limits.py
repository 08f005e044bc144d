"""Body limits: bound the size of each inbound body, and of all bodies together.

Text has a separate limit. A body above that limit must contain media, which is checked once the body grows past the
limit.
"""

from __future__ import annotations

from typing import Final

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api.media import too_much_text
from pareta_agent.gateway.settings import GatewaySettings

UNCOUNTED_BYTES: Final = 16 * 2**10
_MEDIA: Final = b'"data'  # how a data: URL and a part of audio begin


class InboundBodyBudget:
    """The bytes of each incomplete body; small bodies are not counted."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._sizes: dict[object, int] = {}
        self._bytes = 0

    def grew(self, upload: object, body: bytearray, media: bool, form: bool = False) -> Problem | None:
        """Counts a body's growth; returns the problem if a limit is exceeded. A form is mostly a file."""
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
