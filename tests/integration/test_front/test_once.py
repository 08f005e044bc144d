"""Calls with an idempotency key, as clients make and repeat them."""

from __future__ import annotations

import asyncio
import json

import httpx
import openai
import pareta
import pytest

KEY = "pareta_sk_" + "a" * 32
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
ONCE = "idempotency-key: one\r\n"


def body(**more: object) -> bytes:
    return json.dumps({**ASK, **more}).encode()


def split(response: bytes):
    head, _, rest = response.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    return int(line.split()[1]), dict(field.split(": ", 1) for field in fields), rest


def code_of(document: bytes) -> str:
    return json.loads(document)["error"]["code"]


async def outcomes(rig, count: int) -> list[str]:
    await rig.until(lambda: len(rig.spool.records) >= count)
    return [record.outcome.value for record in rig.spool.records]


async def test_a_completed_call_is_answered_again_and_not_made_again(rig):
    """The same bytes, one record; the answer names the request that was recorded."""
    await rig.engine()
    first = split(await rig.raw(rig.post(body(), extra=ONCE)))
    again = split(await rig.raw(rig.post(body(), extra=ONCE)))
    assert (first[0], again[0], first[2]) == (200, 200, again[2])
    assert again[1]["idempotent-replayed"] == "true"
    assert again[1]["x-original-request-id"] == first[1]["x-request-id"] != again[1]["x-request-id"]
    assert await outcomes(rig, 1) == ["completed"]
    assert rig.engines[0].finished == 1


async def test_without_a_key_every_call_is_a_call(rig):
    """Also beside calls that have one."""
    await rig.engine()
    for extra in (ONCE, "", ""):
        await rig.raw(rig.post(body(), extra=extra))
    assert len(rig.spool.records) == 3


async def test_a_call_in_flight_is_a_conflict(rig):
    """With the word that trying again would not help, now."""
    await rig.engine()
    rig.engines[0].hold()
    first = asyncio.create_task(rig.raw(rig.post(body(), extra=ONCE)))
    await rig.until(lambda: len(rig.spool.admitted) == 1)
    status, headers, document = split(await rig.raw(rig.post(body(), extra=ONCE)))
    rig.engines[0].let_go()
    assert (status, headers["x-should-retry"], code_of(document)) == (409, "false", "idempotency_in_flight")
    assert split(await first)[0] == 200
    assert len(rig.spool.admitted) == 1


async def test_another_body_under_the_same_key_is_refused(rig):
    """By as little as a blank: bytes are compared."""
    await rig.engine()
    await rig.raw(rig.post(body(), extra=ONCE))
    status, _, document = split(await rig.raw(rig.post(body() + b" ", extra=ONCE)))
    assert (status, code_of(document)) == (422, "idempotency_mismatch")


async def test_a_key_is_the_callers_own(rig):
    """Another endpoint's, another route's and another API key's calls are others."""
    await rig.engine()
    await rig.engine(endpoint="ep_y")
    await rig.raw(rig.post(body(), extra=ONCE))
    await rig.raw(rig.post(body(model="ep_y"), extra=ONCE))
    await rig.raw(rig.post(body(prompt="hi"), "/v1/completions", ONCE))
    foreign = await rig.raw(rig.post(body(), extra=ONCE, key="pareta_sk_other"))
    assert (foreign.split()[1], len(rig.spool.records)) == (b"403", 3)


async def test_a_stream_is_made_once_and_its_end_is_remembered(rig):
    """In flight a conflict; completed too, since its events are not kept."""
    await rig.engine()
    rig.engines[0].hold()
    first = asyncio.create_task(rig.raw(rig.post(body(stream=True), extra=ONCE)))
    await rig.until(lambda: len(rig.spool.admitted) == 1)
    during = split(await rig.raw(rig.post(body(stream=True), extra=ONCE)))
    rig.engines[0].let_go()
    assert b"[DONE]" in await first
    after = split(await rig.raw(rig.post(body(stream=True), extra=ONCE)))
    assert [(each[0], code_of(each[2])) for each in (during, after)] == [
        (409, "idempotency_in_flight"),
        (409, "idempotency_not_kept"),
    ]
    assert await outcomes(rig, 1) == ["completed"]


