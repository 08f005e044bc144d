"""The safetensors container, read and written by its header alone: tensors stream through, none is kept.

Format: a little-endian u64 header length, a JSON header (name -> dtype, shape, data_offsets), then the data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from pareta_registry.errors import ArtifactError

DTYPE_BITS: Mapping[str, int] = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4,
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
    """Writes a header for tensors of one dtype in the given order; returns the data bytes that must follow."""
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
    """The tensors of a file in data order; ArtifactError when header and length do not agree."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            raise _broken(path, "its header is cut short")
        text = file.read(length)
    try:
        tensors = sorted(_tensors(json.loads(text)), key=lambda tensor: tensor.begin)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _broken(path, "its header is not valid") from None
    offset = 0
    for tensor in tensors:
        if tensor.begin != offset or (tensor.end - tensor.begin) * 8 != _bits(tensor):
            raise _broken(path, f"tensor {tensor.name!r} has the wrong length")
        offset = tensor.end
    if 8 + length + offset != size:
        raise _broken(path, "its length is not what the header says")
    return tuple(tensors)


def _tensors(header: dict[str, dict[str, list[int] | str]]) -> list[TensorInfo]:
    tensors = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (int(offset) for offset in entry["data_offsets"])
        shape = tuple(int(size) for size in entry["shape"])
        tensors.append(TensorInfo(name, str(entry["dtype"]), shape, begin, end))
    return tensors


def _bits(tensor: TensorInfo) -> int:
    return tensor.elements * DTYPE_BITS[tensor.dtype] if tensor.dtype in DTYPE_BITS else -1


def _broken(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        "safetensors_invalid", f"{path.name} is no safetensors file: {reason}", "export the checkpoint again"
    )
