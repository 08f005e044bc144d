"""HTTP errors: the ASGI response of a problem, for gateway and plane alike."""

from __future__ import annotations

from starlette.responses import Response

from pareta_agent.contract.api_errors import Problem, body_of, headers_of


def respond(problem: Problem) -> Response:
    headers = {name.decode(): value.decode() for name, value in headers_of(problem)}
    return Response(body_of(problem), problem.status, headers, media_type="application/json")
