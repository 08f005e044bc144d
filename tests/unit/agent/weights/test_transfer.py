"""A transfer survives a store that stalls, truncates and lies, and passes no wrong byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.artifact import ScriptedStore, random_files

from pareta_agent.weights.fetch_progress import Meter
from pareta_agent.weights.settings import WeightsProgress, WeightsSettings
from pareta_agent.weights.transfer import Transfer
from pareta_registry.artifacts.manifest import ArtifactFile, Manifest
from pareta_registry.errors import ArtifactError

FILES = random_files({"a.safetensors": 25_000, "b.safetensors": 10_000, "config.json": 10, "empty.json": 0})


def manifest_of(files: dict[str, bytes]) -> Manifest:
    import hashlib

    return Manifest(
        files=tuple(
            ArtifactFile(path=path, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
            for path, data in files.items()
        )
    )


@pytest.fixture
def begin(tmp_path: Path, clock) -> Callable[..., tuple[Transfer, list[WeightsProgress]]]:
    target = tmp_path / "target"
    target.mkdir()

    def make(
        store: ScriptedStore, manifest: Manifest | None = None, **changes: float
    ) -> tuple[Transfer, list[WeightsProgress]]:
        manifest = manifest or manifest_of(FILES)
        defaults = {"part_bytes": 4096, "connections": 3, "stall_timeout_s": 0.05}
        settings = WeightsSettings(tmp_path, tmp_path, **(defaults | changes))
        seen: list[WeightsProgress] = []
        meter = Meter(manifest.total_bytes, clock, seen.append)
        return Transfer(store, manifest, target, tmp_path / "journal", settings, clock, meter), seen

    return make


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


async def test_files_arrive_whole(begin, tmp_path: Path) -> None:
    """All files, byte for byte, in parts no longer than asked."""
    store = ScriptedStore(FILES)
    transfer, seen = begin(store)
    assert await transfer.prepare() == 35_010
    await transfer.run()
    assert contents(tmp_path / "target") == FILES
    assert max(stop - start for _, start, stop in store.reads) == 4096
    assert [(p.phase, p.done_bytes) for p in seen if p.done_bytes == p.total_bytes] == [
        ("fetch", 35_010),
        ("verify", 35_010),
    ]


@pytest.mark.parametrize("deed", ["truncate", "stall", "busy"])
async def test_a_bad_connection_is_retried_where_it_was_cut(begin, tmp_path: Path, clock, deed: str) -> None:
    """Every part fails once; nothing that arrived is asked for again."""
    first: set[int] = set()

    def script(path: str, start: int, _nth: int) -> str:
        if path == "a.safetensors" and start % 4096 == 0 and start not in first:
            first.add(start)
            return deed
        return "ok"

    store = ScriptedStore(FILES, script)
    transfer, _ = begin(store)
    await transfer.prepare()
    await transfer.run()
    assert contents(tmp_path / "target") == FILES
    assert len(clock.slept) == len(first) == 7
    if deed == "busy":
        assert min(clock.slept) >= 7
    else:
        assert sum(start % 4096 != 0 for path, start, _ in store.reads if path == "a.safetensors") == 7


async def test_retries_have_a_budget(begin, clock) -> None:
    """A store that never delivers is given up on, with its name and a remedy."""
    transfer, _ = begin(ScriptedStore(FILES, lambda *_: "truncate"), connections=1, part_attempts=3)
    await transfer.prepare()
    with pytest.raises(ArtifactError, match="scripted://store") as caught:
        await transfer.run()
    assert (caught.value.code, bool(caught.value.remedy)) == ("artifact_truncated", True)
    assert len(clock.slept) == 2


async def test_more_bytes_than_declared_are_refused(begin, tmp_path: Path) -> None:
    """A store that sends on past the range is no store to retry."""
    transfer, _ = begin(ScriptedStore(FILES, lambda *_: "long"))
    await transfer.prepare()
    with pytest.raises(ArtifactError) as caught:
        await transfer.run()
    assert caught.value.code == "artifact_overlong"
    assert all(
        len(data) <= len(FILES.get(name, data)) for name, data in contents(tmp_path / "target").items()
    )


async def test_a_refusal_is_not_retried(begin, clock) -> None:
    """401 now is 401 in a second."""
    transfer, _ = begin(ScriptedStore(FILES, lambda *_: "refuse"))
    await transfer.prepare()
    with pytest.raises(ArtifactError) as caught:
        await transfer.run()
    assert (caught.value.code, clock.slept) == ("unauthorized", [])


async def test_a_flipped_bit_is_fetched_again(begin, tmp_path: Path) -> None:
    """A file with a wrong hash is fetched once more, alone, and then passes."""
    store = ScriptedStore(
        FILES, lambda path, start, nth: "flip" if (path, start) == ("b.safetensors", 0) and nth < 9 else "ok"
    )
    transfer, _ = begin(store, connections=1)
    await transfer.prepare()
    await transfer.run()
    assert contents(tmp_path / "target") == FILES
    assert sum(read[:2] == ("a.safetensors", 0) for read in store.reads) == 1
    assert sum(read[:2] == ("b.safetensors", 0) for read in store.reads) == 2


async def test_bytes_that_stay_wrong_are_refused(begin) -> None:
    """A store that holds other bytes than declared is named, with the file and the expected hash."""
    wrong = FILES | {"b.safetensors": b"x" * 10_000}
    transfer, _ = begin(ScriptedStore(wrong))
    await transfer.prepare()
    with pytest.raises(ArtifactError, match=r"b\.safetensors from scripted://store") as caught:
        await transfer.run()
    assert caught.value.code == "digest_mismatch"


async def test_a_cut_fetch_resumes(begin, tmp_path: Path) -> None:
    """What had arrived is hashed, not fetched; progress starts with it."""
    transfer, _ = begin(
        ScriptedStore(FILES, lambda _path, _start, nth: "refuse" if nth > 5 else "ok"), connections=1
    )
    await transfer.prepare()
    with pytest.raises(ArtifactError):
        await transfer.run()
    store = ScriptedStore(FILES)
    transfer, seen = begin(store)
    kept_bytes = 4 * 4096 + 10  # one of the five was the small file
    assert await transfer.prepare() == 35_010 - kept_bytes
    await transfer.run()
    assert contents(tmp_path / "target") == FILES
    assert seen[0].done_bytes >= kept_bytes
    assert sum(stop - start for _, start, stop in store.reads) == 35_010 - kept_bytes


async def test_a_lying_journal_does_no_harm(begin, tmp_path: Path) -> None:
    """Parts that the journal calls done but a power cut lost are noticed by the hash and fetched again."""
    manifest = manifest_of(FILES)
    target = tmp_path / "target"
    lines = [f"0 {part}" for part in range(7)]
    (tmp_path / "journal").write_text("\n".join([f"{manifest.digest} 4096", *lines]) + "\n")
    (target / "a.safetensors").write_bytes(b"\0" * 25_000)
    transfer, _ = begin(ScriptedStore(FILES))
    await transfer.prepare()
    await transfer.run()
    assert contents(target) == FILES


@pytest.mark.parametrize("torn", [b"\xff\xfe", b"other 4096\n0 0\n", b"", b"\n\n"])
async def test_a_strange_journal_counts_for_nothing(begin, tmp_path: Path, torn: bytes) -> None:
    """Another artifact's or an unreadable journal starts the fetch anew."""
    (tmp_path / "journal").write_bytes(torn)
    transfer, _ = begin(ScriptedStore(FILES))
    assert await transfer.prepare() == 35_010
    await transfer.run()
    assert contents(tmp_path / "target") == FILES
