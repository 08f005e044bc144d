"""Registry server: serves a directory of published catalogs over HTTP, read-only.

GET /channels/<name>.json and /catalogs/sha256-<hex>.json with ETags, and GET /livez.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

from aiohttp import web

from pareta_registry.documents.canonical import sha256_digest

_NAME = re.compile(r"(channels/[a-z0-9][a-z0-9.-]{0,62}|catalogs/sha256-[0-9a-f]{64})\.json")


def make_app(root: Path) -> web.Application:
    async def document(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        path = root / name
        if not _NAME.fullmatch(name) or not path.is_file():
            raise web.HTTPNotFound(text='{"error": "no such document"}', content_type="application/json")
        data = await asyncio.to_thread(path.read_bytes)
        etag = f'"{sha256_digest(data)}"'
        # A catalog is named by digest and never changes; a channel is revalidated each time.
        cache = "public, max-age=31536000, immutable" if name.startswith("catalogs/") else "no-cache"
        headers = {"ETag": etag, "Cache-Control": cache}
        if etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=data, content_type="application/json", headers=headers)

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get(r"/{name:[a-z]+/[^/]+}", document)
    return app


async def serve(root: Path, host: str, port: int, tls: ssl.SSLContext | None = None) -> web.AppRunner:
    """Listens and returns; `cleanup` of the runner ends the server."""
    runner = web.AppRunner(make_app(root), access_log=None, shutdown_timeout=5)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    return runner
