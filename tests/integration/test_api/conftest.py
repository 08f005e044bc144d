"""One node for the whole folder: the fake engine, sixteen tasks, two orgs of which one has no credit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pareta
import pytest
from catalogs import sixteen
from harness import Agent, fake_engine, processes_of


@dataclass(frozen=True)
class Api:
    """`key` is the first org's, `poor_key` another's, which has nothing."""

    agent: Agent
    root: str
    key: str
    poor_key: str

    def client(self, key: str | None = None) -> pareta.Pareta:
        return pareta.Pareta(api_key=key or self.key, base_url=self.root, max_retries=0)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    place: Path = tmp_path_factory.mktemp("api")
    settings = {
        "PARETA_ENGINE_COMMAND": fake_engine(),
        "PARETA_REGISTRY_CATALOG": str(sixteen(place / "catalog")),
    }
    with Agent(place / "home", settings=settings) as agent:
        ready = agent.ready()
        assert agent.command("org", "create", "org_poor").returncode == 0
        poor = agent.command("keys", "create", "--org", "org_poor").stdout.strip()
        yield Api(agent, ready["base_url"].removesuffix("/v1"), ready["api_key"], poor)
    assert processes_of(place / "home") == []


@pytest.fixture
def client(api: Api) -> Iterator[pareta.Pareta]:
    with api.client() as client:
        yield client
