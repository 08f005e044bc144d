"""The unmodified `pareta` SDK operates endpoints on a whole node with the fake engine."""

import time

import httpx
import pareta
import pytest

pytestmark = pytest.mark.slow


def test_the_sdk_deploys_calls_stops_starts_and_deletes(start):
    """Each method, the typed errors, and what a restart of the agent keeps."""
    agent = start()
    ready = agent.ready()
    root = ready["base_url"].removesuffix("/v1")
    with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0) as client:
        events = list(client.endpoints.deploy(task="contract-key-fields", name="mine"))
        assert {event["event"] for event in events[:-1]} <= {"progress"}
        assert events[-1]["event"] == "complete"
        endpoint = client.endpoints.retrieve(events[-1]["data"]["endpoint"]["id"])
        assert (endpoint.is_live, endpoint.name, endpoint.model) == (True, "mine", "contract-kie-1")
        ask = {"model": endpoint.id, "messages": [{"role": "user", "content": "Capital of France?"}]}
        assert client.chat.completions.create(**ask).choices
        with pytest.raises(pareta.ConflictError):
            client.endpoints.deploy(task="contract-key-fields", name="mine", wait=True)
        with pytest.raises(pareta.NotFoundError):
            client.endpoints.deploy(task="no-such-task", wait=True)
        assert client.endpoints.deploy(task="contract-key-fields", wait=True).is_live
        client.endpoints.stop(endpoint.id)
        assert client.endpoints.retrieve(endpoint.id).status == "stopped"
        client.endpoints.delete(endpoint.id)
        with pytest.raises(pareta.NotFoundError):
            client.endpoints.retrieve(endpoint.id)
        assert len(client.endpoints.list()) == 2
    with (
        pareta.Pareta(api_key="pareta_sk_wrong", base_url=root) as stranger,
        pytest.raises(pareta.AuthenticationError),
    ):
        stranger.endpoints.list()


def test_a_deploy_goes_on_after_a_restart_of_the_agent(start):
    """Who asked loses the stream, not the endpoint; what the owner stopped stays stopped."""
    agent = start("--ready-after", "2")
    ready = agent.ready()
    with pareta.Pareta(
        api_key=ready["api_key"], base_url=ready["base_url"].removesuffix("/v1"), max_retries=0
    ) as client:
        client.endpoints.stop("ep_contract_kie")
        events = client.endpoints.deploy(task="clause-summary", name="summary")
        assert next(events)["event"] == "progress"
        events.close()
    agent.stop()
    again = start()
    anew = again.ready()
    assert [each["id"] for each in anew["endpoints"] if each["status"] == "live"] == ["ep_summary"]
    root = anew["base_url"].removesuffix("/v1")
    with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0) as client:
        states = {each.id: each.status for each in client.endpoints.list()}
    assert states["ep_contract_kie"] == "stopped"


def test_another_org_sees_nothing_and_pays_first(start):
    """Its list is empty, a foreign id is as unknown as none, and without credit nothing is deployed."""
    agent = start()
    ready = agent.ready()
    assert agent.command("org", "create", "org_other").returncode == 0
    key = agent.command("keys", "create", "--org", "org_other").stdout.strip()
    root = ready["base_url"].removesuffix("/v1")
    with pareta.Pareta(api_key=key, base_url=root, max_retries=0) as client:
        assert client.endpoints.list() == []
        for act in (client.endpoints.retrieve, client.endpoints.stop, client.endpoints.delete):
            with pytest.raises(pareta.NotFoundError):
                act("ep_contract_kie")
        with pytest.raises(pareta.InsufficientCreditsError):
            client.endpoints.deploy(task="contract-key-fields", wait=True)


def test_a_proxy_decides_the_address_and_collects_no_stream(start):
    """`url` is where the caller reached the proxy; a deploy's events pass a default nginx as they come."""
    ready = start().ready()
    headers = {"authorization": f"Bearer {ready['api_key']}", "x-forwarded-proto": "https"}
    with httpx.Client(base_url=ready["base_url"], headers=headers, timeout=120) as client:
        deadline = time.monotonic() + 120
        while (row := client.get("/endpoints/").json()[0])["url"] is None:  # the plane learns a moment later
            assert time.monotonic() < deadline, row
            time.sleep(0.1)
        proxied = client.get("/endpoints", headers={"x-forwarded-host": "api.example.com"}).json()
        with client.stream("POST", "/endpoints", json={"task": "contract-key-fields"}) as events:
            told = (events.headers["x-accel-buffering"], events.headers["cache-control"])
    assert row["url"] == ready["base_url"].replace("http:", "https:")
    assert [each["url"] for each in proxied] == ["https://api.example.com/v1"]
    assert told == ("no", "no-cache")
