"""The demo catalog names what its package really holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.importers.hf_checkpoint import describe
from pareta_registry.load import builtin_catalog


@pytest.mark.slow
async def test_the_demo_model_is_what_the_catalog_says(tmp_path: Path) -> None:
    """Downloaded and converted now, it has the digest, the facts and the tokens of the real model."""
    model = builtin_catalog().models[0]
    store = WeightsStore(WeightsSettings(tmp_path / "weights", tmp_path / "cache"))
    path = await store.fetch(model.variants[0], lambda _: None)
    written = describe(path)
    assert model.architecture.model_dump(exclude={"params_b"}) == {
        **model.architecture.model_dump(exclude={"params_b"}),
        **{name: value for name, value in written["architecture"].items() if name != "params_b"},
    }
    assert model.variants[0].weights_bytes == written["variants"][0]["weights_bytes"]
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    assert tokenizer.encode("The capital of France is Paris.").ids == [504, 3575, 282, 4649, 314, 7042, 30]
    assert tokenizer.encode("a  12").ids == [81, 256, 33, 34]
    assert tokenizer.encode("<|im_start|>user\n<|im_end|>").ids == [1, 4093, 198, 2]
