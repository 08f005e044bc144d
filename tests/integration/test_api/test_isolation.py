"""Two orgs over every route that is described: nothing of one is there for the other."""

from __future__ import annotations

import httpx
import pytest

pytestmark = pytest.mark.slow
OWN, NOBODYS = "ep_contract_kie", "ep_nobodys"


@pytest.fixture(scope="module")
def other_key(api) -> str:
    """Of an org that could pay."""
    assert api.agent.command("org", "create", "org_other").returncode == 0
    assert api.agent.command("org", "topup", "5", "--org", "org_other").returncode == 0
    return api.agent.command("keys", "create", "--org", "org_other").stdout.strip()


@pytest.fixture(scope="module")
def routes(api) -> list[tuple[str, str]]:
    """Those that want a key: an upload's URL is one in itself."""
    paths = httpx.get(f"{api.root}/v1/openapi.json", timeout=120).json()["paths"]
    return [
        (method.upper(), path)
        for path, item in paths.items()
        for method, route in item.items()
        if "security" in route
    ]


BODIES = {
    ("POST", "/v1/tasks/match"): {"query": "x"},
    ("POST", "/v1/endpoints"): {"task": "no-such-task"},
    ("PATCH", "/v1/endpoints/{id}"): {"idle_sleep_s": 1},
}


def ask(api, key: str | None, method: str, path: str, name: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = api.root + path.replace("{id}", name)
    return httpx.request(method, url, headers=headers, json=BODIES.get((method, path)), timeout=120)


def test_every_route_wants_a_key(api, routes) -> None:
    """And says so before anything else."""
    assert len(routes) >= 15
    for key in (None, "pareta_sk_wrong"):
        said = {(method, path): ask(api, key, method, path, OWN).status_code for method, path in routes}
        assert set(said.values()) == {401}, said


def test_another_orgs_endpoint_is_as_unknown_as_none(api, other_key, routes) -> None:
    """The same status and the same body, whatever is done to it; and it is as it was."""
    concerned = [(m, p) for m, p in routes if p.startswith("/v1/endpoints/{id}")]
    assert len(concerned) == 10
    before = ask(api, api.key, "GET", "/v1/endpoints/{id}", OWN).json()
    for method, path in concerned:
        foreign, unknown = (ask(api, other_key, method, path, name) for name in (OWN, NOBODYS))
        assert (foreign.status_code, foreign.content) == (404, unknown.content), (method, path)
    assert ask(api, api.key, "GET", "/v1/endpoints/{id}", OWN).json() == before
    assert before["status"] == "live"


def test_no_answer_names_what_is_another_orgs(api, other_key, routes) -> None:
    """Neither its endpoints nor the org."""
    told = [ask(api, other_key, method, path, "contract-key-fields").text for method, path in routes]
    models = httpx.get(f"{api.root}/v1/models", headers={"Authorization": f"Bearer {other_key}"}, timeout=120)
    assert models.json()["data"] == []
    for text in [*told, models.text]:
        assert OWN not in text
        assert "org_local" not in text


def test_a_name_that_another_org_took_is_free(api, other_key) -> None:
    """Names are an org's own; ids are told apart."""
    with api.client(other_key) as client:
        endpoint = client.endpoints.deploy(task="contract-key-fields", name="contract-kie", wait=True)
        assert (endpoint.name, endpoint.id == OWN) == ("contract-kie", False)
        assert [model.id for model in client.models.list()] == [endpoint.id]
        client.endpoints.delete(endpoint.id)


def test_a_key_for_one_endpoint_reaches_no_other(api) -> None:
    """Of its own org either."""
    made = api.agent.command("keys", "create", "--org", "org_local", "--endpoint", "ep_elsewhere")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    before = ask(api, api.key, "GET", "/v1/endpoints/{id}", OWN).json()
    assert ask(api, key, "GET", "/v1/endpoints", OWN).json() == []
    assert ask(api, key, "GET", "/v1/endpoints/{id}/cost", OWN).status_code == 404
    assert ask(api, key, "POST", "/v1/endpoints", OWN).status_code == 403
    assert ask(api, key, "PATCH", "/v1/endpoints/{id}", OWN).status_code == 404
    assert ask(api, api.key, "GET", "/v1/endpoints/{id}", OWN).json() == before
