"""A package index over HTTP (PEP 503) of wheels that hold next to nothing; it remembers what was fetched."""

from __future__ import annotations

import functools
import re
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def write_wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any", **files: str) -> Path:
    """A wheel; `files` are modules by name, else one of the package's own."""
    folder.mkdir(parents=True, exist_ok=True)
    module = re.sub(r"[-.]+", "_", name)
    info = f"{module}-{version}.dist-info"
    held = {f"{one}/__init__.py": body for one, body in (files or {module: ""}).items()} | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for one, text in held.items():
            archive.writestr(one, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{one},,\n" for one in [*held, f"{info}/RECORD"]))
    return path


class PackageIndex:
    """Serves `root`, whose folders are packages. `fetched` are the wheels that somebody asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fetched: list[str] = []
        fetched = self.fetched

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.endswith(".whl"):
                    fetched.append(self.path.rsplit("/", 1)[1])
                super().do_GET()

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def add(
        self, name: str, version: str, tag: str = "py3-none-any", *, under: str = "", **files: str
    ) -> None:
        write_wheel(self.root / under / name, name, version, tag, **files)

    def __enter__(self) -> PackageIndex:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
