"""Publishing commands of `pareta-registry`: start a catalog, make artifacts, publish artifacts."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pareta_registry.cli import channels, serve, template
from pareta_registry.cli.options import BucketOption, CaOption, DockerOption, JsonOption, emit, note, wrote
from pareta_registry.errors import ArtifactError
from pareta_registry.files import write_atomically
from pareta_registry.importers.hf_checkpoint import describe, import_checkpoint
from pareta_registry.importers.peft import add_adapter
from pareta_registry.load import load_catalog
from pareta_registry.publish.oci_publisher import pinned
from pareta_registry.publish.target import publish_anywhere
from pareta_registry.schema import catalog_schema
from pareta_registry.signing import keys as signing_keys
from pareta_registry.stores import StoreSettings


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    for name, verb in _VERBS.items():
        app.command(name)(verb)


def init(path: Path, as_json: JsonOption = False) -> None:
    """Start a catalog in the new directory PATH: one task, one model, and the schema for editors."""
    wrote(template.write(path), as_json)


def add(
    artifact: Annotated[Path, typer.Argument(help="An artifact directory, the output of `import`.")],
    catalog: Annotated[Path, typer.Argument(help="The catalog directory.")],
    model: Annotated[str, typer.Option("--id", help="The model's id, or the adapter's name.")],
    license_: Annotated[str | None, typer.Option("--license", help="The model's SPDX license.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="The model of a LoRA adapter.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Source for nodes. An oci:// tag is pinned to a digest. Default: the artifact directory."
        ),
    ] = None,
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add the model of an artifact to a catalog, or a LoRA adapter to a model of the catalog."""
    document = describe(artifact)
    if source and source.startswith("oci://") and "@sha256:" not in source:
        settings = StoreSettings(docker_config=docker_config, ca_file=ca_file)
        stored = document["variants"][0] if "variants" in document else document
        source = asyncio.run(pinned(source, stored["artifact"], settings))
    if to is not None:
        entry = document | {"name": model} | ({"source": source} if source else {})
        wrote([add_adapter(catalog, to, entry)], as_json)
        return
    target = catalog / f"{model}.yaml"
    if os.path.lexists(target):
        raise ArtifactError(
            "target_exists", f"{target} exists already", "edit the file, or choose another --id"
        )
    if license_ is None or "variants" not in document:
        raise typer.BadParameter("a model requires --license, a LoRA adapter requires --to")
    document |= {"id": model, "license": license_}
    if source:
        document["variants"][0]["source"] = source
    text = f"{template.SCHEMA_LINE}\n" + yaml.safe_dump(document, sort_keys=False)
    load_catalog(catalog, {target: text})
    write_atomically(target, text.encode())
    wrote([target], as_json)


def import_model(
    source: Annotated[
        str,
        typer.Argument(help="A Hugging Face directory, a GGUF file, or hf://, oci://, s3://, gs://, az://…"),
    ],
    target: Annotated[Path, typer.Argument(help="The artifact directory to write.")],
    docker_config: DockerOption = None,
    ca_file: CaOption = None,
    hf_endpoint: Annotated[
        str | None, typer.Option(envvar="PARETA_REGISTRY_HF_ENDPOINT", help="URL of the hub mirror.")
    ] = None,
    hf_token_file: Annotated[
        Path | None,
        typer.Option(envvar="PARETA_REGISTRY_HF_TOKEN_FILE", help="File with the hub mirror's token."),
    ] = None,
    object_store_file: BucketOption = None,
    with_code: Annotated[
        bool, typer.Option("--with-code", help="Include a directory's Python, for trust_remote_code.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an artifact from a checkpoint, and print the model document."""
    settings = StoreSettings(
        docker_config=docker_config,
        ca_file=ca_file,
        hf_endpoint=hf_endpoint,
        hf_token_file=hf_token_file,
        object_store_file=object_store_file,
    )
    document = import_checkpoint(source, target, settings, code=with_code)
    if as_json:
        emit(document, True)
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
    """Push an artifact to an OCI registry, as a ModelPack, or copy an artifact into a bucket."""
    settings = StoreSettings(
        docker_config=docker_config, ca_file=ca_file, object_store_file=object_store_file
    )
    private = signing_keys.read_private(key) if key else None
    manifest, source = asyncio.run(publish_anywhere(artifact, target, settings, private))
    emit({"artifact": manifest.digest, "source": source, "bytes": manifest.total_bytes}, as_json)


def keygen(
    path: Annotated[Path, typer.Argument(help="The private key; PATH.pub is the public one.")],
    as_json: JsonOption = False,
) -> None:
    """Make a signing key."""
    public = path.with_name(path.name + ".pub")
    if os.path.lexists(path) or os.path.lexists(public):
        raise ArtifactError("target_exists", f"{path} exists already", "choose another name")
    private_pem, public_pem = signing_keys.generate()
    path.touch(mode=0o600)
    path.write_bytes(private_pem)
    public.write_bytes(public_pem)
    wrote([path, public], as_json)
    note(f"keep {path.name} secret; pin {public.name} on nodes")


def schema() -> None:
    """Print the JSON Schema of catalog documents, for editors."""
    emit(catalog_schema(), True)


_VERBS: Mapping[str, Callable[..., None]] = {
    "init": init,
    "import": import_model,
    "add": add,
    "publish": publish_artifact,
    "keygen": keygen,
    "promote": channels.promote,
    "sign": channels.sign,
    "diff": channels.diff,
    "gc": channels.gc,
    "serve": serve.serve,
    "schema": schema,
}
