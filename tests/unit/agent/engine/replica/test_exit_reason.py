"""What is said of an end: to anybody, and to the node's owner."""

from __future__ import annotations

import pytest

from pareta_agent.engine.replica import exit_reason as exit_reasons
from pareta_agent.engine.vllm.client import CanaryAnswer
from pareta_agent.errors import EngineError, HostError
from pareta_registry.catalog import Canary

CANARY = Canary(prompt="Capital of France?", contains="Paris")
LINES = [
    "INFO loading /weights/secret-7b",
    "torch.OutOfMemoryError: CUDA out of memory. Tried /weights/secret-7b",
]


def test_callers_learn_the_kind_and_owners_the_words() -> None:
    """The reason names no path; detail and log hold the engine's own lines."""
    found = exit_reasons.of_exit(1, LINES, ready=False)
    assert (found.code, found.reason) == ("engine_memory", "the engine ran out of memory while it started")
    assert found.remedy == "free memory on this node, or lower max_model_len"
    assert "secret" not in found.reason
    assert "secret" in found.detail
    assert found.log == tuple(LINES)


def test_a_serving_engines_log_is_not_quoted() -> None:
    """Its last lines may hold a request."""
    assert exit_reasons.of_exit(0, ["prompt: my secret"], ready=True) == exit_reasons.ExitReason(
        "engine_died", "the engine ended while it served", "exit status 0"
    )


def test_a_dead_core_has_a_name_of_its_own() -> None:
    """The server outlived its core and said so before it went."""
    found = exit_reasons.of_exit(
        1, ["ERROR EngineCore_DP0 died unexpectedly, shutting down client."], ready=False
    )
    assert (found.code, found.reason) == ("engine_core_died", "the engine's core died while it started")


def test_a_signal_is_named() -> None:
    """Killed from outside is not the model's fault."""
    found = exit_reasons.of_exit(-9, [], ready=True)
    assert (found.reason, found.permanent) == ("the engine was killed by signal 9 while it served", False)


@pytest.mark.parametrize(
    ("error", "permanent", "exit_code"),
    [
        (HostError("disk_full", "no room", "free some"), True, 4),
        (EngineError("odd", "perhaps later"), False, 6),
    ],
)
def test_our_own_errors_keep_code_remedy_and_exit(error: HostError, permanent: bool, exit_code: int) -> None:
    """An error that says it may pass is tried again, any other is final."""
    found = exit_reasons.of_error(error, during="fetching")
    assert (found.code, found.remedy) == (error.code, error.remedy)
    assert (found.permanent, found.exit_code) == (permanent, exit_code)


def test_wrong_is_final_and_silent_is_not() -> None:
    """At the start a wrong answer would be wrong again; one later, or none at all, may be chance."""
    wrong, silent = CanaryAnswer(False, "London", 200), CanaryAnswer(False, None, 500)
    assert exit_reasons.of_canary(CANARY, wrong).permanent
    assert not exit_reasons.of_canary(CANARY, wrong, again=True).permanent
    assert not exit_reasons.of_canary(CANARY, silent).permanent
    assert (
        exit_reasons.of_canary(CANARY, silent).reason == "the engine did not answer the canary (status 500)"
    )
