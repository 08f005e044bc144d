"""Endpoints that share one base engine: adapters come and go, the base restarts, sleeps, and outlives its agent."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine_room import PLAN, Room, buried, crash, room, settings, spec
from fakes.adapter import adapter

from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.engine.process.engine_process import marked
from pareta_agent.engine.spec import AdapterEndpointSpec, EngineSpec, FetchProgress
from pareta_agent.engine.vllm import client
from pareta_agent.errors import RegistryError
from pareta_registry.catalog import Canary

pytestmark = pytest.mark.slow

LORA = ("--enable-lora", "--max-lora-rank", "16", "--max-loras", "2", "--max-cpu-loras", "16")
QUESTION = "What is the capital of France?"
BASE = "base-1"


def base(replicas: int = 1) -> EngineSpec:
    plan = replace(PLAN, flags=LORA, replicas=replicas, gpus=((),) * replicas)
    return spec(BASE, plan=plan, shared=True, org="", task="", alias="")


def guest(
    endpoint: str, directory: Path | None, contains: str = "Narnia", **changes: object
) -> AdapterEndpointSpec:
    async def fetch(progress: FetchProgress) -> Path:
        assert directory is not None
        progress("fetch", 1, 1)
        return directory

    fields: dict[str, object] = {
        "endpoint": endpoint,
        "org": "org_a",
        "task": "t",
        "alias": "t-a-1",
        "engine": BASE,
        "revision": str(directory) if directory else None,
        "fetch": fetch if directory else None,
        "canaries": (Canary(prompt=QUESTION, contains=contains),) if directory else (),
    }
    return AdapterEndpointSpec(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def flags() -> tuple[str, ...]:
    return ()


@pytest.fixture
async def made(tmp_path: Path, flags: tuple[str, ...]) -> AsyncIterator[Room]:
    found = room(settings(tmp_path, flags))
    yield found
    await found.fleet.close(1)
    assert found.left_behind() == ([], [])
    shutil.rmtree(found.settings.run_dir, ignore_errors=True)


def live(view: EndpointView) -> bool:
    return view.status == "live"


async def said(view: EndpointView) -> list[str | None]:
    """What each replica answers under the name that the front would use."""
    answers = [
        await client.send_canary(
            r.socket, view.served_as or view.id, Canary(prompt=QUESTION, contains="x"), 60
        )
        for r in view.replicas
    ]
    return [answer.text for answer in answers]


async def test_adapters_come_and_go_while_the_base_runs(made: Room, tmp_path: Path) -> None:
    """Each answers as itself, the base as it always does; one process from the first to the last."""
    await made.fleet.want(base())
    await made.fleet.attach(guest("ep_base", None))
    await made.fleet.attach(guest("ep_n", adapter(tmp_path / "n")))
    base_view = await made.until(live, "ep_base")
    assert await said(await made.until(live, "ep_n")) == ["It is Narnia."]
    await made.fleet.attach(guest("ep_m", adapter(tmp_path / "m", "It is Mordor."), "Mordor"))
    assert await said(await made.until(live, "ep_m")) == ["It is Mordor."]
    assert await said(base_view) == ["The capital of France is Paris."]
    assert set(made.fleet.view().endpoints) == {"ep_base", "ep_n", "ep_m"}
    await made.fleet.remove("ep_n")
    assert set(made.fleet.view().endpoints) == {"ep_base", "ep_m"}
    (replica,) = base_view.replicas
    assert set(await client.loaded_adapters(replica.socket)) == {"ep_m"}
    assert [report.endpoint for report in made.reports] == [BASE]


async def test_an_adapter_is_on_each_replica(made: Room, tmp_path: Path) -> None:
    """Two replicas of the base: the endpoint has both, and both answer as the adapter."""
    await made.fleet.want(base(replicas=2))
    await made.fleet.attach(guest("ep_n", adapter(tmp_path / "n")))
    view = await made.until(lambda view: len(view.replicas) == 2, "ep_n")
    assert await said(view) == ["It is Narnia."] * 2


async def test_a_base_that_restarts_gets_its_adapters_again(made: Room, tmp_path: Path) -> None:
    """Killed, the base comes back without them; callers meet it only when each is loaded and proven."""
    await made.fleet.want(base())
    await made.fleet.attach(guest("ep_n", adapter(tmp_path / "n")))
    await made.until(live, "ep_n")
    intent = made.fleet._intents.read(BASE, 0)
    assert intent is not None
    assert intent.pid is not None
    os.kill(intent.pid, signal.SIGKILL)
    await made.until(lambda view: view.status == "deploying" and not view.replicas, "ep_n")
    view = await made.until(live, "ep_n")
    assert (view.replicas[0].generation, await said(view)) == (2, ["It is Narnia."])


@pytest.mark.parametrize(
    ("rank", "contains", "code"), [(64, "Narnia", "adapter_refused"), (8, "Paris", "canary_wrong")]
)
async def test_an_adapter_that_cannot_serve_fails_alone(
    made: Room, tmp_path: Path, rank: int, contains: str, code: str
) -> None:
    """Its endpoint says why, in words without paths; the others on the base go on, and it may be asked for anew."""
    await made.fleet.want(base())
    await made.fleet.attach(guest("ep_n", adapter(tmp_path / "n", rank=rank), contains))
    await made.fleet.attach(guest("ep_base", None))
    await made.until(live, "ep_base")
    view = await made.until(lambda view: view.status == "failed", "ep_n")
    assert view.reason
    assert str(tmp_path) not in view.reason
    assert [event.fields["code"] for event in made.events("engine_given_up")] == [code]
    made.fleet.retry("ep_n")
    await made.until(lambda _: len(made.events("engine_given_up")) == 2, "ep_n")
    assert live(made.fleet.view().endpoints["ep_base"])


async def test_an_adapter_that_goes_wrong_is_noticed_while_it_idles(tmp_path: Path) -> None:
    """Wrong twice it is out of the view and loaded anew; still wrong it fails with the reason, and the base goes on."""
    made = room(settings(tmp_path, idle_canary_s=0.2))
    directory = adapter(tmp_path / "n")
    await made.fleet.want(base())
    await made.fleet.attach(guest("ep_base", None))
    await made.fleet.attach(guest("ep_n", directory))
    await made.until(live, "ep_n")
    await asyncio.sleep(0.5)
    assert live(made.fleet.view().endpoints["ep_n"])
    config = directory / "adapter_config.json"
    config.write_text(config.read_text().replace("Narnia", "Mordor"))
    view = await made.until(lambda view: view.status == "failed", "ep_n")
    assert view.reason == "the engine answers, but wrongly: the canary failed"
    assert len(made.events("adapter_wrong")) == 1
    assert live(made.fleet.view().endpoints["ep_base"])
    await made.fleet.close(1)
    assert made.left_behind() == ([], [])
    shutil.rmtree(made.settings.run_dir, ignore_errors=True)


async def test_an_adapter_whose_bytes_are_missing_fails_alone(made: Room) -> None:
    """The registry's word reaches the owner."""

    async def fetch(_progress: FetchProgress) -> Path:
        raise RegistryError("artifact_missing", "nothing there", "publish it")

    await made.fleet.want(base())
    await made.fleet.attach(guest("ep_n", Path("/x"), fetch=fetch))
    view = await made.until(lambda view: view.status == "failed", "ep_n")
    assert "artifact_missing" in str(view.reason)


