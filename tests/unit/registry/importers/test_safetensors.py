"""Headers of safetensors files: what the format's own library reads is read, what it refuses is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, deserialize

from pareta_registry.errors import ArtifactError
from pareta_registry.importers.safetensors import DTYPE_BITS, read_header


def file(header: Any, data_bytes: int = 8, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data_bytes)


def tensor(begin: int, end: int, shape: list[Any], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def theirs(data: bytes) -> set[str] | None:
    try:
        return {name for name, _ in deserialize(data)}
    except SafetensorError:
        return None


def ours(path: Path, data: bytes) -> set[str] | None:
    path.write_bytes(data)
    try:
        return {found.name for found in read_header(path)}
    except ArtifactError:
        return None


BROKEN = {
    "nothing": b"",
    "seven bytes": b"\x01" * 7,
    "a huge length": b"\xff" * 8,
    "a length beyond the file": file({"a": tensor(0, 8, [2])}, length=10_000),
    "no JSON": file(b"not json"),
    "an overlong file": file({}, 1),
    "a list": file([]),
    "a cut header": file({"a": tensor(0, 8, [2])}, length=12),
    "cut data": file({"a": tensor(0, 8, [2])}, 4),
    "more data than tensors": file({"a": tensor(0, 8, [2])}, 12),
    "an overlap": file({"a": tensor(0, 8, [2]), "b": tensor(4, 8, [1])}),
    "the same bytes twice": file({"a": tensor(0, 8, [2]), "b": tensor(0, 8, [2])}),
    "a gap": file({"a": tensor(0, 4, [1]), "b": tensor(8, 12, [1])}, 12),
    "bytes before the first": file({"a": tensor(4, 8, [1])}),
    "offsets the wrong way round": file({"a": tensor(8, 0, [2])}),
    "a shape that is too large": file({"a": tensor(0, 8, [3])}),
    "a shape that is too small": file({"a": tensor(0, 8, [1])}),
    "a negative shape": file({"a": tensor(0, 8, [-1, -2])}),
    "a fraction as a shape": file({"a": tensor(0, 8, [2.5])}),
    "a text as a shape": file({"a": tensor(0, 8, ["2"])}),
    "a truth as a shape": file({"a": tensor(0, 4, [True])}, 4),
    "an unknown dtype": file({"a": tensor(0, 8, [2], "Q4_K")}),
    "a lower case dtype": file({"a": tensor(0, 8, [2], "f32")}),
    "three offsets": file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}),
    "no offsets": file({"a": {"dtype": "F32", "shape": [2]}}),
    "a tensor that is none": file({"a": 7}),
    "half a byte": file({"a": tensor(0, 1, [1], "F4")}, 1),
    "too deep": file(b"[" * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("damage", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, damage: str) -> None:
    """One error that names the file, whatever is wrong; the format's own library agrees."""
    assert theirs(BROKEN[damage]) is None
    (tmp_path / "model.safetensors").write_bytes(BROKEN[damage])
    with pytest.raises(ArtifactError, match=r"model\.safetensors") as caught:
        read_header(tmp_path / "model.safetensors")
    assert caught.value.code == "safetensors_invalid"


WHOLE = {
    "no tensors": file({}, 0),
    "metadata alone": file({"__metadata__": {"format": "pt"}}, 0),
    "a scalar": file({"a": tensor(0, 4, [])}, 4),
    "nothing first": file({"z": tensor(0, 0, [0]), "a": tensor(0, 8, [2])}),
    "nothing in front, listed later": file({"a": tensor(0, 8, [2]), "z": tensor(0, 0, [0, 5])}),
    "nothing behind": file({"a": tensor(0, 8, [2]), "z": tensor(8, 8, [0])}),
    "in another order": file({"b": tensor(4, 8, [1]), "a": tensor(0, 4, [1])}),
    "blanks behind the header": file(json.dumps({"a": tensor(0, 8, [2])}).encode() + b"   "),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_read(tmp_path: Path, name: str) -> None:
    """Tensors without elements take no bytes, wherever they stand."""
    assert ours(tmp_path / "model.safetensors", WHOLE[name]) == theirs(WHOLE[name]) is not None


@pytest.mark.parametrize("dtype", DTYPE_BITS)
def test_every_dtype_has_its_width(tmp_path: Path, dtype: str) -> None:
    """Eight of each fill whole bytes, and only the right number of them."""
    good = file({"a": tensor(0, DTYPE_BITS[dtype], [8], dtype)}, DTYPE_BITS[dtype])
    assert ours(tmp_path / "x.safetensors", good) == theirs(good) == {"a"}
    bad = file({"a": tensor(0, DTYPE_BITS[dtype] + 1, [8], dtype)}, DTYPE_BITS[dtype] + 1)
    assert ours(tmp_path / "x.safetensors", bad) is theirs(bad) is None


def test_an_unknown_dtype_is_named(tmp_path: Path) -> None:
    """Newer formats come; the message says what is not known here."""
    (tmp_path / "x.safetensors").write_bytes(BROKEN["an unknown dtype"])
    with pytest.raises(ArtifactError, match="unknown dtype 'Q4_K'"):
        read_header(tmp_path / "x.safetensors")


def test_a_missing_file_is_located(tmp_path: Path) -> None:
    """Its path is named."""
    with pytest.raises(ArtifactError, match=r"gone\.safetensors cannot be read") as caught:
        read_header(tmp_path / "gone.safetensors")
    assert caught.value.code == "artifact_unreadable"
