"""What is installed is what is tested: a wheel, in an environment of its own, holds everything that is needed."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    argv = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    """Modules, pin lists, the demo catalog, the programs that run in the engine's interpreter."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    kept = {
        str(path.relative_to(ROOT / room))
        for room, package in (("agent", "pareta_agent"), ("registry", "pareta_registry"))
        for path in (ROOT / room / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert kept - packed == set()


def test_the_wheel_installs_and_plans(wheel, tmp_path):
    """From site-packages, away from the checkout, the program knows its catalog and this machine."""
    site = tmp_path / "site"
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    assert subprocess.run(argv, capture_output=True, timeout=120).returncode == 0
    env = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    program = [
        sys.executable,
        "-c",
        "import pareta_agent; print(pareta_agent.__file__); from pareta_agent.cli import main; main()",
    ]
    done = subprocess.run(
        [*program, "plan", "contract-key-fields", "--json"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert "contract-kie-1" in done.stdout
