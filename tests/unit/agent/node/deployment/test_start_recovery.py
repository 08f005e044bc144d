"""What the healer keeps, and for which engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from engine_plans import PLAN
from planner_values import gpus

from pareta_agent.clock import SystemClock
from pareta_agent.engine.replica.start_phases import ColdStartReport
from pareta_agent.engine.spec import EngineSpec, FetchProgress
from pareta_agent.engine.vllm.log_lines import StartMeasures
from pareta_agent.hardware.inventory import Gpu
from pareta_agent.node.deployment.start_recovery import StartRecovery
from pareta_agent.planning.plan import Candidate, Plan, PlanReport
from pareta_agent.planning.support.numerics import Numerics, gpu_key
from pareta_agent.telemetry.events import Event, Phase

CARD = gpus(1)[0]
NO_CACHE = "ValueError: No available memory for the cache blocks."
ALONE = replace(PLAN, platform="cuda", gpus=(("A",), ("B",), ("C",), ("D",)), replicas=4)
PAIRS = replace(ALONE, gpus=(("A", "B"), ("C", "D")), replicas=2, pp=2)
ALL = replace(ALONE, gpus=(("A", "B", "C", "D"),), replicas=1, pp=4)


async def fetch(_progress: FetchProgress) -> Path:
    return Path("/nowhere")


class Node:
    """A healer with what it said and wished; every plan may run where it says."""

    def __init__(self, root: Path, version: str = "0.32.0", gpu: Gpu | None = CARD) -> None:
        self.broken: set[str] = set()
        self.told: list[Phase | Event] = []
        self.wished: list[EngineSpec] = []
        self.root = root
        self.healer = StartRecovery(
            root / "measured.json",
            root,
            version,
            Numerics,
            lambda _plan: gpu,
            lambda _endpoint, plan, _replicas: self.free(plan),
            self.wished.append,
            SystemClock(),
            self.told.append,
        )

    def free(self, plan: Plan) -> tuple[tuple[str, ...], ...]:
        return tuple(group for group in plan.gpus if not self.broken & set(group))

    def deploy(self, *plans: Plan) -> None:
        report = PlanReport(tuple(Candidate(plan, 1.0) for plan in plans), ())
        self.healer.deployed(EngineSpec("ep_x", "org", "task", "alias", plans[0], fetch), report)

    def start(self, outcome: Literal["ready", "failed"], log: str) -> None:
        (self.root / "ep_x-0.log").write_text(log)
        self.healer.cold_started(
            ColdStartReport("ep_x", "ep_x/0", 1, "deploy", {}, 0.0, outcome, None, StartMeasures())
        )


def test_what_was_learned_of_another_engine_is_left_alone(tmp_path: Path) -> None:
    """The version is certain only once the interpreter was asked."""
    node = Node(tmp_path)
    node.deploy(PLAN)
    node.start("ready", "INFO Model loading took 0.25 GiB memory")
    assert node.healer.measured.starts
    node.healer.engine_is("0.32.0")
    assert node.healer.measured.starts
    node.healer.engine_is("0.25.1")
    assert (node.healer.measured.engine_version, node.healer.measured.starts) == ("0.25.1", {})


def test_a_broken_gpu_takes_replicas_of_the_layout_that_runs(tmp_path: Path) -> None:
    """After a heal the second layout loses a pair; the first one, which failed, is not tried again."""
    node = Node(tmp_path)
    node.deploy(ALONE, PAIRS, ALL)
    node.start("failed", NO_CACHE)
    assert node.wished[-1].plan == PAIRS
    node.broken = {"D"}
    assert node.healer.moved("ep_x")
    assert (node.wished[-1].plan.gpus, node.wished[-1].plan.pp) == ((("A", "B"),), 2)
    node.broken = set()
    node.start("failed", NO_CACHE)
    assert node.wished[-1].plan == ALL
    node.start("failed", NO_CACHE)
    assert [event.name for event in node.told if isinstance(event, Event)][-1] == "replan_refused"


def test_a_context_that_is_too_long_is_kept_in_fp8_where_the_gpu_has_it(tmp_path: Path) -> None:
    """The report's own candidates say so; without them the length that the engine named is what is left."""
    said = "the model's max seq len (8192), the estimated maximum model length is 5000."
    asked = replace(ALONE, max_model_len=8192)
    node = Node(tmp_path)
    node.deploy(asked, replace(asked, kv_cache_dtype="fp8"))
    node.start("failed", said)
    assert (node.wished[-1].plan.kv_cache_dtype, node.wished[-1].plan.max_model_len) == ("fp8", 8192)
    node.deploy(asked)
    node.start("failed", said)
    assert (node.wished[-1].plan.kv_cache_dtype, node.wished[-1].plan.max_model_len) == ("auto", 5000)


