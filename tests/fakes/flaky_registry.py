"""An OCI registry over real sockets that misbehaves by script, for one artifact."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from types import TracebackType

from aiohttp import web

from pareta_registry.artifacts.manifest import ArtifactFile, Manifest
from pareta_registry.artifacts.modelpack import MANIFEST_TYPE, pack

Script = Callable[[str, int], str]


class FlakyRegistry:
    """Serves `files` as team/model:1. `script(path, nth blob request)` names a deed; "ok" is none.

    Deeds: stall, truncate, close, short (Content-Length too small), range (another range), flip, 401, 403, 404,
    429, 500, redirect (to another origin on this machine). `authorization` is the header that it wants;
    with `token_uses` it wants bearer tokens that expire after so many requests.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        script: Script = lambda _path, _nth: "ok",
        authorization: str | None = None,
        token_uses: int = 0,
    ) -> None:
        self._token_uses = token_uses
        self._token_left = 0
        self.tokens_granted = 0
        self._authorization = authorization
        self._files = dict(files)
        self._script = script
        self._by_digest = {"sha256:" + hashlib.sha256(data).hexdigest(): path for path, data in files.items()}
        self.requests: list[tuple[str, str]] = []
        self.served_bytes = 0
        self.redirected_headers: list[Mapping[str, str]] = []
        self._runner: web.AppRunner | None = None
        self.host = ""

    @property
    def manifest(self) -> Manifest:
        return Manifest(
            files=tuple(
                ArtifactFile(path=path, sha256=digest[7:], size_bytes=len(self._files[path]))
                for digest, path in self._by_digest.items()
            )
        )

    @property
    def source(self) -> str:
        return f"oci://{self.host}/team/model:1"

    async def __aenter__(self) -> FlakyRegistry:
        app = web.Application()
        app.router.add_get("/v2/team/model/manifests/{reference}", self._manifest)
        app.router.add_get("/v2/team/model/blobs/{digest}", self._blob)
        app.router.add_get("/token", self._token)
        app.router.add_get("/elsewhere/{digest}", self._elsewhere)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def _admit(self, request: web.Request) -> None:
        if self._authorization and request.headers.get("Authorization") != self._authorization:
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="x"'})

        if self._token_uses:
            self._token_left -= 1
            known = request.headers.get("Authorization") == f"Bearer token-{self.tokens_granted}"
            if not known or self._token_left < 0:
                challenge = f'Bearer realm="http://{self.host}/token",service="x"'
                raise web.HTTPUnauthorized(headers={"WWW-Authenticate": challenge})

    async def _token(self, _: web.Request) -> web.Response:
        self.tokens_granted += 1
        self._token_left = self._token_uses
        return web.json_response({"token": f"token-{self.tokens_granted}"})

    async def _manifest(self, request: web.Request) -> web.Response:
        self._admit(request)
        return web.Response(body=pack(self.manifest, "sha256:" + "0" * 64, 2), content_type=MANIFEST_TYPE)

    async def _elsewhere(self, request: web.Request) -> web.StreamResponse:
        self.redirected_headers.append(dict(request.headers))
        return await self._send(request, "ok")

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        path = self._by_digest[request.match_info["digest"]]
        self.requests.append((path, request.headers.get("Range", "")))
        deed = self._script(path, len(self.requests))
        if deed.isdecimal():
            return web.Response(status=int(deed), headers={"Retry-After": "0"} if deed == "429" else {})
        if deed == "redirect":
            port = self.host.split(":")[1]
            location = f"http://localhost:{port}/elsewhere/{request.match_info['digest']}"
            return web.Response(status=307, headers={"Location": location})
        return await self._send(request, deed)

    async def _send(self, request: web.Request, deed: str) -> web.StreamResponse:
        data = self._files[self._by_digest[request.match_info["digest"]]]
        wanted = request.http_range
        start, stop = wanted.start or 0, min(wanted.stop or len(data), len(data))
        body = data[start:stop]
        if deed == "range":
            start, stop = start + 1, stop + 1
        response = web.StreamResponse(
            status=206, headers={"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        )
        response.content_length = len(body) // 2 if deed == "short" else len(body)
        if deed == "flip":
            body = body[:-1] + bytes([body[-1] ^ 8])
        await response.prepare(request)
        sent = len(body) // 2 if deed in ("stall", "truncate", "short", "close") else len(body)
        self.served_bytes += sent
        await response.write(body[:sent])
        if deed == "stall":
            await asyncio.sleep(60)
        if deed in ("truncate", "close") and request.transport is not None:
            request.transport.abort() if deed == "close" else request.transport.close()
        return response
