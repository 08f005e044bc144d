"""Plan report: renders verdict, bytes of one device as bars, the best plan's reasons, and the rejections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.changes import PlanChange
from pareta_agent.planning.plan import Candidate, Footprint, Plan, PlanReport, Rejection

_BAR_CELLS = 40
_SHOWN_RUNNERS_UP = 5
_SHOWN_REJECTIONS = 12
_STYLES = {"compatible": "bold green", "tight": "bold yellow", "impossible": "bold red"}
_PARTS = (
    ("weights", "blue", "█"),
    ("activation", "magenta", "▓"),
    ("graphs", "yellow", "▒"),
    ("overhead", "red", "▒"),
    ("kv", "green", "░"),
)


def render(
    report: PlanReport, title: str, changes: Mapping[str, Sequence[PlanChange]] | None = None
) -> RenderableType:
    """The text of `pareta-agent plan`, at most 110 columns wide, without a weights id or a path."""
    lines: list[RenderableType] = [Text.assemble(f"{title}: ", (report.verdict, _STYLES[report.verdict]))]
    if report.candidates:
        best = report.candidates[0]
        lines += [_settings(best.plan), *_bars(best.plan.footprint), Text(f"why  {best.why}")]
        lines += [Text(""), *_runners_up(report.candidates[1:])]
    if changes is not None:
        lines += [Text(""), *_diff(changes)]
    if report.rejections:
        lines += [Text(""), *_rejections(report.rejections)]
    return Group(*lines)


def _diff(changes: Mapping[str, Sequence[PlanChange]]) -> Iterator[Text]:
    if not changes:
        yield Text("no endpoint of the running node has this task and alias")
    for endpoint, found in changes.items():
        yield Text(f"{endpoint}: {'a restart is required' if found else 'runs as planned'}", "bold")
        for one in found:
            yield Text.assemble(f"  {one.field:<24}", (one.running, "red"), " → ", (one.planned, "green"))


def layout_words(plan: Plan) -> str:
    """Replicas and layout, such as `2 × tp2 pp1`."""
    if plan.platform == "cpu":
        return f"{plan.replicas} × CPU"
    words = [f"tp{plan.tp}"] + [f"pp{plan.pp}"] * (plan.pp > 1) + [f"dp{plan.dp}"] * (plan.dp > 1)
    return f"{plan.replicas} × {' '.join(words)}{' ep' if plan.expert_parallel else ''}"


def _settings(plan: Plan) -> Table:
    table = Table.grid(padding=(0, 2))
    memory = (
        f"gpu_memory_utilization {plan.gpu_memory_utilization}"
        if plan.gpu_memory_utilization is not None
        else f"kv_cache_bytes {plan.kv_cache_bytes:,}"
    )
    table.add_row("variant", f"{plan.variant}, {plan.dtype}, KV {plan.kv_cache_dtype}")
    table.add_row("layout", f"{layout_words(plan)}{', eager' if plan.enforce_eager else ''}")
    table.add_row("limits", f"max_model_len {plan.max_model_len:,}, max_num_seqs {plan.max_num_seqs:,}")
    table.add_row("", f"max_num_batched_tokens {plan.max_num_batched_tokens:,}, {memory}")
    table.add_row(
        "cache", f"{plan.kv_tokens:,} tokens a replica, {plan.footprint.kv_bytes_per_token:,} bytes each"
    )
    if plan.workaround is not None:
        table.add_row("numerics", plan.workaround)
    for index, gpus in enumerate(plan.gpus):
        if gpus:
            table.add_row(f"replica {index}", escape(" ".join(gpus)))
    return table


def _bars(footprint: Footprint) -> Iterator[Text]:
    """Bytes of one GPU (or of the host): one bar for all parts, and a line for each part."""
    sizes = {
        "weights": footprint.weights_bytes,
        "activation": footprint.activation_bytes,
        "graphs": footprint.graphs_bytes,
        "overhead": footprint.overhead_bytes,
        "kv": footprint.kv_bytes,
    }
    total = max(sum(sizes.values()), 1)
    bar = Text()
    for name, style, mark in _PARTS:
        bar.append(mark * round(sizes[name] * _BAR_CELLS / total), style)
    yield Text.assemble(bar, f"  {total / GIB:.1f} GiB of each device")
    for name, style, mark in _PARTS:
        cells = round(sizes[name] * _BAR_CELLS / total)
        yield Text.assemble(f"{name:<11}{sizes[name] / GIB:7.2f} GiB ", (mark * cells, style))


def _runners_up(candidates: tuple[Candidate, ...]) -> Iterator[RenderableType]:
    if not candidates:
        return
    table = Table("runner-up", "layout", "KV", "context", "score", "why not", box=None, pad_edge=False)
    for one in candidates[:_SHOWN_RUNNERS_UP]:
        plan = one.plan
        reason = one.why.rpartition("; ")[2]
        table.add_row(
            plan.variant,
            layout_words(plan),
            plan.kv_cache_dtype,
            f"{plan.max_model_len:,}",
            f"{one.score:,.0f}",
            reason,
        )
    yield table
    if len(candidates) > _SHOWN_RUNNERS_UP:
        yield Text(f"and {len(candidates) - _SHOWN_RUNNERS_UP} more (--json has all)", "dim")


def _rejections(rejections: tuple[Rejection, ...]) -> Iterator[RenderableType]:
    nearest = next((one.nearest for one in rejections if one.nearest), None)
    if nearest is not None:
        yield Text(nearest, "bold")
    table = Table("rejected", "reason", "needs", "has", box=None, pad_edge=False)
    for one in rejections[:_SHOWN_REJECTIONS]:
        table.add_row(escape(one.candidate), escape(one.reason), _gib(one.need_bytes), _gib(one.have_bytes))
    yield table
    if len(rejections) > _SHOWN_REJECTIONS:
        yield Text(f"and {len(rejections) - _SHOWN_REJECTIONS} more (--json has all)", "dim")


def _gib(size: int | None) -> str:
    return "" if size is None else f"{size / GIB:.1f} GiB"
