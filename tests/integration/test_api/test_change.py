"""What may be changed of a deployed endpoint, and what is said to all else."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pareta
import pytest

pytestmark = pytest.mark.slow
DEPLOY = "/v1/endpoints"


@pytest.fixture(scope="module")
def path(api) -> Iterator[str]:
    """Of an endpoint of this file's own."""
    with api.client() as client:
        endpoint = client.endpoints.deploy(task="contract-key-fields", wait=True, idle_sleep_s=600)
        yield f"{DEPLOY}/{endpoint.id}"
        client.endpoints.delete(endpoint.id)


def sent(api, method: str, path: str, body: str) -> httpx.Response:
    """As it stands, which the SDK would not send."""
    headers = {"Authorization": f"Bearer {api.key}", "Content-Type": "application/json"}
    return httpx.request(method, api.root + path, content=body, headers=headers, timeout=120)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "idle_sleep_s"),
        ({"idle_sleep_s": -1}, "idle_sleep_s"),
        ({"idle_sleep_s": "60"}, "idle_sleep_s"),
        ({"idle_sleep_s": False}, "idle_sleep_s"),
        ({"idle_sleep_s": 60, "name": "other"}, "name"),
        ({"idle_sleep_s": 60, "asleep_s": 60}, "asleep_s"),
        ([60], None),
    ],
)
def test_what_is_no_change_is_refused_and_changes_nothing(client, path, body, field) -> None:
    """As the SDK's typed error; the message names the field."""
    before = client.request("GET", path)
    with pytest.raises(pareta.BadRequestError, match=field) as refused:
        client.request("PATCH", path, body=body)
    assert refused.value.status_code == 422
    assert client.request("GET", path)["idle_sleep_s"] == before["idle_sleep_s"] == 600


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e999", "1" + 400 * "0"])
@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_a_time_is_a_number_of_seconds(api, path, method, number) -> None:
    """At a change as at a deploy; never is 0."""
    task = '"task": "contract-key-fields", ' if method == "POST" else ""
    where = path if method == "PATCH" else DEPLOY
    answer = sent(api, method, where, f'{{{task}"idle_sleep_s": {number}}}')
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "idle_sleep_s")


def test_a_body_that_is_no_json_is_told_as_that(api, path) -> None:
    """Not as a field of it."""
    answer = sent(api, "PATCH", path, '{"idle_sleep_s": ')
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_change_is_answered_with_the_endpoint_as_it_is_then(client) -> None:
    """Also with one that is stopped, and again when nothing is said any more; a deleted one is unknown."""
    endpoint = client.endpoints.deploy(task="contract-key-fields", wait=True)
    path = f"{DEPLOY}/{endpoint.id}"
    client.endpoints.stop(endpoint.id)
    for said in (0, 5.5, None):
        changed = client.request("PATCH", path, body={"idle_sleep_s": said})
        assert (changed["idle_sleep_s"], changed["status"]) == (said, "stopped")
        assert client.request("GET", path) == changed
    client.endpoints.delete(endpoint.id)
    with pytest.raises(pareta.NotFoundError):
        client.request("PATCH", path, body={"idle_sleep_s": 1})
