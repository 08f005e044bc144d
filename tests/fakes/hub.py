"""The routes of the Hugging Face hub that a download needs, over one directory: tree, revision, resolve."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType

from aiohttp import web

COMMIT = "a" * 40


class Hub:
    """Serves `root` as org/model at COMMIT and at main; big files carry an LFS hash. `token` guards all of it."""

    def __init__(self, root: Path, token: str | None = None) -> None:
        self._root = root
        self._token = token
        self._runner: web.AppRunner | None = None
        self._sha256: dict[str, str] = {}
        self.endpoint = ""

    async def __aenter__(self) -> Hub:
        app = web.Application()
        app.router.add_get("/api/models/org/model/revision/{revision}", self._revision)
        app.router.add_get("/api/models/org/model/tree/{revision}", self._tree)
        app.router.add_get("/org/model/resolve/{revision}/{path:.+}", self._resolve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.endpoint = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def _admit(self, request: web.Request) -> None:
        if self._token and request.headers.get("Authorization") != f"Bearer {self._token}":
            raise web.HTTPUnauthorized
        if request.match_info["revision"] not in (COMMIT, "main"):
            raise web.HTTPNotFound

    def _files(self) -> list[Path]:
        return sorted(path for path in self._root.rglob("*") if path.is_file())

    def _hash(self, path: Path) -> str:
        name = path.relative_to(self._root).as_posix()
        if name not in self._sha256:
            with path.open("rb") as file:
                self._sha256[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._sha256[name]

    async def _revision(self, request: web.Request) -> web.Response:
        self._admit(request)
        names = [{"rfilename": path.relative_to(self._root).as_posix()} for path in self._files()]
        return web.json_response({"id": "org/model", "sha": COMMIT, "siblings": names})

    async def _tree(self, request: web.Request) -> web.Response:
        self._admit(request)
        entries = []
        for path in self._files():
            size = path.stat().st_size
            entry: dict[str, object] = {
                "type": "file",
                "path": path.relative_to(self._root).as_posix(),
                "size": size,
            }
            if path.suffix == ".safetensors":
                entry["lfs"] = {"oid": self._hash(path), "size": size, "pointerSize": 130}
            entries.append(entry | {"oid": "b" * 40})
        return web.json_response(entries)

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        path = self._root / request.match_info["path"]
        if not path.is_file():
            raise web.HTTPNotFound
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{self._hash(path)}"'}
        return web.FileResponse(path, headers=headers, chunk_size=1 << 20)
