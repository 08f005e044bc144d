"""Request head: parses the caller's HTTP head, and writes the head of a response. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api.routes import Route
from pareta_agent.gateway.downstream.host_allowlist import Hosts

Headers = list[tuple[bytes, bytes]]
Fields = dict[bytes, bytes]

_STATUS_LINES: Final = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}
JSON: Final = b"application/json"
FORM: Final = b"multipart/form-data"
_NAME: Final = re.compile(rb"[!-~]{1,255}")
_TAG: Final = re.compile(rb"[!-~]{1,128}")
_SINGLE_HEADERS: Final = (
    b"content-length",
    b"host",
    b"authorization",
    b"x-api-key",
    b"content-type",
    b"transfer-encoding",
    b"content-encoding",
    b"expect",
    b"idempotency-key",
)


@dataclass(slots=True)
class RequestHead:
    """The head of an inference request. `problem` is the refusal, sent after the answers before."""

    authorization: bytes
    keep_alive: bool
    http11: bool
    expects_continue: bool
    idempotency_key: bytes | None = None
    origin: bytes | None = None
    client_request_id: bytes | None = None
    problem: Problem | None = None

    @property
    def plain(self) -> bool:
        """True if the head has no unusual fields."""
        given = self.idempotency_key or self.client_request_id
        return self.keep_alive and not (self.expects_continue or given or self.problem)

    def without_key(self) -> RequestHead:
        return replace(self, authorization=b"")

    def with_problem(self, problem: Problem) -> RequestHead:
        return replace(self, problem=self.problem or problem)


def refusal_of(
    method: bytes, headers: Headers, fields: Fields, http11: bool, hosts: Hosts
) -> tuple[str, Problem] | None:
    """The refusal of a request on any route, which ends the connection: the metric's reason, and the answer."""
    reason = "connect" if method == b"CONNECT" else _broken_framing(headers, fields, http11)
    if reason is not None:
        return reason, Problem("bad_http")
    code = hosts.refusal(fields.get(b"host"))
    return ("host", Problem(code)) if code else None


def _broken_framing(headers: Headers, fields: Fields, http11: bool) -> str | None:
    """The reason for which a request's framing is ambiguous; None for sound framing."""
    if len(fields) < len(headers) and (twice := _repeated_header(headers)):
        return f"duplicate {twice.decode()}"
    coding = fields.get(b"transfer-encoding")
    if coding is not None and b"content-length" in fields:
        return "both content-length and transfer-encoding"
    if coding is not None and (coding.strip().lower() != b"chunked" or not http11):
        return "unknown transfer-encoding"
    return "no host" if http11 and b"host" not in fields else None


def _repeated_header(headers: Headers) -> bytes | None:
    names = Counter(name for name, _ in headers)
    return next((name for name in _SINGLE_HEADERS if names[name] > 1), None)


def request_head_of(
    route: Route, fields: Fields, keep_alive: bool, http11: bool, max_body_bytes: int
) -> RequestHead:
    """Parses the head of an inference request with sound framing."""
    kind = fields.get(b"content-type", JSON)
    encoding, idempotency_key = fields.get(b"content-encoding"), fields.get(b"idempotency-key")
    length = fields.get(b"content-length", b"0")
    problem = None
    wanted = FORM if route.form else JSON
    alien = kind != wanted and kind.partition(b";")[0].strip().lower() != wanted
    if alien or (encoding is not None and encoding.strip().lower() not in (b"identity", b"")):
        problem = Problem("unsupported_media_type", f"Send the body as uncompressed {wanted.decode()}.")
    elif length.isdigit() and int(length) > max_body_bytes:
        problem = Problem("body_too_large", f"The request body is larger than {max_body_bytes} bytes.")
    elif idempotency_key is not None and not _NAME.fullmatch(idempotency_key):
        problem = Problem("invalid_value", "An idempotency key is 1 to 255 visible ASCII characters.")
    return RequestHead(
        authorization=fields.get(b"authorization") or _key_of(route, fields),
        keep_alive=keep_alive,
        http11=http11,
        expects_continue=fields.get(b"expect", b"").lower() == b"100-continue",
        idempotency_key=idempotency_key,
        origin=fields.get(b"origin"),
        client_request_id=client_request_id(fields),
        problem=problem,
    )


def client_request_id(fields: Fields) -> bytes | None:
    """The id that the caller, or a proxy, set: 1 to 128 visible ASCII characters; any other id is ignored.

    The id is returned as `x-client-request-id` and stored in the usage record; the node's own id stays unique.
    """
    given = fields.get(b"x-client-request-id") or fields.get(b"x-request-id")
    return given if given is not None and _TAG.fullmatch(given) else None


def _key_of(route: Route, fields: Fields) -> bytes:
    """An `authorization` made of the header in which this route's SDK puts the key; empty without a key."""
    key = fields.get(route.dialect.key_header) if route.dialect.key_header else None
    return b"Bearer " + key if key else b""


def response_head(status: int, headers: Iterable[tuple[bytes, bytes]], keep_alive: bool) -> bytes:
    """A response's head with the empty line."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    return _STATUS_LINES[status] + b"".join(lines)
