"""Billing: the charge, the metrics and the log event of an admitted request."""

from __future__ import annotations

from pareta_agent.access.credit import Reservation
from pareta_agent.access.limits import Permit
from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.grant import TokenPrice
from pareta_agent.contract.outcome import debited
from pareta_agent.contract.price import cost_micro_usd
from pareta_agent.contract.usage_record import Outcome, PartialPolicy, UsageRecord
from pareta_agent.telemetry.events import Event
from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.value import value


@value
class Charge:
    """The resources of a request until the settlement: credit, and a share of the key's limits.

    `price` is None for a free endpoint, `permit` for a key without limits; `partial` is the org's policy.
    """

    held: Reservation
    price: TokenPrice | None
    permit: Permit | None = None
    partial: PartialPolicy = "none"

    def used_micro_usd(self, record: UsageRecord) -> int:
        """The debit of the record."""
        if self.price is None or not debited(record.outcome, record.usage_source, self.partial):
            return 0
        tokens = record.tokens
        return cost_micro_usd(self.price, tokens.input, tokens.input_cached, tokens.output)


def count(metrics: Metrics, record: UsageRecord, status: int) -> None:
    """Adds a settled request to the metrics; `status` is the caller's, 499 if the caller had left."""
    endpoint, route, tokens = record.admission.endpoint, record.admission.route, record.tokens
    metrics.inc("pareta_requests_total", endpoint, route, record.outcome.value, str(status))
    metrics.inc("pareta_requests_in_flight", endpoint, by=-1)
    metrics.inc("pareta_tokens_total", endpoint, "input", by=tokens.input)
    metrics.inc("pareta_tokens_total", endpoint, "input_cached", by=tokens.input_cached)
    metrics.inc("pareta_tokens_total", endpoint, "output", by=tokens.output)
    metrics.observe("pareta_request_duration_seconds", record.t_end_s, endpoint, route)
    first_s = record.t_first_token_s
    if first_s is None:
        return
    metrics.observe("pareta_time_to_first_token_seconds", first_s, endpoint)
    if tokens.output > 1:
        # The mean over a request: an observation a chunk would cost more than the chunk.
        mean_s = (record.t_end_s - first_s) / (tokens.output - 1)
        metrics.observe("pareta_inter_token_seconds", mean_s, endpoint)


def failure_event(record: UsageRecord, problem: Problem) -> Event:
    """The log event of a request that did not complete."""
    code = "client_gone" if record.outcome is Outcome.PARTIAL_CLIENT else problem.code
    fields = {"request_id": record.admission.request_id, "endpoint": record.admission.endpoint}
    fields |= {"outcome": record.outcome.value, "code": code, "replica": record.replica}
    return Event("request_not_completed", "info", fields)
