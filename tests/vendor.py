"""A vendor's API as evals meet it, and the roster that names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

_ENTRY = (
    '[[models]]\nid = "{id}"\nvendor = "Vendor"\nbase_url = "http://127.0.0.1:{port}/v1"\nmodel = "large"\n'
    'key_file = "{key}"\nvision = {vision}\n[models.price]\ninput_micro_usd_per_mtok = 5000000\n'
    "cached_input_micro_usd_per_mtok = 0\noutput_micro_usd_per_mtok = 10000000\n"
)


class VendorApi(BaseHTTPRequestHandler):
    """Refuses another key, answers the same to everybody, says what it used; `server.asked` has the bodies."""

    def do_POST(self) -> None:
        size = int(self.headers["content-length"])
        self.server.asked.append(json.loads(self.rfile.read(size)))  # type: ignore[attr-defined]
        known = self.headers["authorization"] == "Bearer vendor-secret"
        body: dict[str, Any] = {"error": {"message": "who are you?"}}
        if known:
            message = {"role": "assistant", "content": "Rome"}
            usage = {"prompt_tokens": 1000, "completion_tokens": 10}
            body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        said = json.dumps(body).encode()
        self.send_response(200 if known else 401)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def vendor_api() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), VendorApi)
    server.asked = []  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def roster(place: Path, port: int) -> Path:
    """Two models, one that sees, and one whose key is not there."""
    (place / "key").write_text("vendor-secret\n")
    rows = (("vendor-large", place / "key", "true"), ("vendor-blind", place / "no-key", "false"))
    told = place / "roster.toml"
    told.write_text("".join(_ENTRY.format(id=i, port=port, key=k, vision=v) for i, k, v in rows))
    return told
