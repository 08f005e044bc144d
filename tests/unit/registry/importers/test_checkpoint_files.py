"""Which files of a checkpoint count: an index decides, as in vLLM's loader; what does not count stays behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fakes.checkpoint import CONFIG, INDEX, index, safetensors, write_checkpoint
from fakes.hub import COMMIT, Hub

from pareta_registry.artifacts.manifest import parse_manifest
from pareta_registry.errors import ArtifactError
from pareta_registry.importers.checkpoint_files import select
from pareta_registry.importers.hf_checkpoint import import_checkpoint
from pareta_registry.stores import StoreSettings

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SHARDED = {
    SHARDS[0]: safetensors({"a": ("BF16", (10_000,))}),
    SHARDS[1]: safetensors({"b": ("BF16", (20_000,))}),
    INDEX: index({"a": SHARDS[0], "b": SHARDS[1]}),
}


def brought(source: Path, target: Path, **options: Any) -> tuple[dict[str, Any], set[str]]:
    """The document of an import, and the files of its artifact."""
    document = import_checkpoint(str(source), target, **options)
    manifest = parse_manifest((target / "pareta-manifest.json").read_bytes(), "x")
    return document, {file.path for file in manifest.files}


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"consolidated.safetensors": safetensors({"tok": ("BF16", (30_000,))})}, set()),
        ({"mtp.safetensors": safetensors({"mtp": ("BF16", (7_000,))})}, set()),
        ({"model.safetensors": safetensors({"a": ("BF16", (10_000,)), "b": ("BF16", (20_000,))})}, set()),
        ({"pytorch_model.bin": b"pickle", "pytorch_model.bin.index.json": b"{}"}, set()),
        ({"original/params.json": b"{}", "original/consolidated.00.pth": b"pickle"}, set()),
        ({"original/tokenizer.model": b"x"}, set()),
        ({"onnx/model.onnx": b"x", "onnx/config.json": b"{}"}, set()),
        ({"model.fp16.safetensors.index.json": b"not read"}, set()),
        ({"consolidated.safetensors.index.json": b"not read"}, set()),
        ({"MODEL.SAFETENSORS": b"not read"}, set()),
        (
            {"1_Pooling/config.json": b"{}", "tokenizer.json": b"{}"},
            {"1_Pooling/config.json", "tokenizer.json"},
        ),
    ],
)
def test_an_index_names_what_counts(tmp_path: Path, more: Mapping[str, bytes], kept: set[str]) -> None:
    """Two shards of 30,000 parameters stay that, whatever lies beside them."""
    document, files = brought(write_checkpoint(tmp_path / "in", SHARDED | more), tmp_path / "out")
    assert files == {*SHARDS, INDEX, "config.json"} | kept
    assert document["architecture"]["params_b"] == 0.00003
    assert document["variants"][0]["weights_bytes"] == 60_000


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        ({"model.safetensors", "consolidated.safetensors"}, ("model.safetensors",)),
        ({"consolidated.safetensors"}, ("consolidated.safetensors",)),
        ({"model.safetensors", "mtp.safetensors"}, ("model.safetensors", "mtp.safetensors")),
        (
            {"adapter_config.json", "adapter_model.safetensors", "model.safetensors"},
            ("adapter_model.safetensors",),
        ),
        ({"model.safetensors", "checkpoint-5/model.safetensors"}, ("model.safetensors",)),
        (set(SHARDS), SHARDS),
        (set(), ()),
    ],
)
def test_without_an_index_the_top_folder_counts(files: set[str], weights: tuple[str, ...]) -> None:
    """What vLLM would load from the artifact; Mistral's own file only where there is nothing else."""
    assert select(files, {}, "x").weights == weights


def test_a_dense_module_counts(tmp_path: Path) -> None:
    """A sentence transformer's modules.json names folders, whose weights may have the same tensor names."""
    dense = safetensors({"linear.weight": ("F32", (5_000,))})
    files = {
        "model.safetensors": safetensors({"a": ("F32", (10_000,))}),
        "modules.json": json.dumps([{"path": ""}, {"path": "2_Dense"}, {"path": "3_Dense"}]).encode(),
        "2_Dense/model.safetensors": dense,
        "2_Dense/pytorch_model.bin": b"pickle",
        "2_Dense/config.json": b"{}",
        "3_Dense/model.safetensors": dense,
        "4_Left/model.safetensors": dense,
    }
    document, kept = brought(write_checkpoint(tmp_path / "in", files), tmp_path / "out")
    assert document["architecture"]["params_b"] == 0.00002
    assert kept == {*files, "config.json"} - {"2_Dense/pytorch_model.bin", "4_Left/model.safetensors"}


