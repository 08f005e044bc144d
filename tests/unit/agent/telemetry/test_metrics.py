"""The registry and its table."""

import re
import shutil
import subprocess

import pytest

from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.telemetry.series import TABLE


@pytest.mark.parametrize("series", TABLE, ids=lambda series: series.name)
def test_names_follow_the_rules(series):
    """Prefix, base units, `_total` on counters alone, a sentence of help."""
    assert re.fullmatch(r"pareta_[a-z][a-z0-9_]*", series.name)
    assert series.name.endswith("_total") == (series.kind == "counter")
    assert not re.search(r"_(ms|us|kb|mb|mib|percent)(_|$)", series.name)
    assert series.meaning.endswith(".")
    assert bool(series.buckets) == (series.kind == "histogram")
    assert list(series.buckets) == sorted(series.buckets)


def filled() -> Metrics:
    metrics = Metrics()
    metrics.inc("pareta_requests_total", "ep", "/v1/x", "completed", "200")
    metrics.inc("pareta_requests_total", "ep", "/v1/x", "completed", "200", by=2)
    metrics.set("pareta_ready", 1)
    metrics.set("pareta_build_info", 1, 'a"b\\c\nd')
    for value in (0.001, 0.3, 0.3, 500.0):
        metrics.observe("pareta_time_to_first_token_seconds", value, "ep")
    return metrics


def test_what_was_counted_is_told():
    """Counters add, gauges hold, buckets are cumulative, label values are escaped."""
    lines = filled().render().decode().splitlines()
    at = 'pareta_time_to_first_token_seconds_bucket{endpoint="ep",le='
    assert 'pareta_requests_total{code="200",endpoint="ep",outcome="completed",route="/v1/x"} 3.0' in lines
    assert "pareta_ready 1.0" in lines
    assert 'pareta_build_info{version="a\\"b\\\\c\\nd"} 1.0' in lines
    assert [at + '"0.005"} 1.0', at + '"0.5"} 3.0', at + '"120.0"} 3.0', at + '"+Inf"} 4.0'] == [
        line
        for line in lines
        if line.startswith((at + '"0.005"', at + '"0.5"', at + '"120.0"', at + '"+Inf"'))
    ]
    assert 'pareta_time_to_first_token_seconds_count{endpoint="ep"} 4.0' in lines


def test_wrong_labels_are_a_bug_told_at_once():
    """Too few or too many raise; so does a series that was never declared."""
    metrics = Metrics()
    with pytest.raises(ValueError, match="takes labels"):
        metrics.inc("pareta_requests_total", "ep")
    with pytest.raises(KeyError):
        metrics.set("pareta_nothing", 1)


def test_a_dropped_child_is_gone():
    """And dropping it again is no error."""
    metrics = filled()
    for _ in range(2):
        metrics.drop("pareta_requests_total", "ep", "/v1/x", "completed", "200")
        metrics.drop("pareta_time_to_first_token_seconds", "ep")
    assert b'"ep"' not in metrics.render()


def test_an_update_that_fails_costs_only_itself():
    """The scrape goes on and counts the failure."""
    metrics = filled()
    metrics.before_render(lambda: 1 // 0)
    metrics.before_render(lambda: metrics.set("pareta_plane_up", 1))
    text = metrics.render().decode()
    assert "pareta_plane_up 1.0" in text
    assert 'pareta_scrape_errors_total{endpoint=""} 1.0' in text


def whole() -> Metrics:
    """Every series of the table, each label as its own value."""
    metrics = Metrics()
    for series in TABLE:
        if series.kind == "histogram":
            metrics.observe(series.name, 1.0, *series.labels)
        else:
            metrics.inc(series.name, *series.labels)
    return metrics


def test_no_label_is_one_that_prometheus_keeps_for_itself():
    """`quantile` is a summary's, `le` a histogram's, `__…` the server's."""
    assert [
        s.name for s in TABLE for label in s.labels if label in ("quantile", "le") or label[:2] == "__"
    ] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("metrics", [filled, whole])
def test_promtool_has_nothing_to_say(metrics):
    """The exposition passes Prometheus's own linter, each series of the table within it."""
    told = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics().render(), capture_output=True, check=False
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, b"", b"")