async def test_a_call_that_failed_may_be_made_again(rig):
    """It cost nothing, so its key is free."""
    await rig.engine("--http-error", "500")
    assert split(await rig.raw(rig.post(body(), extra=ONCE)))[0] == 502
    rig.engines[0].flags.http_error = None
    assert split(await rig.raw(rig.post(body(), extra=ONCE)))[0] == 200
    assert await outcomes(rig, 2) == ["failed_engine", "completed"]


async def test_a_caller_who_left_finds_the_answer_that_was_charged(rig):
    """Gone between the engine's answer and the disk: the record stands, so does the answer."""
    await rig.engine()
    rig.spool.hold = True
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(rig.post(body(), extra=ONCE))
    await rig.until(lambda: len(rig.spool.waiting) == 1)
    writer.transport.abort()
    await asyncio.sleep(0.05)
    assert split(await rig.raw(rig.post(body(), extra=ONCE)))[0] == 409
    rig.spool.hold = False
    rig.spool.release()
    await rig.until(lambda: rig.front.in_flight == 0)
    status, headers, _ = split(await rig.raw(rig.post(body(), extra=ONCE)))
    assert (status, headers["idempotent-replayed"], await outcomes(rig, 1)) == (200, "true", ["completed"])


async def test_an_answer_whose_record_was_lost_is_not_kept(rig):
    """What was not charged is not replayed either."""
    await rig.engine()
    rig.spool.broken = True
    assert split(await rig.raw(rig.post(body(), extra=ONCE)))[0] == 503
    rig.spool.broken = False
    _, headers, _ = split(await rig.raw(rig.post(body(), extra=ONCE)))
    assert "idempotent-replayed" not in headers


@pytest.mark.parametrize("name", ["", "x" * 256, "a b"])
async def test_a_key_that_is_none_is_told_so(rig, name):
    """Visible ASCII, 255 characters at most."""
    await rig.engine()
    request = rig.post(body(), extra="idempotency-key: KEY\r\n").replace(b"KEY", name.encode("latin-1"))
    status, _, document = split(await rig.raw(request))
    assert (status, code_of(document)) == (400, "invalid_value")


async def test_both_sdks_repeat_a_call_for_nothing(rig):
    """Neither sends a key by itself; given one, an openai client is not even tempted to try a conflict again."""
    await rig.engine()

    def call() -> list[str]:
        said = []
        with openai.OpenAI(api_key=KEY, base_url=f"{rig.url}/v1") as client:
            for _ in range(2):
                answer = client.chat.completions.create(**ASK, extra_headers={"Idempotency-Key": "two"})
                said.append(answer.id)
            client.chat.completions.create(**ASK)
        with (
            httpx.Client(headers={"Idempotency-Key": "three"}, timeout=120) as once,
            pareta.Pareta(api_key=KEY, base_url=rig.url, http_client=once) as client,
        ):
            said += [client.chat.completions.create(**ASK)["id"] for _ in range(2)]
        return said

    said = await asyncio.to_thread(call)
    assert (said[0], said[2]) == (said[1], said[3])
    assert len(rig.spool.records) == 3


async def test_openai_raises_a_conflict_and_does_not_try_again(rig):
    """Its default is to try 409 again; the answer says not to."""
    await rig.engine()
    rig.engines[0].hold()
    once = {"Idempotency-Key": "one"}
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=5) as client:
        first = asyncio.create_task(client.chat.completions.create(**ASK, extra_headers=once))
        await rig.until(lambda: len(rig.spool.admitted) == 1)
        with pytest.raises(openai.ConflictError) as raised:
            await client.chat.completions.create(**ASK, extra_headers=once)
        rig.engines[0].let_go()
        assert raised.value.code == "idempotency_in_flight"
        assert (await first).choices[0].finish_reason == "length"
    assert len(rig.spool.admitted) == 1
