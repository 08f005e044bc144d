"""Safetensors: reads and writes a safetensors file by its header alone; tensors are streamed, never stored.

Format: a little-endian u64 header length, a JSON header (name -> dtype, shape, data_offsets), then the data.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from pareta_registry.documents.canonical import unique
from pareta_registry.errors import ArtifactError, unreadable

DTYPE_BITS: Mapping[str, int] = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8,
    "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
MAX_HEADER_BYTES = 100 << 20


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """`begin` and `end` are byte offsets from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


def write_header(out: BinaryIO, shapes: Sequence[tuple[str, tuple[int, ...]]], dtype: str) -> int:
    """Writes a header for tensors of one dtype in the given order; returns the count of data bytes that must follow."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes:
        end = offset + prod(shape) * DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    out.write(struct.pack("<Q", len(text)) + text)
    return offset


def read_header(path: Path) -> tuple[TensorInfo, ...]:
    """The tensors of a file in data order; ArtifactError if header and length differ."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise _broken(path, "the header is truncated")
            text = file.read(length)
    except OSError as error:
        raise unreadable(str(path), error) from error
    try:
        tensors = tuple(sorted(_tensors(text), key=lambda tensor: (tensor.begin, tensor.end)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _broken(path, "the header is invalid") from None
    if (reason := _disagreement(tensors, size - 8 - length)) is not None:
        raise _broken(path, reason)
    return tensors


def _disagreement(tensors: Sequence[TensorInfo], data_bytes: int) -> str | None:
    """Checks that tensors lie without gaps; a tensor without elements takes no bytes."""
    offset = 0
    for tensor in tensors:
        if tensor.dtype not in DTYPE_BITS:
            return f"tensor {tensor.name!r} has the unknown dtype {tensor.dtype!r}"
        if (
            tensor.begin != offset
            or (tensor.end - tensor.begin) * 8 != tensor.elements * DTYPE_BITS[tensor.dtype]
        ):
            return f"tensor {tensor.name!r} has the wrong length"
        offset = tensor.end
    return None if offset == data_bytes else "the length differs from the header's"


def _tensors(text: bytes) -> Iterator[TensorInfo]:
    """Raises ValueError or a related error for an invalid header."""
    header = json.loads(text, object_pairs_hook=unique)
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        sizes = (begin, end, *entry["shape"])
        if not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError(name)
        yield TensorInfo(name, str(entry["dtype"]), tuple(entry["shape"]), begin, end)


def _broken(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        "safetensors_invalid", f"{path.name} is no safetensors file: {reason}", "export the checkpoint again"
    )
