"""What holds for any model and any node: more never hurts, rules are never broken, the answer is always the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from planner_values import DEEPSEEK_V3, GPT_OSS_20B, LLAMA_8B, LLAMA_70B, SMOLLM2, gpus, host, node, variant

from pareta_agent.hardware.inventory import GIB, Gpu, Health, Inventory, Mig
from pareta_agent.planning.choose import plan
from pareta_agent.planning.placement.layout import Layout, illegal
from pareta_agent.planning.plan import Objective, Plan
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.support.quant import parse_quant
from pareta_registry.catalog import Architecture, Variant

ODD = LLAMA_8B.model_copy(
    update={"layers": 28, "heads": 28, "kv_heads": 4, "hidden": 3584, "intermediate": 18944, "vocab": 152064}
)
HYBRID = LLAMA_8B.model_copy(
    update={"layers": 64, "heads": 24, "kv_heads": 4, "head_dim": 256, "full_layers": 16, "linear_layers": 48}
)
TOWER = LLAMA_8B.model_copy(update={"params_b": 38.4, "layers": 64, "heads": 40, "vision_heads": 25})
WINDOWS = LLAMA_8B.model_copy(
    update={"layers": 62, "kv_heads": 16, "full_layers": 10, "sliding_layers": 52, "sliding_window": 1024}
)
LONG = ODD.model_copy(update={"max_position_embeddings": 1_010_000})
MODELS = [LLAMA_8B, LLAMA_70B, DEEPSEEK_V3, GPT_OSS_20B, SMOLLM2, ODD, HYBRID, TOWER, WINDOWS, LONG]
CARDS = [
    ("Tesla T4", (7, 5), 14.56),
    ("NVIDIA A10G", (8, 6), 22.06),
    ("NVIDIA A100-SXM4-80GB", (8, 0), 79.2),
    ("NVIDIA L40S", (8, 9), 44.4),
    ("NVIDIA H100 80GB HBM3", (9, 0), 79.1),
    ("NVIDIA B200", (10, 0), 178.3),
    ("NVIDIA GeForce RTX 5090", (12, 0), 31.36),
]
QUANTS = {"none": 16, "fp8-w8a8": 8, "fp8-block128": 8, "awq-int4-g128": 4, "nvfp4": 4, "mxfp4-moe": 4}

models = st.sampled_from(MODELS)
requests = st.builds(
    PlanRequest,
    objective=st.sampled_from(["balanced", "latency", "throughput"]),
    max_model_len=st.none() | st.integers(256, 200_000),
    replicas=st.none() | st.integers(1, 3),
)


@st.composite
def variant_lists(draw: st.DrawFn, arch: Architecture) -> list[Variant]:
    """One to three checkpoints of the model, of about the size that their format makes them."""
    names = draw(st.lists(st.sampled_from(sorted(QUANTS)), min_size=1, max_size=3, unique=True))
    return [variant(name, name, max(0.05, arch.params_b * QUANTS[name] / 8 / 1.07)) for name in names]


@st.composite
def cards(draw: st.DrawFn, kind: int, most: int) -> list[Gpu]:
    """GPUs of one kind: all linked, in pairs or not at all, now and then slices of one."""
    name, capability, gib = CARDS[kind]
    count = draw(st.integers(1, most))
    linked, sliced = draw(st.sampled_from(["all", "pairs", "none"])), draw(st.integers(0, 9)) == 0
    plain = gpus(count, gib, name=name, compute_capability=capability)
    peers = {
        "all": lambda index: [other for other in range(count) if other != index],
        "pairs": lambda index: [index ^ 1] if index ^ 1 < count else [],
        "none": lambda _index: [],
    }[linked]
    return [
        replace(
            gpu,
            uuid=f"GPU-{kind}-{index}",
            nvlink_peers=() if sliced else tuple(f"GPU-{kind}-{peer}" for peer in peers(index)),
            mig=Mig("GPU-parent") if sliced else None,
        )
        for index, gpu in enumerate(plain)
    ]


@st.composite
def nodes(draw: st.DrawFn) -> Inventory:
    """One to eight GPUs of a kind, sometimes beside some of another, partly occupied, one of them sick."""
    kinds = draw(st.lists(st.integers(0, len(CARDS) - 1), min_size=1, max_size=2, unique=True))
    found = [gpu for kind in kinds for gpu in draw(cards(kind, 8 // len(kinds)))]
    for index in draw(st.sets(st.integers(0, len(found) - 1), max_size=2)):
        free_bytes = draw(st.integers(1, found[index].memory_total_bytes or 1))
        found[index] = replace(found[index], memory_free_bytes=free_bytes)
    if draw(st.booleans()):
        found[-1] = replace(found[-1], health=Health(remapped_rows_pending=True))
    return node(tuple(found))


@st.composite
def questions(draw: st.DrawFn) -> tuple[Architecture, list[Variant], Inventory, PlanRequest]:
    arch = draw(models)
    return arch, draw(variant_lists(arch)), draw(nodes()), draw(requests)


def richer(gpu: Gpu, by_bytes: int) -> Gpu:
    return replace(
        gpu,
        memory_total_bytes=(gpu.memory_total_bytes or 0) + by_bytes,
        memory_free_bytes=(gpu.memory_free_bytes or 0) + by_bytes,
    )


@settings(max_examples=25, deadline=None)
@given(questions(), st.integers(1, 100 * GIB))
def test_more_memory_never_turns_a_plan_into_a_refusal(
    question: tuple[Architecture, list[Variant], Inventory, PlanRequest], more_bytes: int
) -> None:
    """Every GPU grows by the same amount, all of it free."""
    arch, variants, inventory, request = question
    if plan(arch, variants, inventory, request).best is not None:
        grown = replace(inventory, gpus=tuple(richer(gpu, more_bytes) for gpu in inventory.gpus))
        assert plan(arch, variants, grown, request).best is not None


@settings(max_examples=25, deadline=None)
@given(questions(), st.data())
def test_one_gpu_that_becomes_freer_never_turns_a_plan_into_a_refusal(
    question: tuple[Architecture, list[Variant], Inventory, PlanRequest], data: st.DataObject
) -> None:
    """The others stay as they are, so that the levels of free memory are cut anew."""
    arch, variants, inventory, request = question
    if plan(arch, variants, inventory, request).best is not None:
        index = data.draw(st.integers(0, len(inventory.gpus) - 1))
        gpu = inventory.gpus[index]
        free_bytes = data.draw(st.integers(gpu.memory_free_bytes or 0, gpu.memory_total_bytes or 0))
        freer = replace(gpu, memory_free_bytes=free_bytes)
        grown = replace(inventory, gpus=(*inventory.gpus[:index], freer, *inventory.gpus[index + 1 :]))
        assert plan(arch, variants, grown, request).best is not None


@settings(max_examples=25, deadline=None)
@given(questions(), st.integers(2, 3), st.sampled_from(["balanced", "latency", "throughput"]))
def test_fewer_replicas_more_variants_or_another_aim_never_refuse(
    question: tuple[Architecture, list[Variant], Inventory, PlanRequest], replicas: int, aim: Objective
) -> None:
    """What is asked less of, or offered more for, stays possible."""
    arch, variants, inventory, request = question
    asked = replace(request, replicas=replicas)
    if plan(arch, variants, inventory, asked).best is not None:
        fewer = replace(asked, replicas=replicas - 1, objective=aim)
        more = [*variants, variant("another", "w8a16", max(0.05, arch.params_b / 1.07))]
        assert plan(arch, more, inventory, fewer).best is not None


@settings(max_examples=25, deadline=None)
@given(questions(), st.integers(1, 4), st.sampled_from(["alone", "linked", "first"]))
def test_more_gpus_never_turn_a_plan_into_a_refusal(
    question: tuple[Architecture, list[Variant], Inventory, PlanRequest], more: int, how: str
) -> None:
    """Identical and idle; linked to nothing or among themselves, listed last or first."""
    arch, variants, inventory, request = question
    if plan(arch, variants, inventory, request).best is not None:
        model = inventory.gpus[0]
        names = [f"MORE-{index}" for index in range(more)]
        added = tuple(
            replace(
                model,
                uuid=name,
                nvlink_peers=tuple(other for other in names if other != name and how == "linked"),
                health=Health(),
                memory_free_bytes=model.memory_total_bytes,
            )
            for name in names
        )
        grown = replace(inventory, gpus=added + inventory.gpus if how == "first" else inventory.gpus + added)
        assert plan(arch, variants, grown, request).best is not None


@settings(max_examples=25, deadline=None)
@given(questions(), st.integers(256, 200_000))
def test_a_lower_context_never_turns_a_plan_into_a_refusal(
    question: tuple[Architecture, list[Variant], Inventory, PlanRequest], shorter: int
) -> None:
    """What fits a long context fits a short one."""
    arch, variants, inventory, request = question
    first = plan(arch, variants, inventory, request).best
    if first is not None:
        length = min(shorter, first.max_model_len)
        assert plan(arch, variants, inventory, replace(request, max_model_len=length)).best is not None


def broken(arch: Architecture, chosen: Plan, variants: list[Variant], inventory: Inventory) -> list[str]:
    """Every rule that a plan breaks."""
    quant = parse_quant(next(one.quant for one in variants if one.name == chosen.variant))
    layout = Layout(chosen.tp, chosen.pp, chosen.dp, chosen.expert_parallel)
    used = [uuid for group in chosen.gpus for uuid in group]
    by_uuid = {gpu.uuid: gpu for gpu in inventory.gpus}
    rules = {
        "divisibility": illegal(arch, quant, layout) is None,
        "each replica has its ranks": all(len(group) == layout.gpus for group in chosen.gpus),
        "as many groups as replicas": len(chosen.gpus) == chosen.replicas,
        "no GPU twice": len(used) == len(set(used)),
        "no sick GPU": all(by_uuid[uuid].fault is None for uuid in used),
        "one kind of GPU": len({by_uuid[uuid].name for uuid in used}) <= 1,
        "claims no more than is free": all(
            (chosen.gpu_memory_utilization or 0) * (by_uuid[uuid].memory_total_bytes or 0)
            <= (by_uuid[uuid].memory_free_bytes or 0)
            for uuid in used
        ),
        "the cache holds a request": chosen.kv_tokens >= chosen.max_model_len > 0,
        "within the model's context": chosen.max_model_len <= arch.max_position_embeddings,
        "caps": chosen.max_num_seqs >= 1 and chosen.max_num_batched_tokens >= 1,
    }
    return [rule for rule, holds in rules.items() if not holds]


@settings(max_examples=30, deadline=None)
@given(questions())
def test_no_candidate_breaks_a_rule(
    question: tuple[Architecture, list[Variant], Inventory, PlanRequest],
) -> None:
    """Not the best one, and no runner-up."""
    arch, variants, inventory, request = question
    for candidate in plan(arch, variants, inventory, request).candidates:
        assert broken(arch, candidate.plan, variants, inventory) == []


@settings(max_examples=20, deadline=None)
@given(questions())
def test_the_same_question_has_the_same_answer(
    question: tuple[Architecture, list[Variant], Inventory, PlanRequest],
) -> None:
    """To the last rejection."""
    assert plan(*question) == plan(*question)


@settings(max_examples=25, deadline=None)
@given(questions())
def test_a_refusal_always_says_why(
    question: tuple[Architecture, list[Variant], Inventory, PlanRequest],
) -> None:
    """No plan, then at least one rejection with a reason; bytes come in pairs that explain it."""
    report = plan(*question)
    assert report.candidates or report.rejections
    for one in report.rejections:
        assert one.reason
        assert (one.need_bytes is None) == (one.have_bytes is None)
        if one.need_bytes is not None and one.have_bytes is not None:
            assert one.need_bytes > one.have_bytes


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 64), st.floats(0, 64), st.integers(256, 8192))
def test_a_host_with_more_memory_plans_at_least_as_well(gib: float, more_gib: float, length: int) -> None:
    """Without GPUs, too."""
    request = PlanRequest(max_model_len=length)
    poor = plan(SMOLLM2, [variant(gib=0.25)], host(128, gib), request).best
    rich = plan(SMOLLM2, [variant(gib=0.25)], host(128, gib + more_gib), request).best
    assert poor is None or rich is not None
