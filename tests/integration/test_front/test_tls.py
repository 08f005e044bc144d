"""The port with a certificate: clients, streams, back-pressure, a renewal."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl

import httpx
import openai
import pareta
import pytest
from fakes.certificates import Certificate as Files
from fakes.certificates import make_certificate

from pareta_agent.gateway.downstream.tls import Certificate

KEY = "pareta_sk_" + "a" * 32
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Files:
    """What the certificate is renewed with."""
    return make_certificate(tmp_path_factory.mktemp("others"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Files:
    return make_certificate(tmp_path_factory.mktemp("made"))


@pytest.fixture
def files(tmp_path, made) -> Files:
    """A copy that a test may replace."""
    for path in (made.pem, made.key):
        shutil.copy(path, tmp_path)
    return Files(tmp_path / made.pem.name, tmp_path / made.key.name)


@pytest.fixture
async def tls(start_rig, files):
    rig = await start_rig(Certificate(files.pem, files.key))
    rig.files = files
    return rig


def trusting(*files: Files, name: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for each in files:
        context.load_verify_locations(each.pem)
    context.check_hostname = name
    return context


async def connected(rig, context: ssl.SSLContext, name: str | None = "127.0.0.1"):
    return await asyncio.open_connection(
        "127.0.0.1", rig.port, ssl=context, server_hostname=name, limit=2**14
    )


async def shown(rig, context: ssl.SSLContext) -> bytes:
    """The certificate that a new connection is shown."""
    _, writer = await connected(rig, context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


def der(files: Files) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.pem.read_text())


async def test_both_clients_call_through_their_own_ca(tls):
    """Documents and streams, and the health routes beside them."""
    await tls.engine()
    base = f"https://127.0.0.1:{tls.port}"

    def call() -> tuple[str | None, int, int]:
        trusted = trusting(tls.files)
        with httpx.Client(
            verify=trusted, timeout=60
        ) as http:  # a pareta client leaves it to whoever made it to close it
            with pareta.Pareta(api_key=KEY, base_url=base, http_client=http) as client:
                client.chat.completions.create(**ASK)
            with openai.OpenAI(api_key=KEY, base_url=f"{base}/v1", http_client=http) as client:
                answer = client.chat.completions.create(**ASK)
                chunks = list(client.chat.completions.create(**ASK, stream=True))
        health = httpx.get(f"{base}/livez", verify=trusted, timeout=120).status_code
        return answer.choices[0].finish_reason, len(chunks), health

    finished, chunks, health = await asyncio.to_thread(call)
    assert (finished, chunks > 2, health) == ("length", True, 200)
    assert [r.outcome.value for r in tls.spool.records] == ["completed"] * 3


async def test_a_stranger_to_the_ca_and_plain_http_get_nothing(tls):
    """And they cost nobody else anything."""
    await tls.engine()
    with pytest.raises(ssl.SSLCertVerificationError):
        await connected(tls, ssl.create_default_context())
    reader, writer = await asyncio.open_connection("127.0.0.1", tls.port)
    writer.write(tls.post(json.dumps(ASK).encode()))
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(7 + 2**10)
    writer.close()
    assert await answered(tls)
    assert len(tls.spool.admitted) == 1


async def answered(rig) -> bool:
    reader, writer = await connected(rig, trusting(rig.files))
    writer.write(rig.post(json.dumps(ASK).encode()))
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200")


async def test_http_2_is_not_offered(tls):
    """A client that would like it is told 1.1 in the handshake."""
    context = trusting(tls.files)
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await connected(tls, context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.close()


@pytest.mark.slow
async def test_a_slow_reader_holds_the_engine_back_here_too(tls):
    """What TLS buffers is bounded as well."""
    await tls.engine("--tokens", "60000")
    reader, writer = await connected(tls, trusting(tls.files))
    writer.write(tls.post(json.dumps({**ASK, "stream": True}).encode()))
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()
    made = -1
    while made != tls.engines[0].generation_tokens:
        made = tls.engines[0].generation_tokens
        await asyncio.sleep(0.1)
    [connection] = tls.front._server.server_state.connections
    held = connection.transport.get_write_buffer_size()
    writer.transport.resume_reading()
    while b"[DONE]" not in await reader.read(2**16):
        pass
    writer.close()
    assert made < 60000
    assert held < 512 * 1024
    assert [record.outcome.value for record in tls.spool.records] == ["completed"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["127.0.0.1", None])
async def test_a_renewed_certificate_is_for_new_handshakes(tls, others, name):
    """A stream that runs meanwhile ends as it began; whether or not the client names who it calls."""
    await tls.engine("--slow-token", "0.1")
    context = trusting(tls.files, others, name=name is not None)
    before = await shown(tls, context)
    reader, writer = await connected(tls, context, name or "")
    writer.write(tls.post(json.dumps({**ASK, "max_tokens": 20, "stream": True}).encode()))
    await reader.readuntil(b"\r\n\r\n")
    shutil.copy(others.pem, tls.files.pem)
    shutil.copy(others.key, tls.files.key)
    await tls.until(lambda: any(getattr(e, "name", "") == "certificate_changed" for e in tls.events))
    assert (await shown(tls, context), before) == (der(others), before)
    assert before != der(others)
    assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    writer.close()


@pytest.mark.slow
async def test_files_that_are_no_good_change_nothing_and_are_told_once(tls, others):
    """The certificate is new and its key not yet: the old pair goes on, and the next look finds both."""
    await tls.engine()
    shutil.copy(others.pem, tls.files.pem)
    await tls.until(lambda: refusals(tls) == 1)
    await asyncio.sleep(1.2)
    assert refusals(tls) == 1
    shutil.copy(others.key, tls.files.key)
    await tls.until(lambda: any(getattr(e, "name", "") == "certificate_changed" for e in tls.events))
    assert await shown(tls, trusting(others)) == der(others)


def refusals(rig) -> int:
    return sum(getattr(event, "name", "") == "certificate_refused" for event in rig.events)


async def test_the_expiry_is_a_metric(tls):
    """In seconds of the Unix epoch, as alerts want it."""
    await tls.until(lambda: tls.metrics._values["pareta_tls_expires_timestamp_seconds", ()] > 0)
    left_s = tls.metrics._values["pareta_tls_expires_timestamp_seconds", ()] - tls.front._deps.clock.wall_s()
    assert 86400 < left_s < 2 * 86400
