"""What an endpoint's metrics say after a few calls: all of it read from what the node reported."""

from __future__ import annotations

import time

import pareta
import pytest

pytestmark = pytest.mark.slow
CALLS = 3


@pytest.fixture(scope="module")
def metered(api):
    """An endpoint that was called, after its calls have reached the ledger; stopped since."""
    with api.client() as client:
        endpoint = client.endpoints.deploy(task="ticket-routing", name="metered", wait=True).id
        ask = {"model": endpoint, "messages": [{"role": "user", "content": "I was charged twice"}]}
        for _ in range(CALLS - 1):
            client.chat.completions.create(**ask)
        assert list(client.chat.completions.create(**ask, stream=True))
        found, deadline = client.endpoints.metrics(endpoint), time.monotonic() + 120
        while found.cost()["completed"] < CALLS or found.performance()["cold_starts"]["count"] < 1:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        client.endpoints.stop(endpoint)
    return endpoint


@pytest.fixture
def metrics(client, metered):
    return client.endpoints.metrics(metered)


def test_performance_has_latencies_and_cold_starts(metrics) -> None:
    """Percentiles in milliseconds, a start by its phases, a series that adds up."""
    found = metrics.performance(window="1h")
    assert (found["requests"], found["completed"], found["sampled"]) == (CALLS, CALLS, CALLS)
    assert 0 < found["ttft_ms"]["p50"] <= found["latency_ms"]["max"]
    assert found["latency_ms"]["count"] == CALLS
    assert found["cold_starts"]["by_cause"] == {"deploy": 1}
    assert found["cold_starts"]["seconds"]["count"] == 1
    assert set(found["cold_starts"]["phase_median_s"]) >= {"spawn", "probe"}
    assert (len(found["series"]), sum(point["requests"] for point in found["series"])) == (60, CALLS)


def test_cost_is_what_was_debited(metrics, api, metered) -> None:
    """The sum over the ledger's rows, at the catalog's price."""
    found = metrics.cost()
    rows = [row for row in api.agent.usage() if row["endpoint"] == metered]
    assert found["debit_micro_usd"] == sum(row["debit_micro_usd"] for row in rows) > 0
    assert found["output_tokens"] == sum(row["output_tokens"] for row in rows)
    assert found["price"]["input_micro_usd_per_mtok"] == 80_000
    assert len(found["series"]) == 24


def test_uptime_counts_from_the_first_time_that_it_was_live(metrics) -> None:
    """A stop by its owner is no downtime."""
    found = metrics.uptime()
    assert found["outages"] == []
    assert 0 < found["uptime_ratio"] <= 1
    assert {"deploying", "live", "stopped"} >= set(found["status_seconds"]) >= {"live"}
    assert found["cold_starts"] == 1


def test_quality_is_how_calls_ended_beside_the_benchmark(metrics) -> None:
    """The catalog's figure for this alias, by its metric."""
    found = metrics.quality()
    assert (found["completed_ratio"], found["outcomes"]) == (1.0, {"completed": CALLS})
    assert found["benchmark"] == {"metric": "label-accuracy", "quality": 0.92}


def test_activity_lists_the_newest_calls(metrics) -> None:
    """No prompt, no key; as many as asked."""
    found = metrics.activity(limit=2)
    assert (found["requests"], len(found["recent"])) == (CALLS, 2)
    assert found["recent"][0]["outcome"] == "completed"
    assert found["last_request_at"] == found["recent"][0]["at"]
    assert [start["cause"] for start in found["cold_starts"]] == ["deploy"]
    assert "live" in [moment["status"] for moment in found["statuses"]]
    assert "charged" not in str(found)


def test_a_window_before_the_first_call_is_empty(metrics) -> None:
    """Nothing is null or zero, and every part of the series is there."""
    found = metrics.performance(since="2025-01-01T00:00:00Z", until="2025-01-02T00:00:00Z")
    assert (found["requests"], found["latency_ms"], found["cold_starts"]["count"]) == (0, None, 0)
    assert found["window"]["seconds"] == 86400
    assert metrics.uptime(since="1735689600", until="1735693200")["uptime_ratio"] is None


@pytest.mark.parametrize("params", [{"window": "a day"}, {"since": "then"}, {"window": "400d"}])
def test_what_is_no_window_is_refused_with_the_reason(metrics, params) -> None:
    """As a bad request."""
    with pytest.raises(pareta.BadRequestError, match=r"window|since"):
        metrics.performance(**params)
