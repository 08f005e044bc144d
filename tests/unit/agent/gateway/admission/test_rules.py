"""Who may call what, where it goes and what it may cost."""

from pathlib import Path

import pytest

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import EndpointView, FleetView, ReplicaView
from pareta_agent.contract.grant import KeyGrant, TokenPrice
from pareta_agent.gateway.admission.rules import authorize, bearer_of, find, worst_case
from pareta_agent.gateway.api.request_body import InferenceRequest

REPLICAS = tuple(ReplicaView(f"ep/{i}", 1, Path(f"/{i}")) for i in range(3))
LIVE = EndpointView("ep", "org", "t", "a", "live", REPLICAS, max_model_len=1000)
GRANT = KeyGrant("org", "key", "active")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer  abc ", "abc"),
        (b"BEARER abc", "abc"),
        (b"abc", Problem("invalid_api_key")),
        (b"Basic abc", Problem("invalid_api_key")),
        (b"Bearer \xff", Problem("invalid_api_key")),
        (b"Bearer a b", Problem("invalid_api_key")),
        (b"", Problem("invalid_api_key")),
    ],
)
def test_a_bearer_is_read_or_refused(header, expected):
    """Any case of the scheme, ASCII only."""
    assert bearer_of(header) == expected


@pytest.mark.parametrize(
    ("grant", "code"),
    [
        (None, "invalid_api_key"),
        (KeyGrant("o", "k", "revoked"), "invalid_api_key"),
        (KeyGrant("o", "k", "no_credit"), "insufficient_credit"),
    ],
)
def test_a_key_that_may_not_call_is_refused(grant, code):
    """Unknown, revoked, poor."""
    problem = authorize(grant)
    assert problem is not None
    assert problem.code == code


@pytest.mark.parametrize(
    ("model", "grant", "code"),
    [
        ("other", GRANT, "endpoint_not_found"),
        ("ep", KeyGrant("org2", "k", "active"), "endpoint_forbidden"),
        ("ep", KeyGrant("org", "k", "active", frozenset()), "endpoint_forbidden"),
    ],
)
def test_an_endpoint_out_of_reach_is_refused(model, grant, code):
    """404 for what is not there, 403 for what is another's."""
    problem = find(model, grant, FleetView({"ep": LIVE}))
    assert isinstance(problem, Problem)
    assert problem.code == code


def test_while_the_node_starts_an_unknown_endpoint_may_be_on_its_way():
    """A restart must not look like the end of an endpoint: come back, rather than no such thing."""
    problem = find("ep_other", GRANT, FleetView({"ep": LIVE}, complete=False))
    assert isinstance(problem, Problem)
    assert (problem.code, problem.status) == ("endpoint_cold", 503)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (InferenceRequest("ep", {}, 300, max_tokens=10), 300 + 10),
        (InferenceRequest("ep", {}, 300), 300 + 1000),
        (InferenceRequest("ep", {}, 300, max_tokens=10**9), 300 + 1000),
        (InferenceRequest("ep", {}, 300, max_tokens=10, n=3, prompts=2), 300 + 60),
        (InferenceRequest("ep", {}, 10**6, max_tokens=10), 1000 + 10),
        (InferenceRequest("ep", {}, 300, max_tokens=10, media=True), 1000 + 10),
    ],
)
def test_the_worst_case_is_bounded_by_the_context(ask, expected):
    """Prompt by its bytes, answers by what was asked for, both by what the endpoint can hold."""
    assert worst_case(ask, LIVE, TokenPrice(10**6, 10**6, 10**6)) == expected
    assert worst_case(ask, LIVE, None) == 0
