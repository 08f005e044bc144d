"""Commands whose output goes where it cannot: no traceback, an exit code of the list, and every character told."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import AGENT, environment
from used_home import use

pytestmark = pytest.mark.slow

COMMANDS = (
    "--help", "--version", "inventory", "doctor", "plan contract-key-fields",
    "plan contract-key-fields --json", "status", "usage", "weights", "keys", "org", "spool", "spool export",
    "engine", "plane nodes", "keys --help",
)  # fmt: skip
FEW = (
    "inventory", "doctor", "plan contract-key-fields --json", "usage", "keys", "spool export", "plane nodes",
)  # fmt: skip
EXIT_CODES = range(8)
REGISTRY = [sys.executable, "-m", "pareta_registry"]


@pytest.fixture
def used(tmp_path: Path) -> Path:
    asyncio.run(use(tmp_path / "home"))
    return tmp_path / "home"


def run(home: Path, argv: str, **how) -> subprocess.CompletedProcess[bytes]:
    env = environment(home, **how.pop("env", {}))
    return subprocess.run([*AGENT, *argv.split()], env=env, stdin=subprocess.DEVNULL, timeout=300, **how)


@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        ("full", FEW),
        *(pytest.param(kind, COMMANDS, marks=pytest.mark.long) for kind in ("full", "closed", "left")),
    ],
)
def test_output_that_cannot_be_written_is_an_error_in_one_line(used, kind, commands, tmp_path):
    """A full disk and a closed descriptor are the host's (4), a reader that left is nobody's (0)."""
    for argv in commands:
        reader, writer = os.pipe()
        os.close(reader)
        full = os.open("/dev/full", os.O_WRONLY)
        shell = ["sh", "-c", 'exec "$@" >&-', "sh"] if kind == "closed" else []
        done = subprocess.run(
            [*shell, *AGENT, *argv.split()],
            env=environment(used),
            stdin=subprocess.DEVNULL,
            stdout=full if kind == "full" else writer,
            stderr=subprocess.PIPE,
            timeout=300,
        )
        os.close(writer)
        os.close(full)
        said = done.stderr.decode()
        assert "Traceback" not in said, (argv, said)
        assert done.returncode in EXIT_CODES, (argv, said)
        if argv in ("inventory", "usage", "keys", "plane nodes"):
            assert done.returncode == (0 if kind == "left" else 4), (argv, said)
            assert ("output_unwritable" in said) == (kind != "left"), (argv, said)


@pytest.mark.parametrize(
    ("encoding", "commands"),
    [
        ("latin-1", FEW),
        *(pytest.param(encoding, COMMANDS, marks=pytest.mark.long) for encoding in ("latin-1", "ascii")),
    ],
)
def test_a_narrow_encoding_loses_nothing(used, encoding, commands):
    """What it lacks is escaped as in JSON, on both streams, for people and for scripts."""
    for argv in commands:
        done = run(used, argv, env={"PYTHONIOENCODING": encoding}, capture_output=True)
        assert b"Traceback" not in done.stderr, (argv, done.stderr)
        assert done.returncode in EXIT_CODES, argv
        out = done.stdout.decode(encoding)
        if argv.endswith("--json"):
            json.loads(out)
        if argv == "doctor":
            assert "\\u2192" in out  # the arrow before a remedy


def test_talk_that_cannot_be_written_ends_no_command(used):
    """`usage` says on standard error what is missing; its rows are the answer."""
    with Path("/dev/full").open("wb") as full:
        done = run(used, "usage --json", stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == 0
    assert json.loads(done.stdout)["request_id"] == "req_1"


def test_off_a_terminal_no_row_is_wrapped(used):
    """A row is a line, however long; a terminal's width does not count."""
    scope = " ".join(f"--endpoint ep_{n}_{40 * 'x'}" for n in "abcde")
    made = json.loads(run(used, f"keys create --json {scope}", capture_output=True).stdout)
    lines = run(used, "keys", capture_output=True, env={"COLUMNS": "40"}).stdout.decode().splitlines()
    (row,) = [line for line in lines if made["id"] in line]
    assert row.count("ep_") == 5
    assert len(row) > 200


