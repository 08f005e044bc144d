"""A real `docker-registry` on a free loopback port, in a temporary directory."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

import pytest
from fakes.ports import free_port

BINARY = shutil.which("docker-registry")
needs_registry = pytest.mark.skipif(BINARY is None, reason="needs Debian's docker-registry")


class Registry:
    """`extra` is merged into its configuration (`auth`, `http.tls` …)."""

    def __init__(
        self, root: Path, extra: dict[str, object] | None = None, tls: dict[str, str] | None = None
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.host = f"127.0.0.1:{free_port()}"
        http: dict[str, object] = {"addr": self.host, "secret": "test", "debug": {}}
        if tls:
            http["tls"] = tls
        storage = {"filesystem": {"rootdirectory": str(root / "data")}, "delete": {"enabled": True}}
        config = {"version": 0.1, "log": {"level": "error"}, "storage": storage, "http": http} | (extra or {})
        path = root / "config.json"
        path.write_text(json.dumps(config))
        self.data = root / "data"
        self._config = path
        self._log = (root / "log").open("wb")
        self.start()

    def start(self) -> None:
        """Begins, or begins again at the same address with what it has on its disk."""
        self._process = subprocess.Popen(
            [str(BINARY), "serve", str(self._config)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self._config.parent,
        )

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def blob_reads(self) -> list[str]:
        """The digests of the blobs that somebody has read, by its access log, once for each request."""
        return re.findall(r'"GET /v2/\S+/blobs/(sha256:\w+) ', Path(self._log.name).read_text())

    def answering(self) -> Registry:
        """Itself, once it listens."""
        host, port = self.host.split(":")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    return self
            assert self._process.poll() is None, Path(self._log.name).read_text()
            time.sleep(0.02)
        raise AssertionError("docker-registry did not start")

    def __enter__(self) -> Registry:
        return self.answering()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._log.close()
