"""OCI repository: sends authorized requests to a repository of an OCI registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from yarl import URL

from pareta_registry.artifacts.manifest import MAX_MANIFEST_BYTES
from pareta_registry.artifacts.modelpack import MANIFEST_TYPE
from pareta_registry.documents.canonical import read_json, sha256_digest
from pareta_registry.errors import ArtifactError
from pareta_registry.stores.connection import StoreResponse
from pareta_registry.stores.credentials import docker_credentials
from pareta_registry.stores.http import HttpClient, next_page
from pareta_registry.stores.oci_auth import Authorizer
from pareta_registry.stores.oci_reference import OciReference
from pareta_registry.stores.settings import StoreSettings


class OciRepository:
    """`actions` is the scope of a bearer token: `pull`, `pull,push` or `pull,delete`.

    The last small blob is stored, so that a program that polls a tag downloads a blob once.
    """

    def __init__(self, reference: OciReference, settings: StoreSettings, actions: str = "pull") -> None:
        self.reference = reference
        self._origin = reference.origin(settings.plain_http)
        self.where = f"oci://{reference.host}/{reference.name}"
        self.http = HttpClient(settings, self.where)
        self._blobs: dict[str, bytes] = {}
        self._authorizer = Authorizer(
            self.http,
            self._origin,
            f"repository:{reference.name}:{actions}",
            docker_credentials(settings.docker_config, reference.host),
        )

    def url(self, kind: str, reference: str) -> URL:
        """`kind` is `blobs` or `manifests`."""
        return URL(f"{self._origin}/v2/{self.reference.name}/{kind}/{reference}", encoded=True)

    @asynccontextmanager
    async def request(
        self, method: str, url: URL, headers: Mapping[str, str] | None = None, data: Any = None
    ) -> AsyncIterator[StoreResponse]:
        """The answer. Refused credentials are renewed once, so `data` must be readable twice."""
        sent = self._authorizer.headers
        async with self.http.request(method, url, {**(headers or {}), **sent}, data) as response:
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.status != 401 or not challenge:
                yield response
                return
        await self._authorizer.renew(challenge, sent)
        async with self.http.request(
            method, url, {**(headers or {}), **self._authorizer.headers}, data
        ) as response:
            yield response

    async def manifest(self) -> bytes:
        """The manifest as stored in the registry, checked against the reference's digest, if any."""
        wanted = self.reference.reference
        url = self.url("manifests", wanted)
        async with self.request("GET", url, {"Accept": MANIFEST_TYPE}) as response:
            self.http.check(response, url)
            data = await self._bounded(response, url)
        if wanted.startswith("sha256:") and sha256_digest(data) != wanted:
            raise ArtifactError(
                "digest_mismatch",
                f"{self.reference.host} sent another manifest than {wanted}",
                "use another mirror",
            )
        return data

    async def tagged(self, tag: str) -> bytes | None:
        """The manifest under another tag, None for an unknown tag."""
        url = self.url("manifests", tag)
        async with self.request("GET", url, {"Accept": MANIFEST_TYPE}) as response:
            if response.status == 404:
                return None
            self.http.check(response, url)
            return await self._bounded(response, url)

    async def tags(self) -> list[str]:
        """All tags of the repository; empty for an unknown repository."""
        found: list[str] = []
        url: URL | None = URL(f"{self._origin}/v2/{self.reference.name}/tags/list", encoded=True)
        while url is not None:
            async with self.request("GET", url) as response:
                if response.status == 404:
                    return []
                self.http.check(response, url)
                page = read_json(await self._bounded(response, url))
                found += page.get("tags") or []
                url = next_page(url, response)
        return found

    async def document(self, tag: str, kind: str, max_bytes: int) -> bytes | None:
        """The small document of media type `kind` that `put_document` stored under `tag`, None for none."""
        manifest = await self.tagged(tag)
        if manifest is None:
            return None
        try:
            layers = {str(layer["mediaType"]): layer for layer in read_json(manifest)["layers"]}
            digest, size = str(layers[kind]["digest"]), int(layers[kind]["size"])
        except (TypeError, KeyError, ValueError):
            raise ArtifactError(
                "manifest_invalid",
                f"{self.where}:{tag} holds no {kind}",
                "publish the document again, or correct the address",
            ) from None
        if size > max_bytes:
            raise ArtifactError(
                "manifest_invalid",
                f"{self.where}:{tag} is longer than {max_bytes} bytes",
                "correct the address",
            )
        return await self._blob(digest, size)

    async def _blob(self, digest: str, size: int) -> bytes:
        if digest in self._blobs:
            return self._blobs[digest]
        url = self.url("blobs", digest)
        async with self.request("GET", url) as response:
            self.http.check(response, url)
            data = await self.http.body(response, size + 1)
        if sha256_digest(data) != digest:
            raise ArtifactError(
                "digest_mismatch",
                f"{self.reference.host} sent another blob than {digest}",
                "publish it again",
            )
        self._blobs = {digest: data}
        return data

    async def _bounded(self, response: StoreResponse, url: URL) -> bytes:
        data = await self.http.body(response, MAX_MANIFEST_BYTES + 1)
        if len(data) > MAX_MANIFEST_BYTES:
            raise ArtifactError(
                "manifest_invalid", f"the manifest of {url} is too large", "publish the artifact again"
            )
        return data

    async def close(self) -> None:
        await self.http.close()