@pytest.mark.parametrize(
    "groups", [("weights", "keys"), pytest.param(("spool", "org", "engine"), marks=pytest.mark.long)]
)
def test_bare_groups_list(used, groups):
    """As `ls`, with its options; `--help` is still the group's."""
    for group in groups:
        bare, listed = (
            run(used, argv, capture_output=True) for argv in (f"{group} --json", f"{group} ls --json")
        )
        assert (bare.returncode, bare.stdout) == (0, listed.stdout), (group, bare.stderr)
        assert run(used, group, capture_output=True).returncode == 0
        assert b"COMMAND" in run(used, f"{group} --help", capture_output=True).stdout


def test_what_shows_something_shows_it_as_json_and_takes_a_file(used, tmp_path):
    """`--json` and `--config` where they were missing."""
    file = tmp_path / "pareta.toml"
    file.write_text(f'home = "{used}"\nobjective = "latency"\n')
    elsewhere = tmp_path / "elsewhere"

    def shown(argv: str) -> dict:
        env = {name: value for name, value in environment(elsewhere).items() if name != "PARETA_HOME"}
        done = subprocess.run(
            [*AGENT, *argv.split(), "--config", str(file), "--json"],
            env=env,
            capture_output=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    before = shown("org")["balance_micro_usd"]
    assert shown("org topup 1") == {"org": "org_local", "balance_micro_usd": before + 1_000_000}
    assert shown("spool verify") == {"flaws": []}
    assert re.match("pareta_nt_", shown("plane token node-x")["token"])
    assert shown("usage")["request_id"] == "req_1"
    assert shown("plan contract-key-fields")["task"] == "contract-key-fields"


DAMAGES = {
    "plane/plane.db": ("usage", "keys", "org", "plane nodes"),
    "spool/spool.db": ("spool", "spool verify", "usage"),
    "node-id": ("status", "serve --port 0"),
    "run": ("status", "doctor"),
    "measured.json": ("plan contract-key-fields",),
    "config.toml": ("status",),
    "weights": ("weights",),
}


DAMAGE = {"empty": b"", "garbage": b"\x00\xffnot what it was" * 400, "json": b"[]", "directory": None}
EMPTY = ("plane/plane.db", "spool/spool.db", "node-id")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param(
            name,
            damage,
            id=f"{name}-{kind}",
            marks=() if kind == "garbage" or (kind == "empty" and name in EMPTY) else pytest.mark.long,
        )
        for name in DAMAGES
        for kind, damage in DAMAGE.items()
    ],
)
def test_a_damaged_state_file_is_told_in_one_line(used, name, damage):
    """Empty, garbage, JSON of another shape, a directory in a file's place: an exit code of the list, no traceback."""
    path = used / name
    subprocess.run(["rm", "-rf", str(path)], check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if damage is None:
        (path / "x").mkdir(parents=True)
    else:
        path.write_bytes(damage)
    for argv in DAMAGES[name]:
        done = run(used, argv, capture_output=True)
        assert b"Traceback" not in done.stderr, (argv, done.stderr.decode())
        assert done.returncode in EXIT_CODES, argv
        if done.returncode:
            assert re.search(rb"error: .+ \(\w+\)\n  try: |no node runs", done.stderr), (
                argv,
                done.stderr.decode(),
            )


@pytest.mark.parametrize("argv", ["ls", "ls --json", "schema"])
def test_the_registrys_output_is_as_robust(argv):
    """Full: an error in one line; left: nothing wrong; narrow: valid JSON still."""
    full = os.open("/dev/full", os.O_WRONLY)
    done = subprocess.run([*REGISTRY, *argv.split()], stdout=full, stderr=subprocess.PIPE, timeout=300)
    os.close(full)
    assert (done.returncode, b"output_unwritable" in done.stderr, b"Traceback" in done.stderr) == (
        4,
        True,
        False,
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*REGISTRY, *argv.split()], stdout=writer, stderr=subprocess.PIPE, timeout=300)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*REGISTRY, *argv.split()], env=env, capture_output=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, b"")
    if argv == "ls --json":
        json.loads(done.stdout.decode("ascii"))
