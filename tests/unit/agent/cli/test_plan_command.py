"""`pareta-agent plan` and `inventory`: what is printed, what is never printed, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planner_values import gpus, node
from typer.testing import CliRunner

from pareta_agent.catalog.source import find
from pareta_agent.cli import app
from pareta_agent.cli.plan import load_inventory
from pareta_agent.config import Settings
from pareta_agent.errors import ConfigError, RegistryError
from pareta_agent.hardware.inventory import Inventory, from_json, to_json
from pareta_agent.node.engine_interpreter import EngineProgram
from pareta_agent.planning.memory import measured
from pareta_agent.planning.memory.measured import Measured
from pareta_registry.catalog import Adapter
from pareta_registry.load import builtin_catalog

RUNNER = CliRunner()
TASK = "contract-key-fields"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETA_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "130")


def saved(tmp_path: Path, inventory: Inventory) -> str:
    file = tmp_path / "node.json"
    file.write_bytes(to_json(inventory))
    return str(file)


def test_a_plan_for_another_node(tmp_path: Path) -> None:
    """Verdict, settings, bars, reasons, and exit 0."""
    file = saved(tmp_path, node(gpus(2)))
    done = RUNNER.invoke(app, ["plan", TASK, "--inventory", file])
    assert done.exit_code == 0, done.output
    for word in (
        f"{TASK}/contract-kie-1: compatible",
        "2 × tp1",
        "max_num_batched_tokens 8,192",
        "weights",
        "why ",
    ):
        assert word in done.stdout


def test_the_alias_may_be_named(tmp_path: Path) -> None:
    """TASK/ALIAS."""
    done = RUNNER.invoke(
        app, ["plan", f"{TASK}/contract-kie-1", "--inventory", saved(tmp_path, node(gpus(1))), "--json"]
    )
    assert json.loads(done.stdout)["alias"] == "contract-kie-1"


def test_what_starts_have_taught_is_heeded(tmp_path: Path) -> None:
    """Weights that failed for good on this kind of GPU, by the home's record, are refused with that reason."""
    here = node(gpus(1))
    version = EngineProgram(Settings(), here, lambda _event: None).version
    taught = Measured(version)
    for one in find(builtin_catalog(), TASK, None).model.variants:
        taught = taught.blacklisted(one.artifact, (9, 0))
    (tmp_path / "measured.json").write_bytes(measured.to_json(taught))
    done = RUNNER.invoke(app, ["plan", TASK, "--inventory", saved(tmp_path, here)])
    assert done.exit_code == 3, done.output
    (tmp_path / "measured.json").unlink()
    assert RUNNER.invoke(app, ["plan", TASK, "--inventory", saved(tmp_path, here)]).exit_code == 0


def test_a_refusal_exits_three_with_arithmetic(tmp_path: Path) -> None:
    """And says what would fit."""
    small = node(gpus(1, 0.9, name="Tesla T4", compute_capability=(7, 5)))
    done = RUNNER.invoke(app, ["plan", TASK, "--inventory", saved(tmp_path, small)])
    assert done.exit_code == 3
    assert "impossible" in done.stdout
    assert "GiB" in done.stdout


def test_no_weights_id_unless_private(tmp_path: Path) -> None:
    """Neither in the table nor in the JSON; with --private it is there."""
    file = saved(tmp_path, node(gpus(1)))
    for more in ([], ["--json"]):
        done = RUNNER.invoke(app, ["plan", TASK, "--inventory", file, *more])
        assert "smollm2" not in done.output.lower()
        assert "sha256" not in done.output
        private = RUNNER.invoke(app, ["plan", TASK, "--inventory", file, "--private", *more])
        assert "smollm2-135m-instruct" in private.stdout


def test_json_holds_the_whole_report(tmp_path: Path) -> None:
    """Every candidate and rejection, as values."""
    report = json.loads(
        RUNNER.invoke(app, ["plan", TASK, "--inventory", saved(tmp_path, node(gpus(4))), "--json"]).stdout
    )
    assert report["verdict"] == "compatible"
    assert report["candidates"][0]["plan"]["replicas"] == 4
    assert any("9 attention heads" in one["reason"] for one in report["rejections"])


def test_limits_are_passed_on(tmp_path: Path) -> None:
    """Replicas and context as asked for."""
    file = saved(tmp_path, node(gpus(4)))
    done = RUNNER.invoke(
        app, ["plan", TASK, "--inventory", file, "--json", "--replicas", "2", "--max-model-len", "1024"]
    )
    plan = json.loads(done.stdout)["candidates"][0]["plan"]
    assert (plan["replicas"], plan["max_model_len"]) == (2, 1024)


def test_unknown_tasks_and_broken_files_are_errors_with_a_remedy(tmp_path: Path) -> None:
    """Registry errors and wrong inventories have their own codes."""
    unknown = RUNNER.invoke(app, ["plan", "no-such-task"])
    assert isinstance(unknown.exception, RegistryError)
    assert "no-such-task" in str(unknown.exception)
    broken = tmp_path / "broken.json"
    broken.write_text('{"gpus": [{"name": "no uuid"}]}')
    with pytest.raises(ConfigError, match=r"gpus\.0\.uuid"):
        load_inventory(broken)
    with pytest.raises(ConfigError, match="No such file"):
        load_inventory(tmp_path / "absent.json")


def test_a_diff_needs_a_node_that_runs() -> None:
    """Otherwise there is nothing to compare with."""
    done = RUNNER.invoke(app, ["plan", TASK, "--diff"])
    assert "no node runs" in str(done.exception)


def test_inventory_json_is_what_plan_reads() -> None:
    """The command's output round-trips."""
    done = RUNNER.invoke(app, ["inventory", "--json"])
    assert from_json(done.stdout.encode()).cpu_cores


def test_inventory_for_people() -> None:
    """The host's line, at least."""
    assert RUNNER.invoke(app, ["inventory"]).stdout.startswith("host ")


def test_a_plan_for_an_adapter_says_what_it_shares(tmp_path: Path) -> None:
    """Base and adapter: the layout is the base's, with room for adapters in its weights."""
    model = builtin_catalog().models[0]
    adapter = Adapter(
        name="legal", artifact=f"sha256:{'0' * 64}", source="file:///a", rank=12, weights_bytes=1
    )
    documents = [
        {"kind": "model"} | model.model_copy(update={"adapters": (adapter,)}).model_dump(mode="json"),
        {
            "kind": "task",
            "id": "t",
            "title": "T",
            "aliases": [{"id": "legal-1", "model": model.id, "adapter": "legal"}],
            "recommended": "legal-1",
        },
    ]
    (tmp_path / "catalog.json").write_text(json.dumps(documents))
    asked = [
        "plan",
        "t",
        "--inventory",
        saved(tmp_path, node(gpus(1))),
        "--catalog",
        str(tmp_path / "catalog.json"),
    ]
    assert "LoRA adapter of rank 12, on a base that all endpoints" in RUNNER.invoke(app, asked).stdout
    told = json.loads(RUNNER.invoke(app, [*asked, "--json"]).stdout)
    assert told["sharing"] == {"adapter_rank": 12, "rank": 16, "at_once": 4, "kept": 64}
    assert "--enable-lora" in told["candidates"][0]["plan"]["flags"]
