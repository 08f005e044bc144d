"""The commands about money, on a home that a node and its plane have used: what they print and how they end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from harness import environment
from used_home import use

from pareta_agent.meter.settings import spool_path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("used") / "home"
    asyncio.run(use(home))
    return home


def run(home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pareta_agent", *argv],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_usage_prints_the_ledger_as_the_contract_says(used: Path) -> None:
    """One object a line with these names; what is missing is said on stderr."""
    done = run(used, "usage", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {
            "request_id": "req_1",
            "endpoint": "ep_a",
            "org": "org_local",
            "outcome": "completed",
            "input_tokens": 1000,
            "cached_tokens": 0,
            "output_tokens": 500,
            "reasoning_tokens": 0,
            "debit_micro_usd": 300,
            "epoch": 1,
            "sequence": 2,
        }
    ]
    assert done.stderr == "in the spool, not in the ledger: 1 records, 1 open requests\n"
    assert run(used, "usage", "--json", "--endpoint", "ep_other").stdout == ""
    assert "0.000300" in run(used, "usage").stdout


def test_keys_are_made_listed_and_revoked(used: Path) -> None:
    """The secret is printed once; the list never has it."""
    made = json.loads(run(used, "keys", "create", "--endpoint", "ep_a", "--json").stdout)
    assert made["api_key"].startswith("pareta_sk_")
    listed = run(used, "keys", "ls", "--json")
    assert made["api_key"] not in listed.stdout
    assert run(used, "keys", "revoke", made["id"]).returncode == 0
    rows = {row["id"]: row for row in map(json.loads, run(used, "keys", "ls", "--json").stdout.splitlines())}
    assert (rows[made["id"]]["revoked"], rows[made["id"]]["endpoints"]) == (True, ["ep_a"])
    unknown = run(used, "keys", "revoke", "key_none")
    assert (unknown.returncode, "key_unknown" in unknown.stderr) == (2, True)


def test_a_balance_is_topped_up_in_dollars(used: Path) -> None:
    """Amounts are exact; what is no amount is refused."""
    before = json.loads(run(used, "org", "ls", "--json").stdout)["balance_micro_usd"]
    done = run(used, "org", "topup", "0.25")
    assert float(done.stdout) == pytest.approx((before + 250_000) / 1e6)
    for wrong in ("five", "-1", "0", "0.0000001", "NaN"):
        assert run(used, "org", "topup", "--", wrong).returncode == 2


def test_an_orgs_policy_for_answers_that_were_left_is_set_and_shown(used: Path) -> None:
    """`none` until somebody says `delivered`; anything else is refused."""
    assert json.loads(run(used, "org", "ls", "--json").stdout)["partial"] == "none"
    assert run(used, "org", "policy", "--partial", "delivered").returncode == 0
    assert json.loads(run(used, "org", "ls", "--json").stdout)["partial"] == "delivered"
    assert run(used, "org", "policy", "--partial", "half").returncode == 2


def test_the_spool_can_be_read_beside_its_agent(used: Path) -> None:
    """ls, verify and export say what is kept."""
    assert json.loads(run(used, "spool", "ls", "--json").stdout) == {
        "epoch": 1,
        "first_kept": 1,
        "last_seq": 3,
        "acked_seq": 2,
    }
    verified = run(used, "spool", "verify")
    assert (verified.returncode, verified.stdout) == (0, "")
    exported = [json.loads(line)["sequence"] for line in run(used, "spool", "export").stdout.splitlines()]
    assert exported == [1, 2, 3]


def test_verify_finds_a_flipped_bit(tmp_path: Path) -> None:
    """Exit 1, and the record by name."""
    asyncio.run(use(tmp_path))
    connection = apsw.Connection(str(spool_path(tmp_path)))
    flipped = """replace(CAST(body AS TEXT), '"output":500', '"output":900')"""
    connection.execute(f"UPDATE events SET body = CAST({flipped} AS BLOB) WHERE key & 7 = 2")
    connection.close()
    done = run(tmp_path, "spool", "verify")
    assert (done.returncode, done.stdout) == (1, "1-2: the bytes do not match the hash\n")


def test_nodes_are_listed_and_get_tokens(used: Path) -> None:
    """A token is printed once; a node that never spoke is lost."""
    assert run(used, "plane", "token", "n2").stdout.startswith("pareta_nt_")
    rows = [json.loads(line) for line in run(used, "plane", "nodes", "--json").stdout.splitlines()]
    assert [(row["id"], row["state"]) for row in rows] == [("n", "lost"), ("n2", "lost")]


@pytest.mark.parametrize("argv", [("usage",), ("keys", "ls"), ("org", "ls"), ("plane", "nodes")])
def test_a_home_without_a_plane_says_so(tmp_path: Path, argv: tuple[str, ...]) -> None:
    """Nothing is made by looking."""
    done = run(tmp_path / "none", *argv)
    assert (done.returncode, "plane_missing" in done.stderr) == (2, True)
    assert not (tmp_path / "none" / "plane").exists()


def test_a_home_without_a_spool_says_so(tmp_path: Path) -> None:
    """The same for the spool."""
    done = run(tmp_path, "spool", "verify")
    assert (done.returncode, "spool_missing" in done.stderr) == (4, True)
