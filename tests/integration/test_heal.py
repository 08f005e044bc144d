"""Starts that fail for a known reason are mended with one knob, and what worked is remembered."""

import json

import pytest

pytestmark = pytest.mark.slow


def starts(agent) -> int:
    return sum(e["event"] == "phase" and e["phase"] == "spawn" and e["state"] == "done" for e in agent.events)


def test_an_impossible_context_comes_up_after_one_new_plan(start):
    """The engine says what would fit; the next start asks for that, callers see the endpoint live."""
    agent = start("--kv-tokens", "2048")
    ready = agent.ready()
    assert ready["endpoints"][0]["status"] == "live"
    (replanned,) = [e for e in agent.events if e["event"] == "replanned"]
    assert replanned["reason"] == "context: trying max_model_len 2048"
    assert starts(agent) == 2
    assert "engine_given_up" not in {event["event"] for event in agent.events}
    status = agent.status()
    assert status["endpoints"][0]["status"] == "live"
    planned = json.loads(agent.command("plan", "contract-key-fields", "--diff", "--json").stdout)
    changes = planned["diff"]["ep_contract_kie"]
    assert changes == [{"field": "max_model_len", "running": "2048", "planned": "4096"}]


def test_a_context_beyond_the_models_positions_becomes_the_engines_number(start):
    """What the model takes is no matter of memory: the verdict says so, and the next start asks for it."""
    agent = start("--positions", "512")
    ready = agent.ready()
    assert ready["endpoints"][0]["status"] == "live"
    (replanned,) = [e for e in agent.events if e["event"] == "replanned"]
    assert replanned["reason"] == "positions: trying max_model_len 512"
    (ended,) = [e for e in agent.events if e["event"] == "engine_ended"]
    assert (ended["code"], "KV" in ended["reason"]) == ("engine_positions", False)


def test_what_a_start_taught_is_kept_for_the_next_plan(start):
    """The numbers of the log lie in the home, by artifact and engine version."""
    agent = start()
    agent.ready()
    kept = json.loads((agent.home / "measured.json").read_text())
    assert kept["engine_version"] == "0.32.0"
    (numbers,) = kept["starts"].values()
    assert numbers["weights_bytes"] == int(0.25 * 2**30)


def test_what_cannot_be_mended_is_given_up_with_a_reason(home, start):
    """An engine that fits no context at all ends the start; nothing is tried for ever."""
    agent = start("--kv-tokens", "100", PARETA_ENGINE_RESTART_BUDGET="0")
    assert agent.process.wait(120) == 6
    assert "replan_refused" in {event["event"] for event in agent.events}