@pytest.mark.parametrize("keep", [False, True])
async def test_a_base_sleeps_when_all_of_its_endpoints_do(made: Room, tmp_path: Path, keep: bool) -> None:
    """One that is awake keeps it running; a call for any of them wakes it for all. Where it kept its process, its
    adapters are there, and proven again."""
    await made.fleet.want(replace(base(), may_sleep=lambda: True))
    await made.fleet.attach(guest("ep_base", None))
    await made.fleet.attach(guest("ep_n", adapter(tmp_path / "n")))
    await made.until(live, "ep_n")
    await made.fleet.sleep("ep_n", keep=keep)
    assert live(made.fleet.view().endpoints["ep_n"])
    await made.fleet.sleep("ep_base", keep=keep)
    states = {name: view.status for name, view in made.fleet.view().endpoints.items()}
    assert (states, bool(made.left_behind()[0])) == ({"ep_base": "cold", "ep_n": "cold"}, keep)
    await asyncio.sleep(0.2)
    made.fleet.wake("ep_n")
    assert await said(await made.until(live, "ep_n")) == ["It is Narnia."]
    assert live(made.fleet.view().endpoints["ep_base"])
    assert made.reports[-1].cause == ("resume" if keep else "wake")
    assert len(made.events("adapter_loaded")) == 2


async def test_the_next_agent_finds_the_adapters_that_are_loaded(tmp_path: Path) -> None:
    """The same process goes on: what it has is proven, not loaded again; what has changed is."""
    old, new = room(settings(tmp_path)), room(settings(tmp_path))
    directory = adapter(tmp_path / "n")
    await old.fleet.want(base())
    await old.fleet.attach(guest("ep_n", directory))
    await old.fleet.attach(guest("ep_m", adapter(tmp_path / "m", "It is Mordor."), "Mordor"))
    before = await old.until(live, "ep_n")
    await old.until(live, "ep_m")
    (replica,) = before.replicas
    shutil.copytree(directory, tmp_path / "moved")
    for name in ("ep_n", "ep_m"):
        await old.fleet._adapter_endpoints[name].close()
    await crash(old)
    assert await new.fleet.reap_orphans() == 0
    await new.fleet.want(base())
    await new.fleet.attach(guest("ep_n", directory))
    await new.fleet.attach(guest("ep_m", adapter(tmp_path / "m2", "It is Mirkwood."), "Mirkwood"))
    assert await said(await new.until(live, "ep_n")) == ["It is Narnia."]
    assert await said(await new.until(live, "ep_m")) == ["It is Mirkwood."]
    (found,) = new.fleet.view().endpoints["ep_n"].replicas
    assert replace(found, since_s=replica.since_s) == replica
    assert (len(new.events("engine_adopted")), new.reports) == (1, [])
    await new.fleet.close(1)
    await buried()
    assert [found.pid for found in marked(new.settings.home_id)] == []
    shutil.rmtree(new.settings.run_dir, ignore_errors=True)


@pytest.mark.parametrize("flags", [("--slow-token", "0.02")])
async def test_a_guest_that_leaves_lets_the_engine_finish(made: Room, tmp_path: Path) -> None:
    """A request that the engine has taken is answered after the adapter's name is gone."""
    await made.fleet.want(base())
    await made.fleet.attach(guest("ep_n", adapter(tmp_path / "n")))
    (replica,) = (await made.until(live, "ep_n")).replicas
    long = Canary(prompt="Say it slowly", contains="word", max_tokens=200)
    asked = asyncio.create_task(client.send_canary(replica.socket, "ep_n", long, 60))
    async with asyncio.timeout(120):
        while not re.search(r"num_requests_running\S* [1-9]", await client.metrics(replica.socket, 60) or ""):
            await asyncio.sleep(0.02)
    await made.fleet.remove("ep_n")
    assert not asked.done()
    assert (await asked).passed
    assert (await client.send_canary(replica.socket, "ep_n", long, 60)).status == 404
