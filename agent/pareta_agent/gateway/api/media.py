"""Media: detects references to remote media, which the node never fetches, and measures inline media. Pure."""

from __future__ import annotations

from typing import Any, Final

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api.multipart import Upload

_MEDIA: Final = ("image_url", "audio_url", "video_url", "file_url")
_INNER: Final = ("content", "output")


def points_away(content: Any) -> bool:
    """True if a message, a document, a part or a list refers to media outside itself."""
    if isinstance(content, list):
        return any(map(points_away, content))
    if not isinstance(content, dict):
        return False
    source = content.get("source")
    if isinstance(source, dict) and source.get("type") == "url" and _is_remote(source.get("url")):
        return True
    return any(_is_remote(content[key]) for key in _MEDIA if key in content) or any(
        points_away(content[key]) for key in _INNER if key in content
    )


def _is_remote(media: Any) -> bool:
    url = media.get("url") if isinstance(media, dict) else media
    return isinstance(url, str) and not url.startswith("data:")


def too_much_text(limit: int) -> Problem:
    return Problem("body_too_large", f"The request body has more than {limit} bytes beside its media.")


def media_bytes(fields: dict[str, Any]) -> int:
    """The bytes of media in a body: `data:` URLs, and the `data` of audio parts. The parser bounds the depth."""
    found, level = 0, [fields]
    while level:
        inner: list[Any] = []
        for outer in level:
            for key, value in outer.items() if isinstance(outer, dict) else enumerate(outer):
                if isinstance(value, dict | list):
                    inner.append(value)
                elif isinstance(value, Upload):
                    found += len(value.content)
                elif isinstance(value, str) and (key == "data" or value.startswith("data:")):
                    found += len(value)
        level = inner
    return found
