"""How long an endpoint idles before it sleeps: as its owner says, else its alias in the catalog, else this node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.control.reconcile import Wanted
from pareta_registry.catalog import Catalog
from pareta_registry.resolve import Resolution, resolve


@dataclass(frozen=True, slots=True)
class SleepPolicy:
    """Asked at each look, so that a change holds at once and restarts nothing. None is "not said", 0 is never."""

    of_endpoint: Callable[[str], float | None]
    catalog: Callable[[], Catalog]
    of_node_s: float | None

    def limit_s(self, endpoint: EndpointView | Wanted) -> float | None:
        """None: it never sleeps."""
        return first_said(self.of_endpoint(endpoint.id), self._of_alias(endpoint), self.of_node_s)

    def _of_alias(self, endpoint: EndpointView | Wanted) -> float | None:
        found = resolve(self.catalog(), endpoint.task, endpoint.alias)
        return found.alias.idle_sleep_s if isinstance(found, Resolution) else None


def first_said(*limits_s: float | None) -> float | None:
    """The first that is said; None also for one that says never."""
    return next((each for each in limits_s if each is not None), None) or None
