"""Tokens of a text: only where the endpoint's catalog entry allows it, recorded, and free."""

from __future__ import annotations

import json

import pytest

from pareta_agent.contract.grant import TokenPrice

ASKS = {"/tokenize": {"prompt": "a b c"}, "/detokenize": {"tokens": [1, 2, 3]}}
TOLD = {
    "/tokenize": {"count": 3, "max_model_len": 2048, "tokens": [0, 1, 2], "token_strs": None},
    "/detokenize": {"prompt": "word word word"},
}


def body_of(answer: bytes) -> dict[str, object]:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("path", ASKS)
async def test_what_the_catalog_allows_is_told_and_costs_nothing(rig, path):
    """It leaves a record without tokens, and the whole lease."""
    await rig.engine()
    rig.endpoint(replicas=rig.endpoints["ep_x"].replicas, tokenize=True)
    rig.price = TokenPrice(10**6, 10**6, 10**6)
    answer = await rig.raw(rig.post(json.dumps({"model": "ep_x", **ASKS[path]}).encode(), path))
    assert body_of(answer) == TOLD[path]
    (record,) = rig.spool.records
    assert (record.outcome, record.usage_source, record.tokens.input) == ("completed", "engine_final", 0)
    ((left, _),) = rig.front._deps.credit.unspent().values()
    assert left == 10**9 - rig.balance_micro_usd


@pytest.mark.parametrize("path", ASKS)
async def test_without_leave_the_route_is_not_there(rig, path):
    """Nothing is asked of the engine, nothing is recorded."""
    await rig.engine()
    answer = await rig.raw(rig.post(json.dumps({"model": "ep_x", **ASKS[path]}).encode(), path))
    assert (answer.split()[1], body_of(answer)["error"]["code"]) == (b"404", "route_unsupported")
    assert not rig.spool.admitted
    assert not any(path in line for line in rig.engines[0].heard)


async def test_only_the_allowed_fields_arrive(rig):
    """No template, no salt, no other model."""
    await rig.engine()
    rig.endpoint(replicas=rig.endpoints["ep_x"].replicas, tokenize=True)
    ask = {"model": "ep_x", "prompt": "a", "chat_template": "{{ x }}", "mm_processor_kwargs": {"a": 1}}
    await rig.raw(rig.post(json.dumps(ask).encode(), "/tokenize"))
    for wrong in ({"model": "ep_x"}, {"model": "ep_none", "prompt": "a"}):
        refused = await rig.raw(rig.post(json.dumps(wrong).encode(), "/tokenize"))
        assert refused.split()[1] in (b"400", b"404")
    assert len(rig.spool.records) == 1
