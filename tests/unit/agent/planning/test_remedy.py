"""Each string that vLLM ends a start with, its cause, and the one knob that is turned."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from engine_plans import PLAN as SMALL

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.plan import Footprint, Plan, Rejection
from pareta_agent.planning.remedy import MAX_ATTEMPTS, remedy
from pareta_agent.planning.start_failure import PLAN_ROWS, STAGE_ROWS, FailureCause, StartFailure, classify

PLAN = replace(
    SMALL,
    platform="cuda",
    gpus=(("GPU-0",),),
    max_model_len=131072,
    max_num_seqs=256,
    max_num_batched_tokens=8192,
    gpu_memory_utilization=0.92,
    kv_cache_bytes=None,
    enforce_eager=False,
    footprint=Footprint(15 * GIB, GIB, GIB // 2, GIB // 4, 56 * GIB, 131072),
    kv_tokens=458752,
)
CPU = replace(PLAN, platform="cpu", gpu_memory_utilization=None, kv_cache_bytes=GIB, enforce_eager=True)
WRAPPER = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
LOADED = "INFO Model loading took 14.99 GiB memory and 4.2 seconds\n"

LINES: list[tuple[str, FailureCause]] = [
    (
        (
            "ValueError: Free memory on device cuda:0 (30.0/79.1 GiB) on startup is less than desired GPU memory "
            "utilization (0.92, 72.77 GiB). Decrease GPU memory utilization"
        ),
        "memory_busy",
    ),
    (
        (
            "ValueError: Available memory on node 0 (0.5/23.5 GiB) on kv cache allocation is less than requested "
            "memory for kv (1.0 GiB)."
        ),
        "cpu_memory",
    ),
    ("ValueError: No available memory for the cache blocks. Try increasing", "no_cache"),
    (
        (
            "ValueError: To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (12.0 GiB). Based on the available memory, "
            "the estimated maximum model length is 98304. Try increasing"
        ),
        "context",
    ),
    ("ERROR Failed to load model - not enough GPU memory. Try lowering", "load_oom"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "load_oom"),
    (LOADED + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "profile_oom"),
    (
        LOADED + "INFO Available KV cache memory: 50.1 GiB\nCapturing CUDA graphs: 40%\n"
        "torch.OutOfMemoryError: CUDA out of memory.",
        "capture_oom",
    ),
    (
        LOADED + "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests.",
        "sampler_oom",
    ),
    ("AssertionError: Error in memory profiling. Initial free memory 70.1 GiB", "memory_moved"),
    (
        "ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8).",
        "indivisible",
    ),
    ("AssertionError: 1001 is not divisible by 2", "indivisible"),
    ("ValueError: Minimum capability: 80. Current capability: 75.", "kernel"),
    ("ValueError: Failed to find a kernel that can implement the ScaledMM linear layer.", "kernel"),
    ("ValueError: No valid attention backend found for cuda with AttentionSelectorConfig", "attention"),
    ("ValueError: World size (8) is larger than the number of available GPUs (4)", "visibility"),
    ("ImportError: something else entirely", "import"),
    ("RuntimeError: something else entirely", "unknown"),
    (
        (
            "  Value error, User-specified max_model_len (514) is greater than the derived max_model_len "
            "(max_position_embeddings=512 or model_max_length=None in model's config.json). To allow overriding"
        ),
        "positions",
    ),
    (
        "ValueError: max_num_batched_tokens (2048) is smaller than max_model_len (8192). This effectively limits",
        "step",
    ),
]


@pytest.mark.parametrize(("text", "cause"), LINES)
def test_every_known_end_has_its_cause(text: str, cause: FailureCause) -> None:
    """Found above the lines that only wrap it."""
    log = f"INFO vLLM server version 0.32.0\n{text}\nTraceback (most recent call last):\n{WRAPPER}\n"
    assert classify(log.splitlines()).cause == cause


def changed(failure: StartFailure, plan: Plan = PLAN, attempt: int = 1, **more: bool) -> dict[str, object]:
    """The knobs that the remedy turned."""
    found = remedy(failure, plan, attempt, **more)
    assert isinstance(found, Plan), found
    before = asdict(plan)
    return {name: value for name, value in asdict(found).items() if value != before[name]}


def refused(failure: StartFailure, plan: Plan = PLAN, attempt: int = 1) -> Rejection:
    found = remedy(failure, plan, attempt)
    assert isinstance(found, Rejection), found
    return found


def test_a_busy_gpu_lowers_the_share_to_what_is_free() -> None:
    """(30 - 0.5) / 79.1, and the context that its cache then holds."""
    turned = changed(classify([LINES[0][0]]))
    assert turned["gpu_memory_utilization"] == 0.372
    assert set(turned) <= {"gpu_memory_utilization", "max_model_len"}


def test_a_gpu_that_others_fill_is_left() -> None:
    """Less free than the weights need: no share helps."""
    found = refused(StartFailure("memory_busy", (10.0, 79.1)))
    assert (found.need_bytes or 0) > (found.have_bytes or 0)


def test_the_hosts_memory_is_taken_in_smaller_bites() -> None:
    """80 % of what is free becomes the cache."""
    turned = changed(classify([LINES[1][0]]), CPU)
    assert turned["kv_cache_bytes"] == int(0.5 * GIB * 0.8)


def test_a_context_too_long_takes_fp8_then_the_length_that_fits() -> None:
    """Twice the tokens where the GPU has such a cache; else vLLM's own number."""
    failure = classify([LINES[3][0]])
    assert failure.numbers == (131072.0, 98304.0)
    assert changed(failure, kv_fp8=True) == {"kv_cache_dtype": "fp8"}
    assert changed(failure) == {"max_model_len": 98304}
    assert changed(failure, replace(PLAN, kv_cache_dtype="fp8"), kv_fp8=True) == {"max_model_len": 98304}


