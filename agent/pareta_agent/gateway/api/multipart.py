"""Multipart forms: read a transcription's upload strictly and build a new form for the engine. Pure.

A part that is neither a form field nor a file is refused; none of the caller's framing reaches the engine.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

# Random, so no caller can put the boundary into a file.
_BOUNDARY: Final = secrets.token_hex(24).encode()
CONTENT_TYPE: Final = f"multipart/form-data; boundary={_BOUNDARY.decode()}"
MAX_PARTS: Final = 32
MAX_PART_HEAD_BYTES: Final = 2048
_OPENING: Final = re.compile(rb"--([0-9A-Za-z'()+_,./:=?-]{1,70})\r\n")
_DISPOSITION: Final = re.compile(
    rb'(?:^|\r\n)content-disposition: *form-data; *name="([^"\r\n]{1,64})"(?:; *filename="([^"\r\n]*)")?',
    re.IGNORECASE,
)
_ENDING: Final = re.compile(r"\.(flac|m4a|mp3|mp4|mpeg|mpga|oga|ogg|wav|webm)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a form. `ending` is the known file name extension, with the dot; empty for any other."""

    ending: str
    content: bytes


def read(body: bytes) -> dict[str, Any] | None:
    """The fields of a form: texts, uploads, and lists for names that end in `[]`; None for an invalid form."""
    opening = _OPENING.match(body)
    if opening is None:
        return None
    parts = (b"\r\n" + body).split(b"\r\n--" + opening.group(1))
    if len(parts) > MAX_PARTS + 2 or parts[-1].rstrip(b"\r\n") != b"--":
        return None
    fields: dict[str, Any] = {}
    for part in parts[1:-1]:
        if not _take(fields, part):
            return None
    return fields


def build(fields: dict[str, Any]) -> bytes:
    """A form of the given fields: texts, numbers, uploads and lists."""
    parts = []
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            head = f'content-disposition: form-data; name="{name}"'
            if isinstance(one, Upload):
                head += f'; filename="audio{one.ending}"\r\ncontent-type: application/octet-stream'
            content = one.content if isinstance(one, Upload) else str(one).encode()
            parts.append(b"--%b\r\n%b\r\n\r\n%b\r\n" % (_BOUNDARY, head.encode(), content))
    return b"".join([*parts, b"--%b--\r\n" % _BOUNDARY])


def _take(fields: dict[str, Any], part: bytes) -> bool:
    """Adds a part; False if the part is invalid or repeats a name."""
    head, found, content = part.partition(b"\r\n\r\n")
    disposition = _DISPOSITION.search(head) if found and len(head) <= MAX_PART_HEAD_BYTES else None
    if disposition is None or not part.startswith(b"\r\n"):
        return False
    try:
        name = disposition.group(1).decode()
        value: Any = content.decode() if disposition.group(2) is None else None
    except UnicodeDecodeError:
        return False
    if disposition.group(2) is not None:
        ending = _ENDING.search(disposition.group(2).decode("latin-1"))
        value = Upload(ending.group(0).lower() if ending else "", content)
    if name.endswith("[]"):
        fields.setdefault(name, []).append(value)
        return True
    again = name in fields
    fields[name] = value
    return not again
