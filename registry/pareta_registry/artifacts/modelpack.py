"""ModelPack: converts an artifact to a CNCF ModelPack manifest (v0.0.7), one file a layer, and back. Pure.

Media types: https://github.com/modelpack/model-spec. Only raw layers are read, because an archive could hold any
file.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from pareta_registry.artifacts.manifest import ArtifactFile, Manifest
from pareta_registry.documents.canonical import canonical_json
from pareta_registry.errors import ArtifactError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_CONFIG_TYPE = "application/vnd.cncf.model.weight.config.v1.raw"
DOC_TYPE = "application/vnd.cncf.model.doc.v1.raw"
CODE_TYPE = "application/vnd.cncf.model.code.v1.raw"
FILE_PATH = "org.cncf.model.filepath"
_TITLE = "org.opencontainers.image.title"
_RAW_TYPES = (WEIGHT_TYPE, WEIGHT_CONFIG_TYPE, DOC_TYPE, CODE_TYPE)


def model_config(manifest: Manifest) -> bytes:
    """The config blob, for readers of ModelPack."""
    return canonical_json(
        {
            "descriptor": {"title": manifest.digest},
            "config": {"format": "safetensors"},
            "modelfs": {"type": "layers", "diffIds": [f"sha256:{file.sha256}" for file in manifest.files]},
        }
    )


def pack(manifest: Manifest, config_digest: str, config_bytes: int) -> bytes:
    """The OCI manifest to push after the blobs; the same artifact gives the same bytes."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config_digest, "size": config_bytes},
            "layers": [
                {
                    "mediaType": _media_type(file.path),
                    "digest": f"sha256:{file.sha256}",
                    "size": file.size_bytes,
                    "annotations": {FILE_PATH: file.path},
                }
                for file in manifest.files
            ],
        }
    )


def unpack(data: bytes, where: str) -> Manifest:
    """The artifact in an OCI manifest; ArtifactError for another manifest or refused files."""
    try:
        document = json.loads(data)
        if document.get("artifactType") != ARTIFACT_TYPE:
            raise _refused(where, f"its artifact type is {document.get('artifactType')!r}")
        return Manifest(files=tuple(_file(layer, where) for layer in document["layers"]))
    except ValidationError as error:
        raise _refused(where, error.errors(include_url=False, include_context=False)[0]["msg"]) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _refused(where, "the document is malformed") from None


def _file(layer: dict[str, Any], where: str) -> ArtifactFile:
    if layer["mediaType"] not in _RAW_TYPES:
        raise _refused(where, f"a layer is {layer['mediaType']!r}, only raw files are read")
    annotations = layer["annotations"]
    algorithm, _, digest = layer["digest"].partition(":")
    if algorithm != "sha256":
        raise _refused(where, f"a layer is named by {algorithm}")
    path = annotations.get(FILE_PATH) or annotations[_TITLE]
    return ArtifactFile(path=path, sha256=digest, size_bytes=layer["size"])


def _media_type(path: str) -> str:
    if path.endswith(".safetensors"):
        return WEIGHT_TYPE
    if path.endswith(".py"):
        return CODE_TYPE
    return DOC_TYPE if path.endswith(".md") or path in ("LICENSE", "NOTICE") else WEIGHT_CONFIG_TYPE


def _refused(where: str, reason: str) -> ArtifactError:
    return ArtifactError(
        "manifest_invalid",
        f"the manifest at {where} is no model that can be loaded: {reason}",
        "publish the artifact with `pareta-registry publish`",
    )
