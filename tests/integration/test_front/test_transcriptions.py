"""Speech to text: a form in, a document out, counted in seconds."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

from pareta_agent.contract.usage_event import finished

KEY = "pareta_sk_" + "a" * 32
AUDIO = ("my secret meeting.wav", b"RIFF" + b"\x00" * 5000, "audio/wav")


@pytest.fixture
async def client(rig):
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=0) as client:
        yield client


async def test_a_transcription_is_answered_and_counted_in_seconds(rig, client):
    """Both formats that tell their seconds; begun ones count."""
    await rig.engine()
    short = await client.audio.transcriptions.create(model="ep_x", file=AUDIO, language="en")
    long = await client.audio.transcriptions.create(
        model="ep_x", file=AUDIO, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert (short.text, long.text, long.language) == ("word", "word", "en")
    assert [(r.outcome, r.usage_source, r.audio_seconds) for r in rig.spool.records] == [
        ("completed", "engine_final", 5)
    ] * 2
    assert json.loads(finished(rig.spool.records[0]).data)["units"] == {"audio_seconds": 5, "requests": 1}
    assert rig.spool.records[0].tokens.input == rig.spool.records[0].tokens.output == 0


async def test_a_streamed_transcription_has_openais_events_and_the_engines_tokens(rig, client):
    """Words as they come, then the whole text and its usage; nobody told seconds, so none are recorded."""
    await rig.engine()
    rig.endpoint(
        replicas=rig.endpoints["ep_x"].replicas, max_model_len=4
    )  # sound is counted beside the context
    stream = await client.audio.transcriptions.create(model="ep_x", file=AUDIO, stream=True)
    *deltas, done = [event async for event in stream]
    assert [(event.type, event.delta) for event in deltas] == [
        ("transcript.text.delta", "word"),
        ("transcript.text.delta", " word"),
    ]
    assert (done.type, done.text) == ("transcript.text.done", "word word")
    assert (done.usage.input_tokens, done.usage.output_tokens) == (5, 2)
    (record,) = rig.spool.records
    assert (record.outcome, record.usage_source, record.audio_seconds) == ("completed", "engine_final", 0)
    assert (record.tokens.input, record.tokens.output) == (5, 2)
    assert record.admission.streamed


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("--cut-mid-stream", "failed_engine"),
        ("--error-then-done", "failed_engine"),
        ("--abort-finish", "failed_server"),
    ],
)
async def test_a_streamed_transcription_that_breaks_raises_and_costs_nothing(rig, client, fault, outcome):
    """As on every other route that streams."""
    await rig.engine(fault)
    stream = await client.audio.transcriptions.create(model="ep_x", file=AUDIO, stream=True)
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        async for _ in stream:
            pass
    await rig.until(lambda: rig.front.in_flight == 0)
    assert [record.outcome for record in rig.spool.records] == [outcome]


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": "ep_none"}, "endpoint_not_found", "model"),
        ({"response_format": "srt"}, "invalid_value", "response_format"),
        ({"file": "a text"}, "missing_field", "file"),
    ],
)
async def test_what_cannot_be_transcribed_is_a_typed_error(rig, client, change, code, param):
    """By name; formats whose seconds cannot be read are among it."""
    await rig.engine()
    ask = {"model": "ep_x", "file": AUDIO, **change}
    body = {"extra_body": {"file": ask.pop("file")}} if isinstance(ask["file"], str) else {}
    with pytest.raises(openai.APIStatusError) as caught:
        await client.audio.transcriptions.create(
            **{"file": b"", **ask} if not body else {**ask, "file": openai.omit}, **body
        )
    assert (caught.value.code, caught.value.param) == (code, param)


async def test_forms_are_for_this_route_and_json_for_the_others(rig):
    """Each is told what to send; what only looks like a form is refused."""
    await rig.engine()
    as_json = await rig.raw(rig.post(b"{}", "/v1/audio/transcriptions"))
    form = rig.post(b"--b\r\nx\r\n--b--", "/v1/audio/transcriptions").replace(
        b"application/json", b"multipart/form-data; boundary=b"
    )
    assert b"multipart/form-data" in as_json.partition(b"\r\n\r\n")[2]
    assert as_json.startswith(b"HTTP/1.1 415 ")
    assert json.loads((await rig.raw(form)).partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_form"


async def test_a_large_recording_passes_and_a_larger_one_does_not(start_rig):
    """Audio has the limit of media, not that of text."""
    rig = await start_rig(max_body_bytes=2**16, max_media_body_bytes=2**18)
    await rig.engine()
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=0) as client:
        await client.audio.transcriptions.create(model="ep_x", file=("a.wav", b"\x00" * 2**17))
        with pytest.raises(openai.APIStatusError) as caught:
            await client.audio.transcriptions.create(model="ep_x", file=("a.wav", b"\x00" * 2**19))
    assert caught.value.status_code == 413
    assert rig.spool.records[0].audio_seconds == 128
