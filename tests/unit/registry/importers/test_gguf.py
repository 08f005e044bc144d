"""A GGUF becomes the same Hugging Face directory every time, and what would come out wrong is refused."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from fakes.tiny_gguf import HEADS, HIDDEN, KV_HEADS, TOKENS, weights, write_tiny_gguf
from tokenizers import Tokenizer

from pareta_registry.artifacts.build import build_manifest
from pareta_registry.errors import ArtifactError
from pareta_registry.importers.gguf import import_gguf
from pareta_registry.importers.safetensors import read_header
from pareta_registry.load import builtin_catalog


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    target = tmp_path / "model"
    target.mkdir()
    import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", quantize=False), target)
    return target


def tensor(root: Path, name: str) -> np.ndarray:
    """The bfloat16 tensor as float32."""
    path = root / "model.safetensors"
    info = next(entry for entry in read_header(path) if entry.name == name)
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    bits = np.frombuffer(data[start + info.begin : start + info.end], "<u2").astype("<u4") << 16
    return bits.view("<f4").reshape(info.shape)


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Hugging Face's row order to GGUF's, as llama.cpp's converter writes it."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def test_config_carries_the_metadata(imported: Path) -> None:
    """config.json says what the GGUF said, in Hugging Face's words."""
    config = json.loads((imported / "config.json").read_text())
    expected = {"hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS}
    expected |= {"rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": True, "eos_token_id": 2}
    assert expected == {name: config[name] for name in expected}


@pytest.mark.parametrize(("gguf", "hf", "heads"), [("q", "q", HEADS), ("k", "k", KV_HEADS)])
def test_rope_rows_are_put_back(imported: Path, gguf: str, hf: str, heads: int) -> None:
    """q and k come out so that interleaving them again gives the GGUF's rows."""
    found = tensor(imported, f"model.layers.1.self_attn.{hf}_proj.weight")
    np.testing.assert_allclose(weights()[f"blk.1.attn_{gguf}.weight"], interleaved(found, heads), rtol=2**-8)
    assert not np.allclose(weights()[f"blk.1.attn_{gguf}.weight"], found, rtol=2**-8)


def test_values_round_to_nearest_even(tmp_path: Path) -> None:
    """float32 rounds to bfloat16 as hardware does, ties to even."""
    tensors = weights()
    tensors["output_norm.weight"][:4] = np.array(
        [0x3F808000, 0x3F818000, 0x3F808001, 0xBF807FFF], "<u4"
    ).view("<f4")
    (tmp_path / "model").mkdir()
    import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", tensors), tmp_path / "model")
    found = tensor(tmp_path / "model", "model.norm.weight")[:4].view("<u4") >> 16
    assert found.tolist() == [0x3F80, 0x3F82, 0x3F81, 0xBF80]


def test_quantized_rows_are_dequantized(tmp_path: Path) -> None:
    """Q8_0 tensors come out within their quantization step of the original."""
    (tmp_path / "model").mkdir()
    import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf"), tmp_path / "model")
    found = tensor(tmp_path / "model", "model.layers.0.mlp.down_proj.weight")
    np.testing.assert_allclose(weights()["blk.0.ffn_down.weight"], found, atol=0.04)


def test_import_is_deterministic(tmp_path: Path) -> None:
    """The same GGUF gives the same artifact digest."""
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        import_gguf(source, tmp_path / name)
        digests.append(build_manifest(tmp_path / name).digest)
    assert digests[0] == digests[1]


def test_tokenizer_splits_digits_as_smollm_does(imported: Path) -> None:
    """The pre-tokenizer that the GGUF names is honoured: spaces before a digit merge, digits never do."""
    tokenizer = Tokenizer.from_file(str(imported / "tokenizer.json"))
    assert tokenizer.encode("ab  12").tokens == ["ab", "ĠĠ", "1", "2"]
    assert tokenizer.encode("<|im_start|>a").tokens == ["<|im_start|>", "a"]
    assert tokenizer.decode(tokenizer.encode("ab  12").ids) == "ab  12"


def test_tokenizer_adds_bos_when_told(tmp_path: Path) -> None:
    """`add_bos_token` becomes a post-processor."""
    (tmp_path / "model").mkdir()
    import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", add_bos=True), tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    assert [1, TOKENS.index("a")] == tokenizer.encode("a").ids


@pytest.mark.parametrize(
    "change", [{"architecture": "qwen2"}, {"pre": "deepseek-llm"}, {"extra": "blk.0.attn_q.bias"}]
)
def test_what_would_come_out_wrong_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    """Another architecture, an unknown pre-tokenizer or an unknown tensor is an error, not a wrong model."""
    tensors = weights()
    if "extra" in change:
        tensors[change.pop("extra")] = np.zeros(HIDDEN, np.float32)
    (tmp_path / "model").mkdir()
    with pytest.raises(ArtifactError) as caught:
        import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", tensors, **change), tmp_path / "model")
    assert caught.value.code == "gguf_unsupported"


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """NaN weights would answer garbage; the import says which tensor holds them."""
    tensors = weights()
    tensors["blk.1.ffn_norm.weight"][3] = np.nan
    (tmp_path / "model").mkdir()
    with pytest.raises(ArtifactError, match=r"blk\.1\.ffn_norm\.weight") as caught:
        import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", tensors), tmp_path / "model")
    assert caught.value.code == "gguf_not_finite"


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    """Random bytes give one readable error."""
    (tmp_path / "bad.gguf").write_bytes(hashlib.sha256(b"x").digest() * 64)
    (tmp_path / "model").mkdir()
    with pytest.raises(ArtifactError) as caught:
        import_gguf(tmp_path / "bad.gguf", tmp_path / "model")
    assert caught.value.code == "gguf_unreadable"


def test_a_part_of_a_split_file_is_refused(tmp_path: Path) -> None:
    """It would make a model without most of its layers."""
    (tmp_path / "model").mkdir()
    with pytest.raises(ArtifactError, match="one of 3 parts") as caught:
        import_gguf(write_tiny_gguf(tmp_path / "tiny-00001-of-00003.gguf", parts=3), tmp_path / "model")
    assert caught.value.code == "gguf_unsupported"


def test_progress_reaches_its_total(tmp_path: Path) -> None:
    """Progress counts the weights' bytes up to the last, and raising from it stops the work."""
    source, seen = write_tiny_gguf(tmp_path / "tiny.gguf"), []
    (tmp_path / "model").mkdir()
    import_gguf(source, tmp_path / "model", lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == sum(values.size * 2 for values in weights().values())


def test_the_demo_names_what_the_import_makes() -> None:
    """The demo catalog's architecture facts are those that its model's import writes."""
    model = builtin_catalog().models[0]
    facts = model.architecture
    layer = facts.hidden * (2 * facts.heads + 2 * facts.kv_heads) * facts.head_dim
    layer += 3 * facts.hidden * facts.intermediate + 2 * facts.hidden
    parameters = facts.layers * layer + facts.vocab * facts.hidden + facts.hidden
    assert model.variants[0].weights_bytes == 2 * parameters
    assert facts.params_b == pytest.approx(parameters / 1e9, rel=1e-5)
