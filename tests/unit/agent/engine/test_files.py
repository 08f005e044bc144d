"""The room's small files: places, logs, intents, expectations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine_room import settings

from pareta_agent.engine.process.log_tail import LogTail, turn_over
from pareta_agent.engine.process.process_record import Intent, Intents, boot_id
from pareta_agent.engine.process.run_dir import run_dir_of
from pareta_agent.engine.replica.start_history import History, Summary, remaining_s
from pareta_agent.engine.replica.start_phases import Cause, ColdStartReport
from pareta_agent.engine.vllm.log_lines import StartMeasures
from pareta_agent.errors import HostError

INTENT = Intent("ep_x", 0, 3, "h/ep_x/0/3", boot_id(), pid=7, started=99, segments=("psm_1",))


def test_log_is_kept_for_this_and_two_generations(tmp_path: Path) -> None:
    """The fourth turn drops the oldest."""
    log = tmp_path / "e.log"
    for text in "abcd":
        turn_over(log)
        log.write_text(text)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "e.log": "d",
        "e.log.1": "c",
        "e.log.2": "b",
    }


def test_tail_gives_whole_lines_once(tmp_path: Path) -> None:
    """Half a line waits for its other half; a progress bar's carriage returns end lines too."""
    log = tmp_path / "e.log"
    tail = LogTail(log)
    assert tail.read() == []
    log.write_text("one\ntw")
    assert tail.read() == ["one"]
    with log.open("a") as file:
        file.write("o\r50%\r100%\nrest")
    assert tail.read() == ["two", "50%", "100%"]
    assert tail.read_to_end() == ["rest"]
    assert list(tail.last) == ["one", "two", "50%", "100%", "rest"]


def test_intent_survives_and_the_last_one_counts(tmp_path: Path) -> None:
    """What was written is read back; one record a replica."""
    intents = Intents(tmp_path / "state")
    intents.write(Intent("ep_x", 0, 2, "h/ep_x/0/2", boot_id()))
    intents.write(INTENT)
    assert intents.read("ep_x", 0) == INTENT
    assert intents.all() == [INTENT]
    assert intents.read("ep_y", 0) is None


def test_a_cut_write_leaves_the_old_record(tmp_path: Path) -> None:
    """A crash while writing leaves a partial file that nobody reads."""
    intents = Intents(tmp_path)
    intents.write(INTENT)
    (tmp_path / ".ep_x-0.intent.1f2e3d4c.partial").write_text('{"endpoint": "ep')
    assert intents.all() == [INTENT]


def test_place_is_private_and_swept_whole(tmp_path: Path) -> None:
    """Directories are 0700, and nothing is left."""
    where = run_dir_of(settings(tmp_path), "ep_x", 0, 1)
    where.make()
    (where.tmp / "left").write_text("x")
    assert where.directory.stat().st_mode & 0o777 == 0o700
    where.sweep()
    assert not where.directory.exists()
    where.directory.parent.rmdir()


def test_a_run_dir_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    """Said before anything starts, with what to set."""
    with pytest.raises(HostError, match="too long for unix sockets"):
        run_dir_of(settings(tmp_path, run_dir=tmp_path / ("x" * 80)), "ep_x", 0, 1).make()


def test_expectation_is_what_it_took_before() -> None:
    """The rest of this phase and all later ones, each at its median."""
    past = [{"import": 20.0, "load": 4.0, "probe": 2.0}, {"import": 30.0, "load": 6.0, "probe": 2.0}]
    assert remaining_s(past, {}, None) == 32
    assert remaining_s(past, {"import": 10.0}, "import") == 22
    assert remaining_s(past, {"import": 99.0}, "import") == 7
    assert remaining_s(past, {"probe": 9.0}, "probe") == 1


def test_first_expectation_is_the_prior() -> None:
    """Before any start of its own a node assumes a small model on two cores."""
    assert remaining_s([], {}, None) == 36


def started(cause: Cause, total_s: float, **phases: float) -> ColdStartReport:
    return ColdStartReport("ep_x", "ep_x/0", 1, cause, phases, total_s, "ready", None, StartMeasures())


def test_expectations_outlive_the_agent(tmp_path: Path) -> None:
    """The next agent expects what this one saw of the same cause; a broken file is no history."""
    path = tmp_path / "starts.json"
    history = History(path)
    history.add(started("deploy", 20.0, **{"import": 19.0}))
    history.add(started("restart", 4.0, **{"import": 2.0}))
    history.add(replace(started("restart", 99.0), outcome="failed"))
    assert History(path).phases("ep_x", "restart") == [{"import": 2.0}]
    assert History(path).phases("ep_x", "wake") == [{"import": 19.0}, {"import": 2.0}]
    path.write_text("[1")
    assert History(path).phases("ep_x") == []


def test_starts_are_summed_up_by_cause() -> None:
    """p50 and p95 by nearest rank, over what came to be ready."""
    history = History()
    for seconds in range(1, 21):
        history.add(started("restart", float(seconds)))
    history.add(started("deploy", 30.0))
    assert history.summaries() == (Summary("deploy", 1, 30.0, 30.0), Summary("restart", 20, 10.0, 19.0))
