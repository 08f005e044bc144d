"""Sleep policy: selects an endpoint's idle timeout for scale to zero (its own, else the alias's, else the node's)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.control.reconcile import Wanted
from pareta_registry.catalog import Catalog
from pareta_registry.resolve import Resolution, resolve


@dataclass(frozen=True, slots=True)
class SleepPolicy:
    """Evaluated at each look: a change takes effect at once and restarts nothing. None is unset, 0 is never."""

    of_endpoint: Callable[[str], float | None]
    catalog: Callable[[], Catalog]
    of_node_s: float | None

    def limit_s(self, endpoint: EndpointView | Wanted) -> float | None:
        """The idle timeout; None: the endpoint never sleeps."""
        return first_said(self.of_endpoint(endpoint.id), self._of_alias(endpoint), self.of_node_s)

    def _of_alias(self, endpoint: EndpointView | Wanted) -> float | None:
        found = resolve(self.catalog(), endpoint.task, endpoint.alias)
        return found.alias.idle_sleep_s if isinstance(found, Resolution) else None


def first_said(*limits_s: float | None) -> float | None:
    """The first value that is set; None also when that value is 0, never."""
    return next((each for each in limits_s if each is not None), None) or None
