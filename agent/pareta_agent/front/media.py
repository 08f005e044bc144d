"""Whether what a caller says points to media elsewhere: the node fetches nothing for anybody. Pure."""

from __future__ import annotations

from typing import Any, Final

_MEDIA: Final = ("image_url", "audio_url", "video_url", "file_url")
_INNER: Final = ("content", "output")


def points_away(said: Any) -> bool:
    """Whether a message, a document, a part of one or a list of them points anywhere but into itself."""
    if isinstance(said, list):
        return any(map(points_away, said))
    if not isinstance(said, dict):
        return False
    source = said.get("source")
    if isinstance(source, dict) and source.get("type") == "url" and _is_remote(source.get("url")):
        return True
    return any(_is_remote(said[key]) for key in _MEDIA if key in said) or any(
        points_away(said[key]) for key in _INNER if key in said
    )


def _is_remote(media: Any) -> bool:
    url = media.get("url") if isinstance(media, dict) else media
    return isinstance(url, str) and not url.startswith("data:")
