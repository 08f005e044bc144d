"""Publish, resolve, fetch, serve: weights from an OCI registry answer on real vLLM."""

from __future__ import annotations

import asyncio
from pathlib import Path

import openai
import pytest
import yaml
from fakes.oci_registry import Registry, needs_registry
from harness import Agent

from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.canonical import sha256_digest
from pareta_registry.load import builtin_catalog
from pareta_registry.publish import publish
from pareta_registry.stores import StoreSettings

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), needs_registry]


async def publish_demo(root: Path, registry: Registry) -> Path:
    """The demo's artifact in the registry, and a catalog whose only source it is."""
    model = builtin_catalog().models[0]
    store = WeightsStore(WeightsSettings(root / "weights", root / "cache"))
    artifact = await store.fetch(model.variants[0], lambda _: None)
    target = f"oci://{registry.host}/team/demo"
    manifest, digest = await publish(artifact, f"{target}:v1", StoreSettings())
    assert manifest.digest == model.variants[0].artifact
    variant = model.variants[0].model_copy(update={"source": f"{target}@{digest}"})
    catalog = root / "catalog"
    catalog.mkdir()
    documents = [*builtin_catalog().tasks, model.model_copy(update={"variants": (variant,)})]
    written = [
        {"kind": document.kind} | document.model_dump(mode="json", exclude_defaults=True)
        for document in documents
    ]
    (catalog / "all.yaml").write_text(yaml.safe_dump(written))
    return catalog


def test_weights_from_a_registry_are_served(tmp_path: Path, engine_python: Path) -> None:
    """The node finds its bytes in the registry alone, and the canary and a caller get the right answer."""
    with Registry(tmp_path / "registry") as registry:
        catalog = asyncio.run(publish_demo(tmp_path, registry))
        published = len(registry.blob_reads())
        settings = {"PARETA_ENGINE_PYTHON": str(engine_python), "PARETA_REGISTRY_CATALOG": str(catalog)}
        with Agent(tmp_path / "home", settings=settings) as agent:
            ready = agent.ready(timeout_s=400)
            with openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"]) as client:
                answer = client.chat.completions.create(
                    model=ready["endpoints"][0]["id"],
                    messages=[{"role": "user", "content": "What is the capital of France?"}],
                    temperature=0,
                    max_tokens=20,
                )
        read = set(registry.blob_reads()[published:])
    (served,) = (tmp_path / "home").rglob("model.safetensors")
    assert sha256_digest(served.read_bytes()) in read
    assert "Paris" in str(answer.choices[0].message.content)