@pytest.mark.parametrize(
    ("document", "code", "named"),
    [
        (
            index({"a": SHARDS[0], "b": "model-00003-of-00003.safetensors"}),
            "shard_missing",
            "model-00003-of-00003",
        ),
        (index({"a": SHARDS[0].upper()}), "index_invalid", SHARDS[0].upper()),
        (index({"a": "Model-00001-of-00002.safetensors"}), "shard_missing", "Model-00001-of-00002"),
        (index({"a": "/etc/passwd"}), "index_invalid", "/etc/passwd"),
        (index({"a": "../model.safetensors"}), "index_invalid", "../model.safetensors"),
        (index({"a": f"./{SHARDS[0]}"}), "index_invalid", "./model"),
        (index({"a": "sub/model.safetensors"}), "index_invalid", "sub/model"),
        (index({"a": "pytorch_model.bin"}), "index_invalid", "pytorch_model.bin"),
        (index({"a": 7}), "index_invalid", "'a'"),
        (index({"a": None}), "index_invalid", "'a'"),
        (index({"a": [SHARDS[0]]}), "index_invalid", "'a'"),
        (index({}), "index_invalid", "weight_map"),
        (b'{"metadata": {}}', "index_invalid", "weight_map"),
        (b'{"weight_map": ["a"]}', "index_invalid", "weight_map"),
        (b"[]", "index_invalid", "weight_map"),
        (b"not JSON", "index_invalid", "not JSON"),
        (b"\xff\xfe", "index_invalid", "not JSON"),
        (b"[" * 100_000, "index_invalid", "not JSON"),
        (
            b'{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}',
            "index_invalid",
            "'a' is listed twice",
        ),
    ],
)
def test_a_wrong_index_is_refused(tmp_path: Path, document: bytes, code: str, named: str) -> None:
    """The error names the index and what is wrong in it, and the target is not made."""
    source = write_checkpoint(tmp_path / "in", SHARDED | {INDEX: document})
    with pytest.raises(ArtifactError) as caught:
        import_checkpoint(str(source), tmp_path / "out")
    assert (caught.value.code, INDEX in caught.value.message, named in caught.value.message) == (
        code,
        True,
        True,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("total", [0, 1, 10**15, "many", None])
def test_the_size_in_an_index_is_not_read(tmp_path: Path, total: object) -> None:
    """Published indices carry the size of another precision; the headers do not lie."""
    files = SHARDED | {INDEX: index({"a": SHARDS[0], "b": SHARDS[1]}, total)}
    document, _ = brought(write_checkpoint(tmp_path / "in", files), tmp_path / "out")
    assert document["variants"][0]["weights_bytes"] == 60_000


@pytest.mark.parametrize("left", [0, 1])
def test_numbered_files_are_complete_without_an_index_too(tmp_path: Path, left: int) -> None:
    """One of two is refused before an engine finds tensors missing."""
    source = write_checkpoint(tmp_path / "in", {SHARDS[left]: SHARDED[SHARDS[left]]})
    with pytest.raises(ArtifactError, match="1 of the 2 files") as caught:
        import_checkpoint(str(source), tmp_path / "out")
    assert caught.value.code == "shard_missing"


def test_a_tensor_in_two_files_needs_an_index(tmp_path: Path) -> None:
    """Without one, which of them counts has no answer; with one it counts once."""
    files = {"model.safetensors": SHARDED[SHARDS[0]], "other.safetensors": SHARDED[SHARDS[0]]}
    with pytest.raises(ArtifactError, match=r"'a' .* model\.safetensors and in other\.safetensors") as caught:
        import_checkpoint(str(write_checkpoint(tmp_path / "in", files)), tmp_path / "out")
    assert caught.value.code == "tensor_twice"
    files[INDEX] = index({"a": "model.safetensors", "b": "other.safetensors"})
    document, _ = brought(write_checkpoint(tmp_path / "in2", files), tmp_path / "out")
    assert document["architecture"]["params_b"] == 0.00001


async def test_of_a_hub_only_what_counts_is_fetched(tmp_path: Path) -> None:
    """Sizes and digests of the others are never asked for, and the document lists what counts."""
    more = {
        "consolidated.safetensors": b"never read",
        "original/params.json": b"{}",
        "original/x.safetensors": b"",
    }
    source = write_checkpoint(tmp_path / "in", SHARDED | more)
    async with Hub(source) as hub:
        settings = StoreSettings(hf_endpoint=hub.endpoint, plain_http=("127.0.0.1",))
        document = await asyncio.to_thread(
            import_checkpoint, f"hf://org/model@{COMMIT}", tmp_path / "out", settings
        )
    listed = {file["path"] for file in document["variants"][0]["files"]}
    assert listed == {*SHARDS, INDEX, "config.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == listed | {"pareta-manifest.json"}


def test_an_artifact_is_taken_whole(tmp_path: Path) -> None:
    """Whoever published it chose its files, and its digest stays."""
    first, _ = brought(write_checkpoint(tmp_path / "in", SHARDED), tmp_path / "one")
    second, _ = brought_from_store(tmp_path / "one", tmp_path / "two")
    assert first["variants"][0]["artifact"] == second["variants"][0]["artifact"]


def brought_from_store(source: Path, target: Path) -> tuple[dict[str, Any], set[str]]:
    return import_checkpoint(source.as_uri(), target), set()


@pytest.mark.parametrize("quantized", [[], "gptq", 7, {"quant_method": None}, {}])
def test_a_strange_quantization_is_none(tmp_path: Path, quantized: object) -> None:
    """What is no mapping, or names no method, is read as not quantized."""
    config = json.dumps(CONFIG | {"quantization_config": quantized}).encode()
    document, _ = brought(
        write_checkpoint(tmp_path / "in", SHARDED | {"config.json": config}), tmp_path / "out"
    )
    assert (document["variants"][0]["quant"], document["variants"][0]["name"]) == ("none", "bf16")
