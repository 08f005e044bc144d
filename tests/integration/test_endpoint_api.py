"""The unmodified `pareta` SDK operates endpoints on a whole node with the fake engine."""

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
