"""Start failures: one table of causes, for the restart policy and for start recovery."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pareta_agent.planning.start_failure import (
    OTHER_ROWS,
    PLAN_ROWS,
    STAGE_ROWS,
    EndCode,
    FailureCause,
    FailureRow,
    StartFailure,
    classify,
)

ROWS = (*PLAN_ROWS, *STAGE_ROWS.values(), *OTHER_ROWS)
TRACEBACK = [f'  File "engine/core.py", line {number}, in run' for number in range(200)]
DIED = "ERROR [core.py:900] EngineCore failed to start."


@pytest.mark.parametrize(
    ("line", "cause", "code", "permanent"),
    [
        ("api_server.py: error: unrecognized arguments: --nope", "flag", "flag", True),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
            "load_oom",
            "memory",
            False,
        ),
        ("ValueError: No available memory for the cache blocks.", "no_cache", "kv_cache", True),
        ("ModuleNotFoundError: No module named 'x'", "import", "import", True),
        (
            "ValueError: User-specified max_model_len (514) is greater than the derived max_model_len",
            "positions",
            "positions",
            True,
        ),
        ("OSError: [Errno 12] Cannot allocate memory", "memory", "memory", False),
        ("RuntimeError: something else", "unknown", "unknown", False),
    ],
)
def test_failures_have_causes(line: str, cause: FailureCause, code: EndCode, permanent: bool) -> None:
    """Cause, public code, the engine's own words, and whether the same plan fails again."""
    found = classify(["INFO all is well", line, "INFO bye"])
    assert (found.cause, found.code, found.permanent) == (cause, code, permanent)
    assert line.endswith(found.text)


def test_silence_is_unknown() -> None:
    """An engine that was killed from outside logs nothing."""
    assert classify([]) == StartFailure("unknown")


def test_a_cause_is_found_above_a_long_traceback() -> None:
    """The line that names the cause stands above the lines that only report the end."""
    named = "ValueError: the model's max seq len (8192), the estimated maximum model length is 5000."
    found = classify([DIED, named, *TRACEBACK, "RuntimeError: Engine core initialization failed."])
    assert found == StartFailure("context", (8192.0, 5000.0), True, "replan", "context", named)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["ValueError: No valid attention backend found for cuda"], "unknown"),
        ([DIED, "ValueError: No valid attention backend found for cuda"], "core_died"),
        (
            ["RuntimeError: CUDA out of memory occurred when warming up sampler with 8 dummy requests"],
            "memory",
        ),
    ],
)
def test_a_cause_without_a_code_takes_that_of_the_other_lines(lines: Sequence[str], code: EndCode) -> None:
    """Events name an end by its public code; causes that only the planner knows have none."""
    assert classify(lines).code == code


@pytest.mark.parametrize("row", ROWS)
def test_permanence_and_remedy_agree(row: FailureRow) -> None:
    """A start that is repeated with the same plan is never permanent; one that a person must mend always is."""
    if row.remedy in ("retry", "restart"):
        assert not row.permanent
    if row.remedy in ("operator", "blacklist"):
        assert row.permanent


def test_a_cause_is_mended_where_the_planner_knows_it() -> None:
    """The rows of the planner have remedies of the planner, and no other row has."""
    planned = [row for row in ROWS if StartFailure(row.cause, remedy=row.remedy).replannable]
    assert planned == [*PLAN_ROWS, *STAGE_ROWS.values()]
