"""The proof for a real GPU (benchmarks/gpu) is tried where none is: over the compiled NVML stub and the fake engine."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from fakes import stub_vllm
from fakes.driver import Driver, needs_compiler

pytestmark = [pytest.mark.slow, needs_compiler]
RUN = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu" / "run.py"
STEPS = (
    "inventory",
    "canary",
    "plan_llama-8b",
    "plan_gpt-oss-20b",
    "kill_sleep_wake",
    "sleep_resume",
    "cold_start",
)


def engine(folder: Path) -> Path:
    """An interpreter that has the stub of vLLM as an installed package, which is how it is asked for its version."""
    stub_vllm.write(folder)
    venv.create(folder / "venv", symlinks=True)
    (packages,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (packages / "stub.pth").write_text(f"{folder / 'site'}\n")
    return folder / "venv" / "bin" / "python"


def weights(folder: Path) -> Path:
    """A model's directory as far as the fake engine looks at it."""
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_text("{}")
    return folder


def proof(folder: Path, python: Path, *more: str) -> subprocess.CompletedProcess[str]:
    given = ["--device", "cuda", "--python", str(python), "--weights", "small", "--out", "out", "--missing"]
    return subprocess.run(
        [sys.executable, str(RUN), *given, *more],
        cwd=folder,
        env={**os.environ, **Driver(folder, gpus=1).settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )


def test_its_steps_run_and_leave_what_they_found(tmp_path):
    """A result and a log each; what has a result is not run again, a shape that cannot speak says so, and no step is
    begun for which there is no time."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "canary.json").write_text('{"canary": "from before"}')
    python = engine(tmp_path / "engine")
    weights(tmp_path / "small")
    done = proof(tmp_path, python, "--step", *STEPS)
    assert done.returncode == 0, done.stdout
    found = {name: json.loads((tmp_path / "out" / f"{name}.json").read_text())[name] for name in STEPS}
    assert found["inventory"]["gpus"][0]["uuid"] == "GPU-0"
    assert found["canary"] == "from before"
    assert found["plan_llama-8b"]["max_model_len"]["predicted"] == 131072
    assert "No module named 'openai_harmony'" in found["plan_gpt-oss-20b"]["skipped"]
    end = found["kill_sleep_wake"]["end"]
    assert (end["back"], end["held_bytes"], end["processes"]) == (True, 0, 0)
    assert [night["cause"] for night in found["sleep_resume"]["nights"]] == ["resume"] * 3
    assert [row["standby"] for row in found["cold_start"].values()] == [False, False, True]
    assert "Starting to load model" in (tmp_path / "out" / "log" / "plan_llama-8b.log").read_text()
    done = proof(tmp_path, python, "--within-s", "100", "--step", *STEPS, "curve")
    assert (done.returncode, done.stdout) == (1, "curve: not begun, time is up\n")
