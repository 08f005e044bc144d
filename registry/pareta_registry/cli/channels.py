"""Channel commands of `pareta-registry`: promote, sign, compare and remove published catalogs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from pareta_registry.artifacts.manifest import MANIFEST_NAME, SIGNATURE_NAME, parse_manifest
from pareta_registry.catalog import Catalog
from pareta_registry.channels import channel as channels
from pareta_registry.channels.difference import difference
from pareta_registry.cli.options import (
    CaOption,
    ChannelOption,
    DockerOption,
    JsonOption,
    KeyOption,
    emit,
    note,
)
from pareta_registry.documents.document_store import DocumentWriter
from pareta_registry.documents.open_documents import writable_documents
from pareta_registry.load import load_catalog, parse_catalog
from pareta_registry.publish.oci_publisher import sign_published
from pareta_registry.signing import keys as signing_keys
from pareta_registry.signing.model_signature import sign_manifest
from pareta_registry.stores import StoreSettings

T = TypeVar("T")


def promote(
    catalog: Annotated[str, typer.Argument(help="A catalog directory, channel:NAME, or a published digest.")],
    root: Annotated[str, typer.Argument(help="Place of publication: a directory, or oci://host/repository.")],
    channel: ChannelOption = "stable",
    key: KeyOption = None,
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point a channel at a catalog: publish a directory first, or return to a catalog published before."""
    keys = [signing_keys.read_private(path) for path in key or ()]

    async def work(place: DocumentWriter) -> channels.Pointer:
        kind, _, name = catalog.partition(":")
        if kind in ("sha256", "channel"):
            digest = catalog if kind == "sha256" else await channels.catalog_of(place, name)
            return await channels.retag(place, digest, channel, keys)
        return await channels.promote(place, load_catalog(Path(catalog)), channel, keys)

    pointer = _at(root, StoreSettings(docker_config=docker_config, ca_file=ca_file), work)
    emit(pointer.model_dump() | {"signatures": len(keys)}, as_json)
    if not keys:
        note("the channel is not signed: nodes with a pinned key refuse it (sign with --key)")


def sign(
    target: Annotated[
        str,
        typer.Argument(help="An artifact (directory, oci://…@sha256:…), or a place of publication."),
    ],
    key: KeyOption = None,
    channel: ChannelOption = "stable",
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign an artifact or a channel's pointer, and replace the present signatures."""
    if not key:
        raise typer.BadParameter("give at least one --key")
    keys = [signing_keys.read_private(path) for path in key]
    settings = StoreSettings(docker_config=docker_config, ca_file=ca_file)
    written = Path(target, MANIFEST_NAME)
    if "@sha256:" in target:
        manifest = asyncio.run(sign_published(target, keys[0], settings))
        emit({"artifact": manifest.digest, "signatures": 1}, as_json)
    elif written.is_file():
        manifest = parse_manifest(written.read_bytes(), target)
        written.with_name(SIGNATURE_NAME).write_bytes(sign_manifest(manifest, keys[0]))
        emit({"artifact": manifest.digest, "signatures": 1}, as_json)
    else:
        pointer = _at(target, settings, lambda place: channels.sign(place, channel, keys))
        emit(pointer.model_dump() | {"signatures": len(keys)}, as_json)


def _at(root: str, settings: StoreSettings, work: Callable[[DocumentWriter], Awaitable[T]]) -> T:
    """Runs `work` with the document store of `root`: a path, or oci://."""

    async def run() -> T:
        source = root if "://" in root else Path(root).absolute().as_uri()
        place = writable_documents(source, settings)
        try:
            return await work(place)
        finally:
            await place.close()

    return asyncio.run(run())


def diff(
    before: Annotated[
        str, typer.Argument(help="A catalog directory, or with --at channel:NAME or a digest.")
    ],
    after: Annotated[str, typer.Argument(help="The catalog to compare with, in the same form.")],
    at: Annotated[
        str | None, typer.Option("--at", help="Place of publication: a directory, or oci://….")
    ] = None,
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the changes between two catalogs; exit code 1 if there are any."""
    settings = StoreSettings(docker_config=docker_config, ca_file=ca_file)
    changes = difference(*(_catalog(name, at, settings) for name in (before, after)))
    if as_json:
        fields = ("kind", "where", "before", "after")
        emit([{name: getattr(change, name) for name in fields} for change in changes], True)
    else:
        sys.stdout.writelines(f"{change}\n" for change in changes)
    if changes:
        raise typer.Exit(1)


def _catalog(name: str, at: str | None, settings: StoreSettings) -> Catalog:
    kind, _, channel = name.partition(":")
    if kind not in ("sha256", "channel"):
        return load_catalog(Path(name))
    if at is None:
        raise typer.BadParameter(f"{name} is in a place of publication: name that place with --at")

    async def read(place: DocumentWriter) -> Catalog:
        digest = name if kind == "sha256" else await channels.catalog_of(place, channel)
        return parse_catalog(await channels.read_catalog(place, digest), channels.catalog_path(digest))

    return _at(at, settings, read)


def gc(
    root: Annotated[str, typer.Argument(help="Place of publication: a directory, or oci://….")],
    delete: Annotated[bool, typer.Option("--delete", help="Delete. Default: list only.")] = False,
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """List or delete published catalogs without a channel."""

    async def work(place: DocumentWriter) -> list[str]:
        unused = await channels.unused_catalogs(place)
        if delete:
            for digest in unused:
                await place.remove(channels.catalog_path(digest))
        return unused

    settings = StoreSettings(docker_config=docker_config, ca_file=ca_file)
    emit({"deleted" if delete else "unused": _at(root, settings, work)}, as_json)
