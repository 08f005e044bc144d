"""API errors: the catalogue of refusals and their bodies, for the typed errors of both client families.

Pure. No text of an engine, a stack or a path passes through: messages are written below, or made of numbers and names
that the caller sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

INVALID, AUTH, QUOTA, DENIED, RATE, BUSY, SERVER = (
    "invalid_request_error",
    "authentication_error",
    "insufficient_quota",
    "permission_error",
    "rate_limit_error",
    "service_unavailable_error",
    "server_error",
)

CATALOGUE: Final[dict[str, tuple[int, str, str]]] = {
    "bad_http": (400, INVALID, "The HTTP request could not be read."),
    "invalid_json": (400, INVALID, "The request body is not valid JSON."),
    "not_an_object": (400, INVALID, "The request body must be a JSON object."),
    "invalid_form": (400, INVALID, "The request body is not a valid multipart form."),
    "too_deep": (400, INVALID, "The request body is nested deeper than 64 levels."),
    "missing_field": (400, INVALID, "A required field is missing."),
    "invalid_type": (400, INVALID, "A field has the wrong type."),
    "invalid_value": (400, INVALID, "A field has a value that is not allowed."),
    "invalid_request": (400, INVALID, "The request was refused as invalid for this endpoint."),
    "context_length_exceeded": (400, INVALID, "The prompt is longer than this endpoint's context."),
    "remote_media": (400, INVALID, "Media must be sent inline as a data: URL."),
    "invalid_api_key": (401, AUTH, "The API key is missing or not valid."),
    "insufficient_credit": (402, QUOTA, "The organization is out of credit."),
    "endpoint_forbidden": (403, DENIED, "This key may not call that endpoint."),
    "endpoint_not_found": (404, INVALID, "There is no such endpoint."),
    "task_not_found": (404, INVALID, "There is no such task, or it has no such model."),
    "endpoint_exists": (409, INVALID, "There is an endpoint of that name already."),
    "idempotency_in_flight": (409, INVALID, "The request with this idempotency key is still being answered."),
    "idempotency_not_kept": (
        409,
        INVALID,
        "The request with this idempotency key was answered; its answer is not kept (a stream, or too large).",
    ),
    "idempotency_mismatch": (422, INVALID, "This idempotency key was used for another request body."),
    "eval_rows_invalid": (422, INVALID, "A row of the eval set is not what it must be."),
    "blob_refused": (422, INVALID, "A document does not belong there, or no model reads its kind."),
    "nothing_fits": (422, INVALID, "Nothing of that task fits this hardware."),
    "request_quarantined": (
        422,
        INVALID,
        "The engine ended twice at this request; it is refused for ten minutes.",
    ),
    "validation_failed": (422, INVALID, "A field is missing or has a value that is not allowed."),
    "no_capacity": (503, BUSY, "No capacity is free for it now."),
    "plane_unavailable": (503, BUSY, "The control plane does not answer right now; try again."),
    "eval_set_not_found": (404, INVALID, "There is no such eval set."),
    "eval_run_not_found": (404, INVALID, "There is no such eval run."),
    "upload_unknown": (404, INVALID, "No document is awaited there; ask for an address anew."),
    "api_elsewhere": (404, INVALID, "This node's control plane is hosted: ask it at its own address."),
    "route_not_found": (404, INVALID, "There is no such route."),
    "route_unsupported": (404, INVALID, "This endpoint does not serve that route."),
    "method_not_allowed": (405, INVALID, "This route does not take that method."),
    "request_timeout": (408, INVALID, "The request took too long to arrive."),
    "body_too_large": (413, INVALID, "The request body is too large."),
    "unknown_host": (421, INVALID, "This node does not answer to that host name."),
    "unsupported_media_type": (415, INVALID, "Send the body as uncompressed application/json."),
    "headers_too_large": (431, INVALID, "The request headers are too large."),
    "rate_limited": (429, RATE, "This key has reached one of its limits."),
    "too_many_requests": (429, RATE, "Too many requests at once; slow down."),
    "endpoint_busy": (429, RATE, "The endpoint's queue is full."),
    "endpoint_stopped": (503, BUSY, "The endpoint is stopped."),
    "endpoint_failed": (503, BUSY, "The endpoint failed to start."),
    "endpoint_cold": (503, BUSY, "The endpoint is starting; try again soon."),
    "node_draining": (503, BUSY, "This node is shutting down; try again."),
    "metering_unavailable": (503, BUSY, "Usage cannot be recorded right now; nothing was charged."),
    "auth_unavailable": (503, BUSY, "Keys cannot be checked right now."),
    "engine_failed": (502, SERVER, "The engine failed while it worked on this request; nothing was charged."),
    "engine_unreachable": (503, BUSY, "The endpoint's engine cannot be reached; try again."),
    "engine_timeout": (504, SERVER, "The engine did not answer in time; nothing was charged."),
    "internal": (500, SERVER, "Something went wrong on our side; nothing was charged."),
}

RETRY_AFTER_S: Final = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal: a catalogue `code`, the message, and how the caller may retry.

    `retry_after_s` None means the catalogue's default for 503 and 429; `retry` False stops clients from retrying.
    """

    code: str
    message: str = ""
    param: str | None = None
    retry_after_s: int | None = None
    retry: bool | None = None

    @property
    def status(self) -> int:
        return CATALOGUE[self.code][0]

    @property
    def text(self) -> str:
        return self.message or CATALOGUE[self.code][2]


def body_of(problem: Problem) -> bytes:
    """The JSON body: OpenAI's `error` object and FastAPI's `detail`, for the clients of each."""
    return orjson.dumps({"error": error_object(problem), "detail": problem.text})


def event_of(problem: Problem) -> bytes:
    """The server-sent event that ends a stream which failed after its head."""
    return b"data: " + orjson.dumps({"error": error_object(problem)}) + b"\n\n"


def headers_of(problem: Problem) -> list[tuple[bytes, bytes]]:
    """The headers of this problem, besides content-type and length."""
    headers = []
    if problem.status in (429, 503):
        wait = RETRY_AFTER_S if problem.retry_after_s is None else problem.retry_after_s
        headers.append((b"retry-after", b"%d" % wait))
    if problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if problem.retry is not None:
        headers.append((b"x-should-retry", b"true" if problem.retry else b"false"))
    return headers


def error_object(problem: Problem) -> dict[str, str | None]:
    """OpenAI's error object, for bodies and for the last event of a stream."""
    kind = CATALOGUE[problem.code][1]
    return {"message": problem.text, "type": kind, "param": problem.param, "code": problem.code}
