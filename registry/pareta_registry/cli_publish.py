"""The verbs of `pareta-registry` that write: start a catalog, publish artifacts, promote and serve catalogs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pareta_registry import channel as channels
from pareta_registry import cli_serve, starter
from pareta_registry import keys as signing_keys
from pareta_registry.adapters import add_adapter
from pareta_registry.difference import difference
from pareta_registry.documents import DocumentWriter, writable_documents
from pareta_registry.errors import ArtifactError
from pareta_registry.importing import describe, import_checkpoint
from pareta_registry.load import load_catalog
from pareta_registry.manifest import MANIFEST_NAME, SIGNATURE_NAME, parse_manifest
from pareta_registry.model_signature import sign_manifest
from pareta_registry.publish import pinned, sign_published
from pareta_registry.publish_anywhere import publish_anywhere
from pareta_registry.schema import catalog_schema
from pareta_registry.stores import StoreSettings

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyOption = Annotated[
    list[Path] | None, typer.Option("--key", help="Private key to sign with; may be given several times.")
]
BucketOption = Annotated[
    Path | None,
    typer.Option(
        "--object-store-file", envvar="PARETA_REGISTRY_OBJECT_STORE_FILE", help="JSON of obstore's options."
    ),
]
ChannelOption = Annotated[str, typer.Option("--channel", help="The channel to point.")]
DockerOption = Annotated[
    Path | None,
    typer.Option("--docker-config", envvar="PARETA_REGISTRY_DOCKER_CONFIG", help="config.json with `auths`."),
]
CaOption = Annotated[
    Path | None, typer.Option("--ca-file", envvar="PARETA_REGISTRY_CA_FILE", help="CA bundle (PEM).")
]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the program."""
    for name, verb in _VERBS.items():
        app.command(name)(verb)


def init(path: Path, as_json: JsonOption = False) -> None:
    """Start a catalog in the new directory PATH: one task, one model, and the schema for editors."""
    _wrote(starter.write(path), as_json)


