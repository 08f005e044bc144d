"""Publish, resolve, fetch, serve: weights from an OCI registry, a bucket or a hub mirror answer on real vLLM."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
import yaml
from fakes.hub import COMMIT, Hub
from fakes.object_store import ObjectStore
from fakes.oci_registry import Registry, needs_registry
from harness import Agent

from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.artifacts.build import build_manifest
from pareta_registry.catalog import Variant
from pareta_registry.load import builtin_catalog
from pareta_registry.publish.target import publish_anywhere
from pareta_registry.stores import StoreSettings

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(600)]
Place = Callable[[Path, Path], Iterator[tuple[dict[str, object], dict[str, str]]]]
"""Has the artifact for a while: the variant's fields that name it, and the node's settings that reach it."""


def in_a_registry(root: Path, artifact: Path) -> Iterator[tuple[dict[str, object], dict[str, str]]]:
    with Registry(root / "registry") as registry:
        target = f"oci://{registry.host}/team/demo:v1"
        _, source = asyncio.run(publish_anywhere(artifact, target, StoreSettings()))
        yield {"source": source}, {}


def in_a_bucket(root: Path, artifact: Path) -> Iterator[tuple[dict[str, object], dict[str, str]]]:
    with ObjectStore(root) as s3:
        settings = StoreSettings(object_store_file=s3.options)
        _, source = asyncio.run(publish_anywhere(artifact, "s3://weights/models/demo", settings))
        yield {"source": source}, {"PARETA_REGISTRY_OBJECT_STORE_FILE": str(s3.options)}


def on_a_mirror(root: Path, artifact: Path) -> Iterator[tuple[dict[str, object], dict[str, str]]]:
    files = build_manifest(artifact).files
    mirrored = Path(shutil.copytree(artifact, root / "mirror"))
    (mirrored / "pareta-manifest.json").unlink()
    (root / "token").write_text("hf_secret")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    hub = Hub(mirrored, "hf_secret")
    asyncio.run_coroutine_threadsafe(hub.__aenter__(), loop).result(20)
    try:
        yield (
            {"source": f"hf://org/model@{COMMIT}", "files": files},
            {
                "PARETA_REGISTRY_HF_ENDPOINT": hub.endpoint,
                "PARETA_REGISTRY_HF_TOKEN_FILE": str(root / "token"),
            },
        )
    finally:
        asyncio.run_coroutine_threadsafe(hub.__aexit__(None, None, None), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def write_catalog(folder: Path, variant: Variant) -> None:
    """The demo's task and model, whose only variant this is."""
    model = builtin_catalog().models[0].model_copy(update={"variants": (variant,)})
    written = [
        {"kind": document.kind} | document.model_dump(mode="json", exclude_defaults=True)
        for document in (*builtin_catalog().tasks, model)
    ]
    folder.mkdir()
    (folder / "all.yaml").write_text(yaml.safe_dump(written))


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(in_a_registry, marks=needs_registry),
        in_a_bucket,
        on_a_mirror,
    ],
)
def test_weights_from_a_store_are_served(tmp_path: Path, engine_python: Path, place: Place) -> None:
    """The node finds its bytes there alone, and the canary and a caller get the right answer."""
    demo = builtin_catalog().models[0].variants[0]
    store = WeightsStore(WeightsSettings(tmp_path / "weights", tmp_path / "cache"))
    artifact = asyncio.run(store.fetch(demo, lambda _: None))
    with contextmanager(place)(tmp_path, artifact) as (names, reach):
        write_catalog(tmp_path / "catalog", demo.model_copy(update=names))
        shutil.rmtree(tmp_path / "weights")
        settings = {
            "PARETA_ENGINE_PYTHON": str(engine_python),
            "PARETA_REGISTRY_CATALOG": str(tmp_path / "catalog"),
        }
        with Agent(tmp_path / "home", settings=settings | reach) as agent:
            ready = agent.ready(timeout_s=400)
            with openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"]) as client:
                answer = client.chat.completions.create(
                    model=ready["endpoints"][0]["id"],
                    messages=[{"role": "user", "content": "What is the capital of France?"}],
                    temperature=0,
                    max_tokens=20,
                )
    (served,) = (tmp_path / "home").rglob("model.safetensors")
    assert (served.stat().st_nlink, build_manifest(served.parent).digest) == (1, demo.artifact)
    assert "Paris" in str(answer.choices[0].message.content)
