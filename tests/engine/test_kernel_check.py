"""The kernel check on the installed engine: what it compares here, and that it finds kernels that are wrong."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from harness import AGENT, environment

from pareta_agent.kernel_check import check
from pareta_agent.kernel_check.check import KernelCheck, KernelResult

pytestmark = pytest.mark.engine
BROKEN = Path(__file__).parents[1] / "fakes" / "kernels_broken.py"


def rows_of(found: KernelCheck, op: str, dtype: str) -> list[KernelResult]:
    return [row for row in found.rows if (row.op, row.dtype) == (op, dtype)]


def test_every_kernel_of_this_processor_is_compared(tmp_path: Path, engine_python: Path) -> None:
    """Attention in each case, head size and group; float32 is right everywhere, the rest is what plans go by."""
    env = environment(tmp_path / "home", PARETA_ENGINE_PYTHON=str(engine_python))
    done = subprocess.run(
        [*AGENT, "engine", "check", "--json"], env=env, capture_output=True, text=True, check=False
    )
    found = KernelCheck.model_validate_json(done.stdout)
    assert done.returncode == (6 if found.wrong else 0)
    for dtype in ("bfloat16", "float32"):
        compared = rows_of(found, "attention", dtype)
        assert len(compared) == 4 * 3 * 4
        assert all(row.error is not None for row in compared)
        assert rows_of(found, "linear", dtype)[0].error is not None
    assert not any(each.dtype == "float32" for each in found.wrong)


def test_a_kernel_that_is_wrong_or_ends_its_process_is_found(engine_python: Path) -> None:
    """And ends no other case."""
    argv = [str(engine_python), "-W", "ignore", str(BROKEN), str(Path(check.__file__).parent)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=400).stdout
    found = KernelCheck(version="0.32.0", device="here", **json.loads(said.splitlines()[-1]))
    assert {(each.op, each.backend) for each in found.wrong if each.dtype == "bfloat16"} >= {
        ("linear", "int8")
    }
    assert all(row.wrong for row in rows_of(found, "attention", "bfloat16"))
    assert not any(row.wrong for row in rows_of(found, "attention", "float32"))
    (died,) = (row for row in found.rows if row.backend == "int8")
    assert died.detail == "the process ended by signal 4"
    assert found.rows[-1].backend == "w4a16"
