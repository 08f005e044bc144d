"""Whatever the registry does, a fetch ends with the right bytes or with a readable refusal, never with wrong ones."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import traceback
from pathlib import Path

import pytest
from fakes.artifact import random_files
from fakes.flaky_registry import FlakyRegistry, Script

from pareta_agent.clock import SystemClock
from pareta_agent.errors import RegistryError
from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Variant
from pareta_registry.stores import StoreSettings

FILES = random_files({"model-1.safetensors": 400_000, "model-2.safetensors": 300_001, "config.json": 77})


class HurriedClock(SystemClock):
    """Waits a hundredth of what is asked."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 100)


def store_of(root: Path, **changes: object) -> WeightsStore:
    defaults: dict[str, object] = {
        "reserve_bytes": 0,
        "part_bytes": 65_536,
        "connections": 4,
        "stall_timeout_s": 0.3,
    }
    settings = WeightsSettings(root / "weights", root / "cache", **(defaults | changes))  # type: ignore[arg-type]
    return WeightsStore(settings, HurriedClock())


def variant_of(registry: FlakyRegistry) -> Variant:
    return Variant(
        name="bf16", quant="none", artifact=registry.manifest.digest, source=registry.source, weights_bytes=1
    )


async def fetch(root: Path, script: Script, **changes: object) -> tuple[dict[str, bytes], FlakyRegistry]:
    async with FlakyRegistry(FILES, script) as registry:
        store = store_of(root, **changes)
        path = await store.fetch(variant_of(registry), lambda _: None)
        return {name: (path / name).read_bytes() for name in FILES}, registry


@pytest.mark.parametrize("deed", ["stall", "truncate", "close", "short", "429", "500"])
async def test_passing_faults_are_ridden_out(tmp_path: Path, deed: str) -> None:
    """Every third request goes wrong in one way; the artifact arrives whole."""
    found, registry = await fetch(
        tmp_path, lambda _path, nth: deed if nth % 3 == 0 else "ok", part_attempts=12
    )
    assert found == FILES
    assert len(registry.requests) > 12


async def test_faults_of_all_kinds_at_once(tmp_path: Path) -> None:
    """A registry that does everything wrong at random still delivers in the end."""
    dice = random.Random(3)
    deeds = ["stall", "truncate", "close", "short", "429", "500", "redirect", *["ok"] * 8]
    found, _ = await fetch(tmp_path, lambda _path, _nth: dice.choice(deeds), part_attempts=12)
    assert found == FILES


@pytest.mark.parametrize(
    ("deed", "code"),
    [
        ("401", "unauthorized"),
        ("403", "forbidden"),
        ("404", "artifact_missing"),
        ("range", "range_refused"),
        ("flip", "digest_mismatch"),
        ("stall", "artifact_stalled"),
        ("truncate", "store_unreachable"),
        ("close", "store_unreachable"),
        ("short", "artifact_truncated"),
        ("429", "store_busy"),
        ("500", "store_busy"),
    ],
)
async def test_lasting_faults_are_told(tmp_path: Path, deed: str, code: str) -> None:
    """A fault that stays ends in one error with artifact, host and remedy; nothing has the final name."""
    secret = base64.b64encode(b"ada:lovelace").decode()
    async with FlakyRegistry(
        FILES, lambda path, _nth: deed if path == "model-2.safetensors" else "ok", f"Basic {secret}"
    ) as registry:
        config = tmp_path / "docker.json"
        config.write_text(json.dumps({"auths": {registry.host: {"auth": secret}}}))
        stores = StoreSettings(docker_config=config)
        patience_s = 0.1 if deed == "stall" else 30.0  # of a loaded machine the others' bytes may take long
        store = store_of(tmp_path, part_attempts=2, stall_timeout_s=patience_s, stores=stores)
        variant = variant_of(registry)
        with pytest.raises(RegistryError) as caught:
            await store.fetch(variant, lambda _: None)
    error = caught.value
    assert code == error.code
    assert variant.artifact[:19] in error.message
    assert registry.host in error.message
    assert error.remedy
    told = "".join(traceback.format_exception(error))
    assert [word for word in (secret, "lovelace") if word in told] == []
    assert not store.has(variant.artifact)
    assert not (tmp_path / "weights" / variant.artifact.replace(":", "-")).exists()


