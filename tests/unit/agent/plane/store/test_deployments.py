"""Deployments: an owner's commands on an endpoint, and the desired state that follows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pareta_agent.clock import SystemClock
from pareta_agent.contract.wire import DesiredEndpoint
from pareta_agent.plane.seed import DEFAULT_PRICE
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.deployments import Deployed, Deployments, DeployOrder
from pareta_agent.plane.store.desired_state import DesiredState


@pytest.fixture
def deployments(database: Database) -> Deployments:
    return Deployments(database, SystemClock())


@pytest.fixture
def desired_state(database: Database) -> DesiredState:
    return DesiredState(database, SystemClock())


@pytest.fixture
def deployed(deployments: Deployments) -> Deployed:
    found = deployments.create(DeployOrder("org", "t", "a", "ep_a", DEFAULT_PRICE, idle_sleep_s=600.0))
    assert found is not None
    return found


def only_endpoint(desired_state: DesiredState) -> DesiredEndpoint:
    (endpoint,) = desired_state.read().endpoints
    return endpoint


def test_a_change_of_how_long_it_idles_is_told_and_is_no_attempt(
    deployments: Deployments, deployed: Deployed, desired_state: DesiredState
) -> None:
    """Another timeout, never, and unset: each is a revision that changes nothing else."""
    before = only_endpoint(desired_state)
    for idle_sleep_s in (60.0, 0.0, None):
        revision = desired_state.read().revision
        changed = deployments.set_idle_timeout("org", deployed.id, idle_sleep_s)
        assert changed is not None
        assert (changed.idle_sleep_s, changed.revision) == (idle_sleep_s, deployed.revision)
        assert desired_state.read().revision > revision
        assert only_endpoint(desired_state) == before.model_copy(update={"idle_sleep_s": idle_sleep_s})
    assert deployments.find("org", deployed.id) == changed


def test_what_an_owner_said_of_an_endpoint_of_the_settings_outlasts_them(
    deployments: Deployments, desired_state: DesiredState
) -> None:
    """Settings applied at a start do not replace the owner's timeout."""
    settings = [DesiredEndpoint(id="ep_a", org="org", task="t", alias="a", idle_sleep_s=600.0)]
    desired_state.replace(settings)
    before = only_endpoint(desired_state)
    deployments.set_idle_timeout("org", "ep_a", 5.0)
    desired_state.replace(settings)
    assert only_endpoint(desired_state) == before.model_copy(update={"idle_sleep_s": 5.0})


def test_nobody_else_lets_it_sleep(
    deployments: Deployments, deployed: Deployed, desired_state: DesiredState
) -> None:
    """Another org cannot change the timeout, nor the owner after a delete."""
    assert deployments.set_idle_timeout("other", deployed.id, 5.0) is None
    assert only_endpoint(desired_state).idle_sleep_s == 600.0
    deployments.set_state("org", deployed.id, "deleted")
    assert deployments.set_idle_timeout("org", deployed.id, 5.0) is None


def test_changes_at_once_leave_one_of_them(deployments: Deployments, desired_state: DesiredState) -> None:
    """Concurrent changes keep the last timeout, and a concurrent start is kept."""
    desired_state.replace([DesiredEndpoint(id="ep_a", org="org", task="t", alias="a")])
    said = [float(number) for number in range(1, 9)]
    with ThreadPoolExecutor(8) as callers:
        started = callers.submit(deployments.set_state, "org", "ep_a", "running")
        list(callers.map(lambda idle_s: deployments.set_idle_timeout("org", "ep_a", idle_s), said))
    turned = started.result()
    assert turned is not None
    assert only_endpoint(desired_state).attempt == turned.revision > 0
    assert only_endpoint(desired_state).idle_sleep_s in said
