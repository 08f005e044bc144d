"""The SDKs against a whole node on the fake engine."""

import pytest
from harness import Agent, fake_engine
from sdk_suite import *  # noqa: F403
from sdk_suite import Address

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    home = tmp_path_factory.mktemp("sdks") / "home"
    with Agent(home, settings={"PARETA_ENGINE_COMMAND": fake_engine()}) as agent:
        ready = agent.ready()
        yield Address(ready["base_url"], ready["api_key"], ready["endpoints"][0]["id"])
