"""Whose word counts for how long an endpoint idles."""

from __future__ import annotations

import pytest

from pareta_agent.control.reconcile import Wanted
from pareta_agent.node.sleep.policy import SleepPolicy
from pareta_registry.load import builtin_catalog

CATALOG = builtin_catalog()
(TASK, *_) = CATALOG.tasks
ENDPOINT = Wanted("ep_a", "org", TASK.id, TASK.recommended, "running")


@pytest.mark.parametrize(
    ("endpoint_s", "alias_s", "node_s", "limit_s"),
    [
        (5.0, 6.0, 7.0, 5.0),
        (None, 6.0, 7.0, 6.0),
        (None, None, 7.0, 7.0),
        (None, None, None, None),
        (0.0, 6.0, 7.0, None),
        (None, 0.0, 7.0, None),
        (None, None, 0.0, None),
    ],
)
def test_the_nearest_word_counts_and_zero_is_never(
    endpoint_s: float | None, alias_s: float | None, node_s: float | None, limit_s: float | None
) -> None:
    """The endpoint's, else its alias's, else the node's."""
    aliases = tuple(alias.model_copy(update={"idle_sleep_s": alias_s}) for alias in TASK.aliases)
    catalog = CATALOG.model_copy(update={"tasks": (TASK.model_copy(update={"aliases": aliases}),)})
    policy = SleepPolicy({"ep_a": endpoint_s}.get, lambda: catalog, node_s)
    assert policy.limit_s(ENDPOINT) == limit_s


def test_an_alias_that_is_gone_says_nothing() -> None:
    """The catalog moved on; the node's word is left."""
    gone = Wanted("ep_a", "org", TASK.id, "no-such-alias", "running")
    assert SleepPolicy({}.get, lambda: CATALOG, 7.0).limit_s(gone) == 7.0
