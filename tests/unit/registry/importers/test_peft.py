"""A LoRA adapter is imported, refused where engines would not apply all of it, and added to its model's document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from pareta_registry.errors import ArtifactError, CatalogError
from pareta_registry.importers.hf_checkpoint import import_checkpoint
from pareta_registry.importers.peft import add_adapter
from pareta_registry.load import load_catalog
from pareta_registry.resolve import Resolution, resolve

CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}
PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"
FACTORS = {f"{PREFIX}.lora_A.weight": (8, 64), f"{PREFIX}.lora_B.weight": (64, 8)}
MODEL = """\
# written by hand
kind: model
id: small
license: MIT
context: 4096
architecture: {architecture: LlamaForCausalLM, params_b: 0.1, layers: 2, heads: 4, kv_heads: 2, head_dim: 16,
  hidden: 64, intermediate: 96, vocab: 100, max_position_embeddings: 4096}
variants:
  - {name: bf16, quant: none, artifact: "sha256:%s", source: "file:///models/small", weights_bytes: 1000}
""" % ("0" * 64)
TASK = """\
kind: task
id: summarise
title: Summaries
aliases:
  - {id: sum-1, model: small}
  - {id: sum-2, model: small, adapter: legal}
recommended: sum-1
"""


def peft(root: Path, factors: dict[str, tuple[int, ...]] = FACTORS, **changes: Any) -> Path:
    """An adapter directory as peft saves it, with the pickle that older versions wrote beside."""
    root.mkdir()
    (root / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    save_file(
        {name: np.zeros(shape, np.float32) for name, shape in factors.items()},
        root / "adapter_model.safetensors",
    )
    (root / "adapter_model.bin").write_bytes(b"pickle")
    return root


def test_an_adapter_is_imported_with_its_rank_and_bytes(tmp_path: Path) -> None:
    """What the files know is filled in: also a rank that only some modules have."""
    entry = import_checkpoint(
        str(peft(tmp_path / "Legal v1", rank_pattern={"q_proj": 16})), tmp_path / "legal"
    )
    assert (entry["name"], entry["rank"], entry["weights_bytes"]) == ("legal", 16, 2 * 8 * 64 * 4)
    assert sorted(path.name for path in (tmp_path / "legal").iterdir()) == [
        *("adapter_config.json", "adapter_model.safetensors", "pareta-manifest.json"),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"init_lora_weights": "pissa_niter_4"}, "rewrote the base"),
        ({"r": None}, "rank"),
    ],
)
def test_what_engines_do_not_apply_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """Found where the adapter is published, not when a caller gets the base's answer."""
    with pytest.raises(ArtifactError, match=said):
        import_checkpoint(str(peft(tmp_path / "in", **changes)), tmp_path / "out")


def test_a_whole_weight_among_the_factors_is_refused(tmp_path: Path) -> None:
    """A tensor that is no factor would be left out in silence."""
    factors = {**FACTORS, "base_model.model.lm_head.weight": (100, 64)}
    with pytest.raises(ArtifactError, match=r"lm_head\.weight"):
        import_checkpoint(str(peft(tmp_path / "in", factors)), tmp_path / "out")


def test_an_adapter_that_is_a_pickle_is_refused(tmp_path: Path) -> None:
    """Only safetensors are taken along, so there is nothing left of it."""
    peft(tmp_path / "in")
    (tmp_path / "in" / "adapter_model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="pickles are refused"):
        import_checkpoint(str(tmp_path / "in"), tmp_path / "out")


def test_adapters_are_added_to_a_document_that_stays_as_it_was(tmp_path: Path) -> None:
    """Comments and style stay; an alias of the adapter then resolves to base and adapter."""
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    (catalog / "small.yaml").write_text(MODEL)
    (catalog / "task.yaml").write_text(TASK.replace(", adapter: legal", ""))
    entry = import_checkpoint(str(peft(tmp_path / "in")), tmp_path / "out")
    for name in ("legal", "medical"):
        add_adapter(catalog, "small", entry | {"name": name, "source": "file:///a"})
    (catalog / "task.yaml").write_text(TASK)
    text = (catalog / "small.yaml").read_text()
    assert text.startswith(MODEL)
    found = resolve(load_catalog(catalog), "summarise", "sum-2")
    assert isinstance(found, Resolution)
    assert found.adapter is not None
    assert (found.adapter.name, found.model.id, found.canaries) == ("legal", "small", ())
    assert {each["name"] for each in yaml.safe_load(text)["adapters"]} == {"legal", "medical"}


def test_an_entry_that_would_break_the_catalog_is_taken_back(tmp_path: Path) -> None:
    """A second adapter of the same name is refused, and the file is what it was."""
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    (catalog / "small.yaml").write_text(MODEL)
    entry = import_checkpoint(str(peft(tmp_path / "in")), tmp_path / "out")
    path = add_adapter(catalog, "small", entry)
    before = path.read_text()
    with pytest.raises(CatalogError, match="listed twice"):
        add_adapter(catalog, "small", entry)
    assert path.read_text() == before
    with pytest.raises(ArtifactError, match="no YAML document"):
        add_adapter(catalog, "other", entry)
