"""The `pareta` SDK operates an endpoint on real vLLM, by the same steps as on the fake engine."""

import pareta
import pytest
from api_suite import operates
from harness import Agent

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_an_endpoint_from_deploy_to_delete(tmp_path, engine_python) -> None:
    """Live, called, stopped and refused at once, live again; without credit nothing runs, on either path."""
    with Agent(tmp_path / "home", settings={"PARETA_ENGINE_PYTHON": str(engine_python)}) as agent:
        ready = agent.ready(timeout_s=400)
        root, first = ready["base_url"].removesuffix("/v1"), ready["endpoints"][0]["id"]
        with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0, timeout=400) as client:
            client.endpoints.stop(first)  # two engines are more than a small machine holds
            operates(client)
        assert agent.command("org", "create", "org_poor").returncode == 0
        poor = agent.command("keys", "create", "--org", "org_poor").stdout.strip()
        with pareta.Pareta(api_key=poor, base_url=root, max_retries=0) as client:
            with pytest.raises(pareta.InsufficientCreditsError):
                client.endpoints.deploy(task="contract-key-fields", wait=True)
            with pytest.raises(pareta.InsufficientCreditsError):
                client.chat.completions.create(model=first, messages=[{"role": "user", "content": "Hello"}])