@pytest.mark.parametrize(
    ("limits", "takes"),
    [
        ("max_position_embeddings=512 or model_max_length=None in model's config.json", 512),
        ("max_position_embeddings=32768.0 or model_max_length=None in model's config.json", 32768),
        ("sliding_window=4096 or model_max_length=8192 in model's config.json", 8192),
        ("max_target_positions=448)", 448),
        ("n_positions=64", 64),
    ],
)
def test_a_context_beyond_the_model_becomes_what_vllm_derived(limits: str, takes: int) -> None:
    """The number of its message, whatever key it comes from, however small; the larger one of two."""
    line = f"ValueError: User-specified max_model_len (131072) is greater than the derived max_model_len ({limits})."
    assert changed(classify([line]), kv_fp8=True) == {"max_model_len": takes}


def test_a_model_without_a_limit_in_the_message_ends_the_candidate() -> None:
    """A number that would change nothing is no remedy."""
    assert "takes 0 tokens" in refused(StartFailure("positions", (131072.0,))).reason
    assert "takes 131,072 tokens" in refused(StartFailure("positions", (131072.0, 131072.0))).reason


def test_a_prompt_that_is_read_in_one_step_gets_a_step_of_its_length() -> None:
    """And where that runs out of memory, a context of the step's length."""
    failure = StartFailure("step", (8192.0, 131072.0))
    assert changed(failure) == {"max_num_batched_tokens": 131072}
    assert changed(failure, attempt=2) == {"max_model_len": 8192}


def test_a_context_that_does_not_fit_at_all_ends_the_candidate() -> None:
    """vLLM names no length when not one token fits."""
    log = "ValueError: To serve at least one request with the model's max seq len (8192), (1.0 GiB KV cache is needed"
    assert refused(classify([log])).reason == "the cache holds 0 tokens of context"


def test_out_of_memory_by_stage() -> None:
    """Profiling: a smaller step. Sampler: fewer sequences. Graphs: none."""
    assert changed(StartFailure("profile_oom")) == {"max_num_batched_tokens": 4096}
    assert changed(StartFailure("sampler_oom", (256.0,))) == {"max_num_seqs": 128}
    assert changed(StartFailure("capture_oom")) == {"enforce_eager": True}


def test_knobs_have_ends() -> None:
    """What cannot be turned further ends the candidate."""
    assert "no step" in refused(StartFailure("profile_oom"), replace(PLAN, max_num_batched_tokens=512)).reason
    assert "one sequence" in refused(StartFailure("sampler_oom"), replace(PLAN, max_num_seqs=1)).reason
    assert "without graphs" in refused(StartFailure("capture_oom"), replace(PLAN, enforce_eager=True)).reason
    assert "backend" in refused(StartFailure("attention")).reason


def test_memory_that_moved_is_tried_again_as_it_was() -> None:
    """Another process let go during profiling: nothing is wrong with the plan."""
    assert changed(StartFailure("memory_moved")) == {}


def test_an_attention_backend_that_lacks_the_cache_dtype_gets_the_plain_one() -> None:
    """fp8 KV was a wish."""
    assert changed(StartFailure("attention"), replace(PLAN, kv_cache_dtype="fp8")) == {
        "kv_cache_dtype": "auto"
    }


def test_a_planners_mistake_is_never_retried() -> None:
    """Divisibility is ours to know; the first failure ends the candidate and asks for a report."""
    assert "please report" in refused(classify([LINES[10][0]])).reason


@pytest.mark.parametrize("cause", ["no_cache", "load_oom"])
def test_weights_that_do_not_fit_point_to_what_would(cause: FailureCause) -> None:
    """A smaller variant or more GPUs; the same plan would fail again."""
    assert refused(StartFailure(cause)).nearest == "a smaller variant, or more GPUs a replica"


def test_a_missing_kernel_is_for_good() -> None:
    """So that it can be blacklisted for such GPUs."""
    failure = classify([LINES[12][0]])
    assert (failure.permanent, failure.remedy) == (True, "blacklist")
    assert "no kernel" in refused(failure).reason


def test_hidden_gpus_are_the_nodes_matter() -> None:
    """Retrying does not make them visible."""
    assert "fewer GPUs" in refused(classify([LINES[15][0]])).reason


def test_retries_have_a_budget() -> None:
    """After the fourth failed start the candidate is over, whatever the knob."""
    assert (
        f"{MAX_ATTEMPTS} starts failed" in refused(StartFailure("sampler_oom"), attempt=MAX_ATTEMPTS).reason
    )


def test_what_is_not_known_is_not_guessed_at() -> None:
    """The engine's own restarts deal with it."""
    assert "unknown reason" in refused(StartFailure("unknown")).reason


@pytest.mark.parametrize("cause", sorted({row.cause for row in (*PLAN_ROWS, *STAGE_ROWS.values())}))
def test_every_cause_of_the_planner_has_a_remedy(cause: FailureCause) -> None:
    """A row of the table that promises one is not left to the restart policy."""
    found = remedy(StartFailure(cause, (1.0, 2.0)), PLAN, 1)
    assert not isinstance(found, Rejection) or "unknown reason" not in found.reason
