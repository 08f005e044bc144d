"""What a kernel check's result means, and where it is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from pareta_agent.errors import EngineError
from pareta_agent.kernel_check.check import KernelCheck, KernelResult, check, checked, summary, table
from pareta_agent.planning.support.numerics import WrongKernel

RIGHT = KernelResult(op="attention", backend="vec", dtype="float32", case="decode", limit=0.002, error=0.0001)
NOT_RUN = KernelResult(op="linear", backend="fp8", dtype="bfloat16", case="", limit=0.05, detail="no kernel")
WRONG = KernelResult(op="attention", backend="amx", dtype="bfloat16", case="decode", limit=0.03, error=0.4)
WORSE = WRONG.model_copy(update={"case": "prefill", "error": 0.9})
FOUND = KernelCheck(version="0.32.0", device="Xeon|amx_bf16", rows=(RIGHT, NOT_RUN, WRONG, WORSE))


def program(folder: Path, *lines: str) -> Path:
    """An interpreter that says just this, whatever it is to run."""
    file = folder / "python"
    file.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    file.chmod(0o755)
    return file


def test_a_kernel_is_wrong_by_its_worst_case() -> None:
    """One entry a kernel; what did not run is not wrong."""
    assert FOUND.wrong == (WrongKernel("attention", "amx", "bfloat16", "prefill", 0.9, 0.03),)
    assert FOUND.compared == 3
    assert summary(FOUND) == "wrong: bfloat16 attention (amx)"
    assert [line.split()[-1] for line in table(FOUND)] == ["right", "kernel", "wrong"]


@pytest.mark.asyncio
async def test_a_result_is_remembered_by_version_and_device(tmp_path: Path) -> None:
    """Asked once; another device or version has none."""
    python = program(tmp_path, "talk", FOUND.model_dump_json(include={"rows"}))
    made = await check(python, tmp_path / "kept", "0.32.0", "Xeon|")
    assert made == FOUND.model_copy(update={"device": "Xeon|"})
    assert checked(tmp_path / "kept", "0.32.0", "Xeon|") == made
    assert checked(tmp_path / "kept", "0.32.0", "EPYC|") is None
    assert checked(tmp_path / "kept", "0.33.0", "Xeon|") is None


@pytest.mark.asyncio
@pytest.mark.parametrize("said", ["", "no json", "{}", '{"rows": []}'])
async def test_an_interpreter_without_a_result_is_an_error(tmp_path: Path, said: str) -> None:
    """And nothing is remembered."""
    with pytest.raises(EngineError, match="could not be checked"):
        await check(program(tmp_path, said), tmp_path / "kept", "0.32.0", "Xeon|")
    assert not (tmp_path / "kept").exists()


def test_a_damaged_result_counts_as_none(tmp_path: Path) -> None:
    """The check runs again."""
    for name in ("kernels-0.32.0-" + "0" * 12 + ".json",):
        (tmp_path / name).write_text("{")
    assert checked(tmp_path, "0.32.0", "Xeon|") is None
