"""A real S3 API (moto's server) on a free loopback port."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import boto3
from fakes.ports import free_port


class ObjectStore:
    """Bucket `weights` exists; `options` is the file that StoreSettings wants."""

    def __init__(self, root: Path) -> None:
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self.options = root / "s3.json"
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_region": "eu-central-1"}
        self.options.write_text(json.dumps(keys | {"aws_endpoint": self.endpoint}))
        self._port = port
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> ObjectStore:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    break
            time.sleep(0.05)
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="eu-central-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.client.create_bucket(
            Bucket="weights", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        return self

    def upload(self, root: Path, prefix: str) -> None:
        for path in root.rglob("*"):
            if path.is_file():
                self.client.upload_file(str(path), "weights", f"{prefix}/{path.relative_to(root).as_posix()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait()
