"""The inference API's description, held against a running front: schemathesis asks, each answer must be described."""

from __future__ import annotations

import asyncio
import json
import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from pareta_agent.gateway.api.openapi import document

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

KEY = "pareta_sk_" + "a" * 32
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def described() -> schemathesis.BaseSchema:
    """The document, with the one endpoint that there is as the only model, so that most asks reach the engine."""
    whole = json.loads(document())
    whole["components"]["schemas"]["Model"] = {"enum": ["ep_x"]}
    return schemathesis.openapi.from_dict(whole)


@pytest.mark.parametrize("path", sorted(json.loads(document())["paths"]))
async def test_each_answer_is_as_described(rig, path):
    """Status, kind and shape, for whatever fits the description; and every admission has its record."""
    await rig.engine("--leak-canary")
    rig.endpoint(replicas=rig.endpoints["ep_x"].replicas, tokenize=True)
    operation = next(found.ok() for found in described().get_all_operations() if found.ok().path == path)
    statuses = []

    @given(case=operation.as_strategy())
    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def ask(case):
        response = case.call(base_url=rig.url, headers={"authorization": f"Bearer {KEY}"})
        statuses.append(response.status_code)
        case.validate_response(response, checks=CHECKS)
        assert b"CANARY" not in response.content

    await asyncio.to_thread(ask)
    assert 200 in statuses
    await rig.until(lambda: rig.front.in_flight == 0)
    assert len(rig.spool.admitted) == len(rig.spool.records)