async def test_a_refusal_in_the_middle_keeps_what_arrived(tmp_path: Path) -> None:
    """After a 401 half way, the next fetch asks only for the parts that are missing."""
    with pytest.raises(RegistryError):
        await fetch(tmp_path, lambda _path, nth: "401" if nth > 6 else "ok", connections=1)
    found, registry = await fetch(tmp_path, lambda _path, _nth: "ok", connections=1)
    assert found == FILES
    total = sum(map(len, FILES.values()))
    assert total - 6 * 65_536 <= registry.served_bytes <= total - 5 * 65_536


async def test_a_single_wrong_bit_is_fetched_again(tmp_path: Path) -> None:
    """One flipped bit costs one more download of that file, and never reaches the artifact."""
    found, registry = await fetch(tmp_path, lambda _path, nth: "flip" if nth == 3 else "ok", connections=1)
    assert found == FILES
    assert len(registry.requests) > 13


async def test_credentials_do_not_follow_redirects(tmp_path: Path) -> None:
    """The registry gets the credentials that it asks for; the origin that it redirects to gets none."""
    secret = base64.b64encode(b"ada:lovelace").decode()
    async with FlakyRegistry(FILES, lambda _path, _nth: "redirect", f"Basic {secret}") as registry:
        config = tmp_path / "docker.json"
        config.write_text(json.dumps({"auths": {registry.host: {"auth": secret}}}))
        store = store_of(tmp_path, stores=StoreSettings(docker_config=config))
        path = await store.fetch(variant_of(registry), lambda _: None)
        assert FILES["config.json"] == (path / "config.json").read_bytes()
    assert len(registry.requests) == len(registry.redirected_headers) > 0
    assert not [headers for headers in registry.redirected_headers if "Authorization" in headers]


async def test_tokens_that_expire_on_the_way_are_renewed(tmp_path: Path) -> None:
    """A 401 in the middle of a fetch is a new token, asked for once by all connections, not a failure."""
    async with FlakyRegistry(FILES, token_uses=5) as registry:
        path = await store_of(tmp_path, connections=1).fetch(variant_of(registry), lambda _: None)
        assert FILES["model-1.safetensors"] == (path / "model-1.safetensors").read_bytes()
        assert 3 <= registry.tokens_granted <= 5


async def test_missing_credentials_are_told(tmp_path: Path) -> None:
    """A registry that wants a user, and a host that has none: the message says for which host to add one."""
    async with FlakyRegistry(FILES, authorization="Basic x") as registry:
        with pytest.raises(RegistryError, match="no credentials are configured") as caught:
            await store_of(tmp_path).fetch(variant_of(registry), lambda _: None)
    assert (caught.value.code, registry.host in caught.value.remedy) == ("unauthorized", True)


async def test_more_bytes_than_the_manifest_declares_are_never_asked_for(tmp_path: Path) -> None:
    """A blob longer than its descriptor is cut at the declared size, and its hash then refuses it."""
    files = dict(FILES)
    async with FlakyRegistry(files) as registry:
        variant = variant_of(registry)
        registry._files["config.json"] += b"appended"
        honest = registry.manifest
        assert honest.digest != variant.artifact
        store = store_of(tmp_path)
        with pytest.raises(RegistryError) as caught:
            await store.fetch(variant, lambda _: None)
    assert caught.value.code == "digest_mismatch"


async def test_a_fetch_interrupts_what_is_fetched_ahead(tmp_path: Path) -> None:
    """Weights that a start waits for come first; those for later go on behind them, with what they had."""
    hangs = True

    def slow(path: str, nth: int) -> str:
        return "stall" if hangs and nth > 4 else "ok"

    async with FlakyRegistry(FILES, slow) as later, FlakyRegistry({"config.json": b"{}"}) as now:
        store = store_of(tmp_path, stall_timeout_s=30.0)
        ahead = asyncio.create_task(store.prefetch(variant_of(later), lambda _: None))
        while len(later.requests) < 5:
            await asyncio.sleep(0.01)
        await store.fetch(variant_of(now), lambda _: None)
        assert (store.has(now.manifest.digest), ahead.done()) == (True, False)
        hangs = False
        await asyncio.wait_for(ahead, 20)
        assert store.has(later.manifest.digest)
        assert later.served_bytes <= later.manifest.total_bytes + 2 * 65_536
        assert not await store.remove(later.manifest.digest)
