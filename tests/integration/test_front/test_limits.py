"""A key's limits as its callers meet them: 429, when to come back, and what is left, on every answer."""

from __future__ import annotations

import asyncio
import json
import time

import openai
import pytest

from pareta_agent.contract.grant import TokenPrice

SLOW = "pareta_sk_slow"  # two requests a minute, a hundred tokens a minute, one at once


def ask(**more) -> bytes:
    body = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], **more}
    return json.dumps(body).encode()


def split(response: bytes):
    head, _, body = response.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    return int(line.split()[1]), dict(field.split(": ", 1) for field in fields), json.loads(body)


async def test_answers_say_what_is_left(rig):
    """What the request did not use of its tokens has come back by the next answer."""
    await rig.engine()
    began_s = time.monotonic()
    status, headers, body = split(await rig.raw(rig.post(ask(max_tokens=3), key=SLOW)))
    assert status == 200
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert headers["x-ratelimit-remaining-requests"] == "1"
    assert headers["x-ratelimit-limit-tokens"] == "100"
    used = body["usage"]["total_tokens"]
    _, headers, _ = split(await rig.raw(rig.post(ask(max_tokens=3), key=SLOW)))
    held = len(ask(max_tokens=3)) // 3 + 3
    refilled = (time.monotonic() - began_s) * 100 / 60
    assert -1 <= int(headers["x-ratelimit-remaining-tokens"]) - (100 - used - held) <= 1 + refilled


async def test_a_key_without_limits_hears_nothing_of_them(rig):
    """No header where there is no limit."""
    await rig.engine()
    _, headers, _ = split(await rig.raw(rig.post(ask(max_tokens=3))))
    assert [name for name in headers if name.startswith("x-ratelimit")] == []


async def test_too_many_a_minute_is_a_429_that_says_when(rig):
    """The third request within a minute; nothing is admitted for it."""
    await rig.engine()
    began_s = time.monotonic()
    for _ in range(2):
        await rig.raw(rig.post(ask(max_tokens=1), key=SLOW))
    status, headers, body = split(await rig.raw(rig.post(ask(max_tokens=1), key=SLOW)))
    assert (status, body["error"]["code"]) == (429, "rate_limited")
    assert body["error"]["message"] == "This key is limited to 2 requests a minute."
    assert 28 - (time.monotonic() - began_s) <= int(headers["retry-after"]) <= 30
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert len(rig.spool.admitted) == 2


async def test_more_than_the_limit_itself_is_not_to_be_tried_again(rig):
    """No wait makes 200 tokens fit into a hundred; a request that names no limit is let in on a guess."""
    await rig.engine("--tokens", "4")
    status, headers, _ = split(await rig.raw(rig.post(ask(max_tokens=200), key=SLOW)))
    assert (status, headers["x-should-retry"]) == (429, "false")
    status, *_ = split(await rig.raw(rig.post(ask(), key=SLOW)))
    assert status == 200


async def test_one_at_once(rig):
    """The second call waits its turn with a 429; the end of the first makes room."""
    await rig.engine()
    rig.engines[0].hold()
    first = asyncio.create_task(rig.raw(rig.post(ask(max_tokens=5), key=SLOW)))
    await rig.until(lambda: len(rig.spool.admitted) == 1)
    status, headers, _ = split(await rig.raw(rig.post(ask(max_tokens=5), key=SLOW)))
    rig.engines[0].let_go()
    assert (status, headers["retry-after"]) == (429, "1")
    await first
    status, *_ = split(await rig.raw(rig.post(ask(max_tokens=5), key=SLOW)))
    assert status == 200


async def test_a_call_that_is_refused_for_money_gives_its_place_back(rig):
    """A 402 holds no share of the key's concurrency or tokens."""
    await rig.engine()
    rig.price, rig.balance_micro_usd = TokenPrice(10**9, 10**9, 10**9), 0
    status, *_ = split(await rig.raw(rig.post(ask(max_tokens=5), key=SLOW)))
    assert status == 402
    rig.price = None
    status, headers, _ = split(await rig.raw(rig.post(ask(max_tokens=5), key=SLOW)))
    assert status == 200
    assert int(headers["x-ratelimit-remaining-tokens"]) > 50


async def test_the_sdk_raises_its_rate_limit_error(rig):
    """`openai` sees a RateLimitError with the code and the seconds."""
    await rig.engine()

    def call():
        with openai.OpenAI(api_key=SLOW, base_url=f"{rig.url}/v1", max_retries=0) as client:
            for _ in range(3):
                client.chat.completions.create(
                    model="ep_x", messages=[{"role": "user", "content": "hi"}], max_tokens=1
                )

    with pytest.raises(openai.RateLimitError) as refused:
        await asyncio.to_thread(call)
    assert refused.value.code == "rate_limited"
    assert int(refused.value.response.headers["retry-after"]) > 0
