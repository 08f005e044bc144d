"""What every SDK must see, whatever engine is behind: imported by the tier that brings the `node` fixture.

`node` is (base URL with /v1, key, endpoint). Real clients, real sockets; nothing of ours is imported.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import anthropic
import openai
import pareta
import pytest

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
CLIENTS = Path(__file__).parent / "clients"


@dataclass(frozen=True)
class Address:
    base_url: str
    key: str
    endpoint: str

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/v1")

    def ask(self, **more: object) -> dict[str, object]:
        return {"model": self.endpoint, "messages": QUESTION, "temperature": 0, "max_tokens": 16, **more}


@pytest.fixture
def client(node: Address):
    with openai.OpenAI(base_url=node.base_url, api_key=node.key, max_retries=0) as client:
        yield client


@pytest.fixture
def pareta_client(node: Address):
    with pareta.Pareta(base_url=node.root, api_key=node.key, max_retries=0) as client:
        yield client


def test_openai_completes_a_chat(node, client):
    """A whole answer with text, finish reason, usage and our endpoint's name."""
    answer = client.chat.completions.create(**node.ask())
    assert "Paris" in answer.choices[0].message.content
    assert answer.model == node.endpoint
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > 0


def test_openai_streams_a_chat_and_every_chunk_has_a_choice(node, client):
    """Who did not ask for usage never meets an empty `choices`."""
    chunks = list(client.chat.completions.create(**node.ask(stream=True)))
    assert "Paris" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_openai_gets_the_usage_of_a_stream_when_it_asks(node, client):
    """`include_usage` brings the last chunk with counts and no choices."""
    chunks = list(
        client.chat.completions.create(**node.ask(stream=True, stream_options={"include_usage": True}))
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert client.chat.completions.create(**node.ask()).usage.prompt_tokens == chunks[-1].usage.prompt_tokens


def test_openai_completes_a_text(node, client):
    """The older route works too, whole and streamed."""
    ask = {"model": node.endpoint, "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**ask)
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**ask, stream=True))
    assert whole.choices[0].text == streamed
    assert whole.usage.completion_tokens > 0


def test_openai_gets_a_response(node, client):
    """Whole and streamed in typed events: the same text, its usage, and nothing kept."""
    ask = {"model": node.endpoint, "input": QUESTION[0]["content"], "temperature": 0, "max_output_tokens": 16}
    whole = client.responses.create(**ask)
    events = list(client.responses.create(**ask, stream=True))
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert "Paris" in whole.output_text
    assert told == events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens > 0
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**ask, previous_response_id=whole.id)
    assert caught.value.param == "previous_response_id"


def test_anthropic_gets_a_message(node):
    """Its own client, with the key where it puts it: whole, streamed, and its typed errors."""
    ask = {"model": node.endpoint, "messages": QUESTION, "max_tokens": 16}
    ask["extra_body"] = {
        "temperature": 0
    }  # which its newest models do not take, so the client has no name for it
    with anthropic.Anthropic(base_url=node.root, api_key=node.key, max_retries=0) as claude:
        whole = claude.messages.create(**ask)
        with claude.messages.stream(**ask) as stream:
            streamed = stream.get_final_message()
        with pytest.raises(anthropic.NotFoundError) as caught:
            claude.messages.create(**{**ask, "model": "ep_none"})
    assert "Paris" in whole.content[0].text
    assert streamed.content[0].text == whole.content[0].text
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage.output_tokens == whole.usage.output_tokens > 0
    assert caught.value.body["error"]["type"] == "not_found_error"


async def test_openai_async_streams_concurrently(node):
    """Eight streams at once, each whole."""
    async with openai.AsyncOpenAI(base_url=node.base_url, api_key=node.key, max_retries=0) as client:

        async def one() -> str:
            stream = await client.chat.completions.create(**node.ask(stream=True))
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        answers = await asyncio.gather(*(one() for _ in range(8)))
    assert [("Paris" in answer) for answer in answers] == [True] * 8


