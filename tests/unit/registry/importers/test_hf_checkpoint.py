"""`import` fills in what the files know: architecture facts, byte counts, the artifact's digest."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.tiny_gguf import HIDDEN, LAYERS, write_tiny_gguf

from pareta_registry.artifacts.manifest import MANIFEST_NAME, Manifest, parse_manifest
from pareta_registry.catalog import Model
from pareta_registry.errors import ArtifactError
from pareta_registry.importers.architecture import architecture_facts
from pareta_registry.importers.hf_checkpoint import import_checkpoint
from pareta_registry.importers.safetensors import TensorInfo


def test_a_gguf_becomes_an_artifact_and_a_valid_model(tmp_path: Path) -> None:
    """The printed document is a Model as it stands, and names the manifest that lies beside the files."""
    document = import_checkpoint(str(write_tiny_gguf(tmp_path / "tiny.gguf")), tmp_path / "tiny")
    model = Model.model_validate(document)
    manifest = parse_manifest((tmp_path / "tiny" / MANIFEST_NAME).read_bytes(), "x")
    assert (manifest.digest, HIDDEN, LAYERS) == (
        model.variants[0].artifact,
        model.architecture.hidden,
        model.architecture.layers,
    )
    assert model.variants[0].name == "bf16"


def test_a_directory_leaves_its_pickles_behind(tmp_path: Path) -> None:
    """Importing a Hugging Face directory takes the safe files only, and gives the same digest again."""
    first = import_checkpoint(str(write_tiny_gguf(tmp_path / "tiny.gguf")), tmp_path / "tiny")
    (tmp_path / "tiny" / "training_args.bin").write_bytes(b"pickle")
    (tmp_path / "tiny" / ".cache").mkdir()
    second = import_checkpoint(str(tmp_path / "tiny"), tmp_path / "copy")
    assert first["variants"][0]["artifact"] == second["variants"][0]["artifact"]
    assert not (tmp_path / "copy" / "training_args.bin").exists()


def test_a_sentence_transformer_has_the_context_it_was_trained_for(tmp_path: Path) -> None:
    """Engines start with no more than that; what is no number there changes nothing."""
    whole = import_checkpoint(str(write_tiny_gguf(tmp_path / "tiny.gguf")), tmp_path / "tiny")["context"]
    for name, said, context in (
        ("a", '{"max_seq_length": 16}', 16),
        ("b", '{"max_seq_length": null}', whole),
    ):
        (tmp_path / "tiny" / "sentence_bert_config.json").write_text(said)
        assert import_checkpoint(str(tmp_path / "tiny"), tmp_path / name)["context"] == context


def test_a_store_is_imported_with_its_files_listed(tmp_path: Path) -> None:
    """What came from a store names that store, and lists its files so that nodes need no manifest there."""
    import_checkpoint(str(write_tiny_gguf(tmp_path / "tiny.gguf")), tmp_path / "tiny")
    source = (tmp_path / "tiny").as_uri()
    variant = Model.model_validate(import_checkpoint(source, tmp_path / "copy")).variants[0]
    assert (variant.source, variant.artifact) == (source, Manifest(files=variant.files).digest)


def test_a_target_in_use_is_refused(tmp_path: Path) -> None:
    """Nothing is written over."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "y").touch()
    with pytest.raises(ArtifactError, match="not empty"):
        import_checkpoint(str(tmp_path), tmp_path / "x")


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    """A checkpoint of pickles alone says what is missing."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "config.json").write_text("{}")
    with pytest.raises(ArtifactError) as caught:
        import_checkpoint(str(tmp_path / "in"), tmp_path / "out")
    assert caught.value.code == "no_safetensors"


def test_hybrids_mixtures_and_towers_are_recognised() -> None:
    """Facts come from the language part of a multimodal config, with experts, MLA and layer kinds."""
    text = {
        "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 64, "vocab_size": 10,
        "max_position_embeddings": 99, "num_local_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "layer_types": ["sliding_attention", "full_attention", "linear_attention", "full_attention"],
        "sliding_window": 12, "kv_lora_rank": 5, "qk_rope_head_dim": 6, "dtype": "float16",
    }  # fmt: skip
    config = {"architectures": ["X"], "text_config": text, "vision_config": {"num_attention_heads": 16}}
    facts = architecture_facts(config, [TensorInfo("a", "BF16", (1000, 1000), 0, 2_000_000)])
    expected = {
        "full_layers": 2, "sliding_layers": 1, "linear_layers": 1, "sliding_window": 12, "num_experts": 16,
        "experts_per_tok": 2, "moe_intermediate": 32, "kv_lora_rank": 5, "qk_rope_head_dim": 6, "vision_heads": 16,
        "kv_heads": 8, "head_dim": 8, "params_b": 0.001, "dtype": "float16", "architecture": "X",
    }  # fmt: skip
    assert expected == {name: facts[name] for name in expected}


PLAIN = {
    "num_hidden_layers": 12, "num_attention_heads": 16, "hidden_size": 2048, "vocab_size": 10,
    "max_position_embeddings": 99,
}  # fmt: skip


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        # DeepSeek-V3: no head_dim; hidden / heads is not it
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128}, {"head_dim": 128}),
        # Gemma 3, before transformers wrote the layers' kinds out
        (
            {"sliding_window": 1024, "sliding_window_pattern": 6},
            {"full_layers": 2, "sliding_layers": 10, "linear_layers": 0, "sliding_window": 1024},
        ),
        # Qwen3-Next
        ({"full_attention_interval": 4}, {"full_layers": 3, "sliding_layers": 0, "linear_layers": 9}),
        # Nemotron-H: Mamba, MLP and attention layers
        (
            {"hybrid_override_pattern": "M-M-M*-M-M*-"},
            {"full_layers": 2, "sliding_layers": 0, "linear_layers": 5},
        ),
        # gpt-oss
        ({"model_type": "gpt_oss"}, {"attention_sinks": True}),
        # Qwen2.5-VL
        ({"vision_config": {"num_heads": 16}}, {"vision_heads": 16}),
        # a window that no layer uses
        ({"sliding_window": 4096, "use_sliding_window": False}, {"head_dim": 128}),
    ],
)
def test_what_published_configs_say_in_their_own_words(
    published: dict[str, object], expected: dict[str, object]
) -> None:
    """Each family names its layers, heads and sinks in its own way."""
    facts = architecture_facts(PLAIN | published, [])
    assert expected == {name: facts[name] for name in expected}
    assert "full_layers" in expected or "full_layers" not in facts