def test_candidates_without_a_place_are_passed_over(tmp_path: Path) -> None:
    """What another endpoint, or a fault, took since the plan was made is no place to heal to."""
    node = Node(tmp_path)
    node.deploy(replace(ALONE, gpus=(("A",),), replicas=1), ALL, PAIRS)
    node.broken = {"D"}
    node.start("failed", NO_CACHE)
    assert node.wished[-1].plan.gpus == (("A", "B"),)


def test_an_endpoint_without_a_sound_gpu_has_no_place(tmp_path: Path) -> None:
    """Its owner ends it and plans anew."""
    node = Node(tmp_path)
    node.deploy(PAIRS)
    node.broken = {"A", "D"}
    assert not node.healer.moved("ep_x")
    assert node.wished == []


def wrong(node: Node) -> None:
    """A start whose canary was wrong."""
    (node.root / "ep_x-0.log").write_text("")
    failed = ColdStartReport(
        "ep_x", "ep_x/0", 1, "deploy", {}, 0.0, "failed", "wrong", StartMeasures(), code="canary_wrong"
    )
    node.healer.cold_started(failed)


def names(node: Node) -> list[str]:
    return [event.name for event in node.told if isinstance(event, Event)]


def test_a_wrong_canary_is_asked_again_with_one_knob_turned_at_a_time(tmp_path: Path) -> None:
    """What helps is remembered for the device, and is the next plan's."""
    node, plan = Node(tmp_path), replace(PLAN, platform="cuda", gpus=(("A",),), enforce_eager=False)
    node.deploy(plan)
    wrong(node)
    assert node.wished[-1].plan.flags == ("--attention-backend", "TRITON_ATTN")
    wrong(node)
    assert (node.wished[-1].plan.flags, node.wished[-1].plan.enforce_eager) == ((), True)
    node.start("ready", "")
    again = Node(tmp_path).healer.measured
    corrected = again.numerics.corrected(plan, gpu_key(CARD.name, CARD.compute_capability))
    assert corrected.enforce_eager
    assert corrected.workaround == "compiled graphs give wrong text on this GPU: eager mode is used"


def test_a_remedy_that_does_not_start_is_passed_over(tmp_path: Path) -> None:
    """Its failure is not the one that is mended."""
    node, plan = Node(tmp_path), replace(PLAN, platform="cuda", gpus=(("A",),), enforce_eager=False)
    node.deploy(plan)
    wrong(node)
    node.start("failed", "ValueError: No valid attention backend found")
    assert node.wished[-1].plan.enforce_eager
    node.start("failed", "something else")
    assert names(node)[-1] == "replan_refused"


def test_a_canary_that_is_wrong_with_every_knob_is_final(tmp_path: Path) -> None:
    """Nothing is learned of the hardware: the weights or the canary are at fault."""
    node, plan = Node(tmp_path), replace(PLAN, platform="cuda", gpus=(("A",),), enforce_eager=True)
    node.deploy(plan)
    wrong(node)
    wished = len(node.wished)
    wrong(node)
    wrong(node)
    assert len(node.wished) == wished
    assert names(node)[-1] == "replan_refused"
    assert node.healer.measured.numerics.remedies == {}


def test_on_a_cpu_the_candidate_in_another_dtype_is_tried(tmp_path: Path) -> None:
    """Forgotten with another version of the engine."""
    node = Node(tmp_path, gpu=None)
    node.deploy(replace(PLAN, dtype="bfloat16"), PLAN)
    wrong(node)
    assert node.wished[-1].plan.dtype == "float32"
    said = "bfloat16 gives wrong text on this processor: float32 is used"
    assert node.wished[-1].plan.workaround == said
    node.start("ready", "")
    assert node.healer.measured.numerics.wrong_dtype("bfloat16") == "bfloat16"
    node.healer.engine_is("0.33.0")
    assert node.healer.measured.numerics.wrong_dtype("bfloat16") is None