def test_openai_lists_the_live_endpoints_and_nothing_else(node, client):
    """An id, an owner, and no path, root or parent."""
    models = [model.model_dump(exclude_unset=True) for model in client.models.list()]
    assert [model["id"] for model in models] == [node.endpoint]
    assert set(models[0]) == {"id", "object", "created", "owned_by", "max_model_len"}
    assert models[0]["max_model_len"] > 0
    assert client.models.retrieve(node.endpoint).model_dump(exclude_unset=True) == models[0]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("ep_none")


def test_every_response_has_a_request_id(node, client):
    """Good and bad alike, each its own."""
    whole = client.chat.completions.with_raw_response.create(**node.ask())
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**node.ask(model="ep_none"))
    ids = {whole.headers["x-request-id"], caught.value.request_id}
    assert None not in ids
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("change", "error", "status"),
    [
        ({"model": "ep_none"}, openai.NotFoundError, 404),
        ({"messages": 7}, openai.BadRequestError, 400),
        ({"messages": []}, openai.BadRequestError, 400),
        ({"max_tokens": -1}, openai.BadRequestError, 400),
    ],
)
def test_openai_raises_its_typed_errors(node, client, change, error, status):
    """The status picks the class; body and message are ours."""
    with pytest.raises(error) as caught:
        client.chat.completions.create(**node.ask(**change))
    assert caught.value.status_code == status
    assert caught.value.body["message"]


@pytest.mark.parametrize("key", ["pareta_sk_wrong", "x", "pareta_sk_" + "A" * 5000])
def test_a_wrong_key_is_an_authentication_error(node, key):
    """In both SDKs."""
    with (
        openai.OpenAI(base_url=node.base_url, api_key=key, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
    with (
        pareta.Pareta(base_url=node.root, api_key=key, max_retries=0) as client,
        pytest.raises(pareta.AuthenticationError),
    ):
        client.models.list()


def test_pareta_completes_and_streams(node, pareta_client):
    """The SDK of the house sees the same answers."""
    answer = pareta_client.chat.completions.create(**node.ask())
    streamed = pareta_client.chat.completions.create(**node.ask(stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert "Paris" in answer.choices[0].message.content
    assert text == answer.choices[0].message.content
    assert [model.id for model in pareta_client.models.list()] == [node.endpoint]


async def test_pareta_async_completes_and_streams(node):
    """And so does its async client."""
    async with pareta.AsyncPareta(base_url=node.root, api_key=node.key, max_retries=0) as client:
        answer = await client.chat.completions.create(**node.ask())
        stream = await client.chat.completions.create(**node.ask(stream=True))
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        models = await client.models.list()
    assert text == answer.choices[0].message.content
    assert len(models) == 1


def test_pareta_raises_its_typed_errors(node, pareta_client):
    """`detail` is read, so the message is a sentence and not `HTTP 404`."""
    with pytest.raises(pareta.NotFoundError) as caught:
        pareta_client.chat.completions.create(**node.ask(model="ep_none"))
    assert "no endpoint" in str(caught.value)
    with pytest.raises(pareta.BadRequestError):
        pareta_client.chat.completions.create(**node.ask(max_tokens=-1))


def test_the_npm_client_sees_the_same(node):
    """Node's `openai`: whole, streamed, usage, models, typed errors."""
    if shutil.which("node") is None or not (CLIENTS / "node_modules" / "openai").is_dir():
        pytest.skip("Node and its openai package are not installed (make tools)")
    done = subprocess.run(
        ["node", "chat.mjs", node.base_url, node.key, node.endpoint],
        cwd=CLIENTS,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "Paris" in seen["text"]
    assert seen["streamed"] == seen["text"]
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [seen["usage"][count] for count in counts] == [seen["usageWhole"][count] for count in counts]
    assert seen["response"] == seen["responseStreamed"] == seen["text"]
    assert seen["responseUsage"]["output_tokens"] > 0
    assert seen["models"] == [node.endpoint]
    assert {name: (e["name"], e["status"]) for name, e in seen["errors"].items()} == {
        "key": ("AuthenticationError", 401),
        "endpoint": ("NotFoundError", 404),
        "body": ("BadRequestError", 400),
    }
    assert all(error["requestID"] for error in seen["errors"].values())