def add(
    artifact: Annotated[Path, typer.Argument(help="An artifact directory, as `import` makes it.")],
    catalog: Annotated[Path, typer.Argument(help="The catalog directory.")],
    model: Annotated[str, typer.Option("--id", help="The model's id, or the adapter's name.")],
    license_: Annotated[str | None, typer.Option("--license", help="The model's SPDX license.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="The model that a LoRA adapter is for.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Where nodes fetch it (default: this directory); an oci:// tag is pinned to its digest."
        ),
    ] = None,
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add the model of an artifact to a catalog, or a LoRA adapter to one of its models."""
    document = describe(artifact)
    if source and source.startswith("oci://") and "@sha256:" not in source:
        settings = StoreSettings(docker_config=docker_config, ca_file=ca_file)
        stored = document["variants"][0] if "variants" in document else document
        source = asyncio.run(pinned(source, stored["artifact"], settings))
    if to is not None:
        entry = document | {"name": model} | ({"source": source} if source else {})
        _wrote([add_adapter(catalog, to, entry)], as_json)
        return
    target = catalog / f"{model}.yaml"
    if target.exists():
        raise ArtifactError("target_exists", f"{target} is there already", "edit it, or choose another --id")
    if license_ is None or "variants" not in document:
        raise typer.BadParameter("a model needs --license, and a LoRA adapter needs --to its model")
    document |= {"id": model, "license": license_}
    if source:
        document["variants"][0]["source"] = source
    target.write_text(f"{starter.SCHEMA_LINE}\n" + yaml.safe_dump(document, sort_keys=False))
    load_catalog(catalog)
    _wrote([target], as_json)


def import_model(
    source: Annotated[
        str,
        typer.Argument(help="A Hugging Face directory, a GGUF file, or hf://, oci://, s3://, gs://, az://…"),
    ],
    target: Annotated[Path, typer.Argument(help="The artifact directory to write.")],
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    hf_endpoint: Annotated[
        str | None, typer.Option(envvar="PARETA_REGISTRY_HF_ENDPOINT", help="The hub mirror.")
    ] = None,
    hf_token_file: Annotated[
        Path | None, typer.Option(envvar="PARETA_REGISTRY_HF_TOKEN_FILE", help="Its token.")
    ] = None,
    object_store_file: BucketOption = None,
    with_code: Annotated[
        bool, typer.Option("--with-code", help="Take a directory's Python along, for trust_remote_code.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an artifact out of a checkpoint, and print the model document that describes it."""
    settings = StoreSettings(
        docker_config=docker_config,
        ca_file=ca_file,
        hf_endpoint=hf_endpoint,
        hf_token_file=hf_token_file,
        object_store_file=object_store_file,
    )
    document = import_checkpoint(source, target, settings, code=with_code)
    if as_json:
        _print(document, True)
    else:
        sys.stdout.write(yaml.safe_dump(document, sort_keys=False))


def publish_artifact(
    artifact: Annotated[Path, typer.Argument(help="A checkpoint or artifact directory, or a GGUF file.")],
    target: Annotated[
        str, typer.Argument(help="oci://host/repository:tag, or s3://, gs://, az:// with bucket and prefix.")
    ],
    key: Annotated[Path | None, typer.Option("--key", help="Private key to sign the artifact with.")] = None,
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    object_store_file: BucketOption = None,
    as_json: JsonOption = False,
) -> None:
    """Push an artifact to an OCI registry, as a ModelPack, or copy it into a bucket."""
    settings = StoreSettings(
        docker_config=docker_config, ca_file=ca_file, object_store_file=object_store_file
    )
    private = signing_keys.read_private(key) if key else None
    manifest, source = asyncio.run(publish_anywhere(artifact, target, settings, private))
    _print({"artifact": manifest.digest, "source": source, "bytes": manifest.total_bytes}, as_json)


def keygen(
    path: Annotated[Path, typer.Argument(help="The private key; PATH.pub is the public one.")],
    as_json: JsonOption = False,
) -> None:
    """Make a signing key."""
    public = path.with_name(path.name + ".pub")
    if path.exists() or public.exists():
        raise ArtifactError("target_exists", f"{path} is there already", "choose another name")
    private_pem, public_pem = signing_keys.generate()
    path.touch(mode=0o600)
    path.write_bytes(private_pem)
    public.write_bytes(public_pem)
    _wrote([path, public], as_json)
    _say(f"{path.name} stays with you; {public.name} is what nodes pin")


def promote(
    catalog: Annotated[str, typer.Argument(help="A catalog directory, channel:NAME, or a published digest.")],
    root: Annotated[
        str, typer.Argument(help="Where it is published: a directory, or oci://host/repository.")
    ],
    channel: ChannelOption = "stable",
    key: KeyOption = None,
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point a channel at a catalog: publish it first, or go back to one that was published before."""
    keys = [signing_keys.read_private(path) for path in key or ()]

    async def work(place: DocumentWriter) -> channels.Pointer:
        kind, _, name = catalog.partition(":")
        if kind in ("sha256", "channel"):
            digest = catalog if kind == "sha256" else await channels.catalog_of(place, name)
            return await channels.retag(place, digest, channel, keys)
        return await channels.promote(place, load_catalog(Path(catalog)), channel, keys)

    pointer = _at(root, StoreSettings(docker_config=docker_config, ca_file=ca_file), work)
    _print(pointer.model_dump() | {"signatures": len(keys)}, as_json)


def sign(
    target: Annotated[
        str,
        typer.Argument(help="An artifact (directory, oci://…@sha256:…), or where catalogs are published."),
    ],
    key: KeyOption = None,
    channel: ChannelOption = "stable",
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign an artifact, or what a channel points at, replacing the signatures that it has."""
    if not key:
        raise typer.BadParameter("give at least one --key")
    keys = [signing_keys.read_private(path) for path in key]
    settings = StoreSettings(docker_config=docker_config, ca_file=ca_file)
    written = Path(target, MANIFEST_NAME)
    if "@sha256:" in target:
        manifest = asyncio.run(sign_published(target, keys[0], settings))
        _print({"artifact": manifest.digest, "signatures": 1}, as_json)
    elif written.is_file():
        manifest = parse_manifest(written.read_bytes(), target)
        written.with_name(SIGNATURE_NAME).write_bytes(sign_manifest(manifest, keys[0]))
        _print({"artifact": manifest.digest, "signatures": 1}, as_json)
    else:
        pointer = _at(target, settings, lambda place: channels.sign(place, channel, keys))
        _print(pointer.model_dump() | {"signatures": len(keys)}, as_json)


def _at(
    root: str, settings: StoreSettings, work: Callable[[DocumentWriter], Awaitable[channels.Pointer]]
) -> channels.Pointer:
    """Does `work` at the place that `root` names: a path, or oci://."""

    async def run() -> channels.Pointer:
        source = root if "://" in root else Path(root).absolute().as_uri()
        place = writable_documents(source, settings)
        try:
            return await work(place)
        finally:
            await place.close()

    return asyncio.run(run())


def diff(before: Path, after: Path, as_json: JsonOption = False) -> None:
    """Show what changed between two catalogs; exit code 1 when something did."""
    changes = difference(load_catalog(before), load_catalog(after))
    if as_json:
        fields = ("kind", "where", "before", "after")
        _print([{name: getattr(change, name) for name in fields} for change in changes], True)
    else:
        sys.stdout.writelines(f"{change}\n" for change in changes)
    if changes:
        raise typer.Exit(1)


def gc(
    root: Path,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete; without it they are only listed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List or delete published catalogs that no channel points at."""
    unused = channels.unused_catalogs(root)
    if delete:
        for path in unused:
            path.unlink()
    _print({"deleted" if delete else "unused": [path.stem.replace("-", ":", 1) for path in unused]}, as_json)


def schema() -> None:
    """Print the JSON Schema of catalog documents, for editors."""
    _print(catalog_schema(), True)


def _print(value: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{name:12}{item}\n" for name, item in value.items())


def _wrote(paths: Sequence[Path], as_json: bool) -> None:
    if as_json:
        _print({"wrote": [str(path) for path in paths]}, True)
    else:
        for path in paths:
            _say(f"wrote {path}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


_VERBS: Mapping[str, Callable[..., None]] = {
    "init": init,
    "import": import_model,
    "add": add,
    "publish": publish_artifact,
    "keygen": keygen,
    "promote": promote,
    "sign": sign,
    "diff": diff,
    "gc": gc,
    "serve": cli_serve.serve,
    "schema": schema,
}
