"""Every method of both of the SDK's clients but evals, and the typed errors: what the real engine's test shows too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pareta
import psutil
import pytest
from api_suite import operates, operates_async

pytestmark = pytest.mark.slow


def test_the_sync_client_operates_an_endpoint(api) -> None:
    """Deploy, call, stop, start, measure, delete."""
    with api.client() as client:
        operates(client)


async def test_the_async_client_operates_an_endpoint(api) -> None:
    """The same, awaited."""
    async with pareta.AsyncPareta(api_key=api.key, base_url=api.root, max_retries=0) as client:
        await operates_async(client)


def test_without_credit_nothing_runs(api) -> None:
    """On both paths, and a start costs as much as a deploy."""
    ask = {"model": "ep_contract_kie", "messages": [{"role": "user", "content": "Hello"}]}
    with api.client(api.poor_key) as client:
        with pytest.raises(pareta.InsufficientCreditsError):
            client.chat.completions.create(**ask)
        with pytest.raises(pareta.InsufficientCreditsError):
            list(client.chat.completions.create(**ask, stream=True))
        with pytest.raises(pareta.InsufficientCreditsError):
            client.endpoints.deploy(task="contract-key-fields", wait=True)
        with pytest.raises(pareta.InsufficientCreditsError):
            client.endpoints.start("ep_contract_kie")


def test_progress_is_told_as_it_is(api) -> None:
    """A percentage that never falls, phases that exist, what is left in seconds; of a start that takes a while."""
    with api.client() as client, ThreadPoolExecutor(1) as beside:
        known = set(_engines(api.agent.process.pid))
        holding = beside.submit(_hold_the_next_engine, api.agent.process.pid, known)
        events = list(client.endpoints.deploy(task="clause-summary", name="watched"))
        client.endpoints.delete("ep_watched")
        holding.result()
    lines = [event["data"] for event in events[:-1]]
    assert [event["event"] for event in events] == ["progress"] * len(lines) + ["complete"]
    percents = [line["percent"] for line in lines]
    assert percents == sorted(percents)
    assert 0 <= percents[0] <= percents[-1] < 100
    told = [line for line in lines if "phase" in line]
    assert told
    assert all(line["eta_s"] is None or line["eta_s"] > 0 for line in told)
    assert all(event["data"]["message"] and event["data"]["status"] for event in events)
    ended = events[-1]["data"]
    assert (ended["status"], ended["endpoint"]["id"]) == ("live", "ep_watched")


def _engines(agent: int) -> Iterator[psutil.Process]:
    for process in psutil.Process(agent).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended since
            if "engine.py" in " ".join(process.cmdline()):
                yield process


def _hold_the_next_engine(agent: int, known: set[psutil.Process]) -> None:
    """Freezes the engine that comes next for two seconds, which the node and the plane have time to tell of."""
    deadline = time.monotonic() + 120
    while not (new := set(_engines(agent)) - known):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (engine,) = new
    engine.suspend()
    time.sleep(2)
    engine.resume()


def test_only_what_has_a_url_is_a_model(api) -> None:
    """A stopped endpoint is listed among endpoints, not among models."""
    with api.client() as client:
        endpoint = client.endpoints.deploy(task="clause-summary", name="listed", wait=True)
        assert endpoint.url == f"{api.root}/v1"
        urls = {each.id: each.url for each in client.endpoints.list()}
        assert {each for each, url in urls.items() if url} == {model.id for model in client.models.list()}
        client.endpoints.stop(endpoint.id)
        assert client.endpoints.retrieve(endpoint.id).url is None
        assert endpoint.id not in {model.id for model in client.models.list()}
        client.endpoints.delete(endpoint.id)
