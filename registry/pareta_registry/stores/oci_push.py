"""OCI push: uploads blobs and manifests into a repository of an OCI registry."""

from __future__ import annotations

from typing import Any

from yarl import URL

from pareta_registry.artifacts.modelpack import MANIFEST_TYPE
from pareta_registry.documents.canonical import canonical_json, sha256_digest
from pareta_registry.errors import ArtifactError
from pareta_registry.stores.oci_repository import OciRepository

_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


async def put_document(
    repository: OciRepository, tag: str, kind: str, data: bytes, subject: dict[str, Any] | None = None
) -> None:
    """Pushes a small document of media type `kind` under `tag`, as an OCI artifact of its own."""
    layers = []
    for media_type, blob in ((_EMPTY_TYPE, _EMPTY), (kind, data)):
        digest = sha256_digest(blob)
        if not await has_blob(repository, digest):
            await push_blob(repository, digest, len(blob), blob)
        layers.append({"mediaType": media_type, "digest": digest, "size": len(blob)})
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": kind,
        "config": layers[0],
        "layers": layers[1:],
    }
    if subject:
        document["subject"] = subject
    await put_manifest(repository, tag, canonical_json(document))


async def remove_tagged(repository: OciRepository, tag: str) -> None:
    """Deletes the manifest under a tag; the registry's garbage collection removes the blobs."""
    manifest = await repository.tagged(tag)
    if manifest is None:
        return
    url = repository.url("manifests", sha256_digest(manifest))
    async with repository.request("DELETE", url) as response:
        if response.status in (400, 405):
            raise ArtifactError(
                "store_refused",
                f"{repository.where} refuses deletion with {response.status}",
                f"enable deletion in that registry, or remove the tag {tag} with the registry's own tools",
            )
        repository.http.check(response, url)


async def has_blob(repository: OciRepository, digest: str) -> bool:
    url = repository.url("blobs", digest)
    async with repository.request("HEAD", url) as response:
        if response.status == 404:
            return False
        repository.http.check(response, url)
        return True


async def push_blob(repository: OciRepository, digest: str, size_bytes: int, body: Any) -> None:
    start = repository.url("blobs", "uploads/")
    async with repository.request("POST", start, {"Content-Length": "0"}) as response:
        repository.http.check(response, start)
        location = response.headers.get("Location", "")
    if not location:
        raise ArtifactError(
            "store_refused", f"{start.host} sent no upload location", "check the registry's log"
        )
    url = start.join(URL(location, encoded=True))
    query = f"{url.raw_query_string}&" if url.raw_query_string else ""
    upload = URL(f"{url.with_query(None)}?{query}digest={digest}", encoded=True)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
    async with repository.request("PUT", upload, headers, body) as response:
        repository.http.check(response, upload)


async def put_manifest(repository: OciRepository, reference: str, document: bytes) -> None:
    url = repository.url("manifests", reference)
    async with repository.request("PUT", url, {"Content-Type": MANIFEST_TYPE}, document) as response:
        repository.http.check(response, url)
