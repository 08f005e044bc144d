"""An import that is killed leaves its target as it was, and the next one clears up."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from fakes.checkpoint import safetensors, write_checkpoint

from pareta_registry.importers.hf_checkpoint import import_checkpoint

WEIGHTS = {"model.safetensors": safetensors({"a": ("BF16", (10_000,))})}
HELD = """
import sys, time
from pathlib import Path
from pareta_registry.importers.staging import staged
with staged(Path(sys.argv[1])) as work:
    (work / "half").write_text("x")
    print("staged", flush=True)
    time.sleep(600)
"""


def test_a_killed_import_leaves_the_target_and_the_next_one_clears_up(tmp_path: Path) -> None:
    """The next import of the same target removes what the dead one had begun, and not what a living one has."""
    target = tmp_path / "out"
    argv = [sys.executable, "-c", HELD, str(target)]
    dead, living = (subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(2))
    try:
        for process in (dead, living):
            assert process.stdout is not None
            assert process.stdout.readline() == b"staged\n"
        dead.kill()
        dead.wait()
        assert (target.exists(), len(list(tmp_path.glob(".out.*.partial")))) == (False, 2)
        import_checkpoint(str(write_checkpoint(tmp_path / "in", WEIGHTS)), target)
        assert len(list(tmp_path.glob(".out.*.partial/half"))) == 1
        living.send_signal(signal.SIGINT)
        living.wait()
        assert list(tmp_path.glob(".out.*")) == []
    finally:
        for process in (dead, living):
            process.kill()
            process.communicate()


def test_at_no_moment_of_an_import_is_the_target_half_there(tmp_path: Path) -> None:
    """Killed at whatever moment, the target is missing or whole."""
    weights = {"model.safetensors": safetensors({"a": ("U8", (40 << 20,))})}
    source = write_checkpoint(tmp_path / "in", weights)
    argv = [sys.executable, "-m", "pareta_registry", "import", str(source), str(tmp_path / "out")]
    for tenth in range(8):
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(tmp_path.glob(".out.*")):
            time.sleep(0.001)
        time.sleep(tenth * 0.01)
        process.kill()
        process.wait()
        names = sorted(path.name for path in (tmp_path / "out").glob("*"))
        assert names in ([], ["config.json", "model.safetensors", "pareta-manifest.json"])
        if names:
            break
