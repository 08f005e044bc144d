"""A plan, or why there is none, in one line for people: no weights id, no path. Pure."""

from __future__ import annotations

from pareta_agent.errors import NothingFits
from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.plan import Plan, PlanReport


def refusal(report: PlanReport) -> str:
    """The nearest miss of a report, with its arithmetic."""
    if not report.rejections:
        return "nothing fits here: the catalog offers no variant for this hardware"
    reported = []
    for rejection in report.rejections[:3]:
        sums = ""
        if rejection.need_bytes is not None and rejection.have_bytes is not None:
            sums = f" (needs {rejection.need_bytes / GIB:.1f} GiB, has {rejection.have_bytes / GIB:.1f} GiB)"
        nearest = f"; fits: {rejection.nearest}" if rejection.nearest else ""
        reported.append(f"{rejection.candidate}: {rejection.reason}{sums}{nearest}")
    return "nothing fits here: " + "; ".join(reported)


def fitting(report: PlanReport, remedy: str) -> Plan:
    """The best plan; raises NothingFits when there is none."""
    if report.best is None:
        raise NothingFits("nothing_fits", refusal(report), remedy)
    return report.best


def summary(chosen: Plan) -> str:
    """The layout and what it holds, and which wrong computation it avoids."""
    on_cpu = chosen.platform == "cpu"
    where = "CPU" if on_cpu else f"{sum(len(g) for g in chosen.gpus)} GPU"
    layout = "" if on_cpu else f", tp {chosen.tp} × pp {chosen.pp} × {chosen.replicas} replicas"
    words = [
        f"{where}, {chosen.variant} in {chosen.dtype}{layout}",
        f"context {chosen.max_model_len:,}",
        f"{chosen.kv_tokens:,} KV tokens",
    ]
    return ", ".join(words) + (f"; {chosen.workaround}" if chosen.workaround else "")
