"""`pareta-agent serve` as scripts and operators meet it: the contract, the start, the stop, and bad input."""

import json
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest
from fakes.certificates import make_certificate
from harness import AGENT, Agent, environment, fake_engine, processes_of

from pareta_agent.hardware.cores import read_cores
from pareta_agent.planning.placement.cpu_share import share

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def ask(ready: dict, key: str, **more) -> httpx.Response:
    body = {"model": ready["endpoints"][0]["id"], "messages": QUESTION, "max_tokens": 8, **more}
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(ready["base_url"] + "/chat/completions", json=body, headers=headers, timeout=120)


def stream(ready: dict, tokens: int):
    """A streamed call that takes its time; leaving the context hangs up."""
    return httpx.stream(
        "POST",
        ready["base_url"] + "/chat/completions",
        json={
            "model": ready["endpoints"][0]["id"],
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": tokens,
            "stream": True,
        },
        headers={"Authorization": f"Bearer {ready['api_key']}"},
        timeout=120,
    )


def serve(home: Path, *flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A start that is expected to fail: what it printed and its exit code."""
    defaults = {"PARETA_ENGINE_COMMAND": fake_engine(), "PARETA_ENGINE_RESTART_BUDGET": "0"}
    env = environment(home, **(defaults | settings))
    argv = [*AGENT, "serve", "--port", "0", *flags]
    return subprocess.run(
        argv, env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )


def test_the_ready_line_is_the_contract(start):
    """Names and shapes that other people's scripts use."""
    agent = start()
    ready = agent.ready()
    assert set(ready) == {"event", "base_url", "api_key", "endpoints", "metrics_url", "pid"}
    assert ready["endpoints"] == [
        {"id": "ep_contract_kie", "task": "contract-key-fields", "alias": "contract-kie-1", "status": "live"}
    ]
    assert ready["api_key"].startswith("pareta_sk_")
    assert ready["pid"] == agent.process.pid
    assert httpx.get(ready["metrics_url"], timeout=120).status_code == 200
    phases = [e["phase"] for e in agent.events if e["event"] == "phase" and e["state"] == "done"]
    assert [p for p in ("resolve", "plan", "fetch", "verify", "spawn", "probe") if p not in phases] == []


def test_a_shells_small_limit_of_open_files_is_raised(start):
    """What `doctor` counts on: the agent takes what the hard limit gives, as far as it needs it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        agent = start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    agent.ready()
    assert resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE) == (min(65536, hard), hard)


def test_a_call_is_answered_metered_and_debited_once(start):
    """Each answer has one row with its own request id, in sequence."""
    agent = start()
    ready = agent.ready()
    ids = [ask(ready, ready["api_key"]).headers["x-request-id"] for _ in range(3)]
    rows = agent.usage()
    assert {row["request_id"] for row in rows} == set(ids)
    assert [row["outcome"] for row in rows] == ["completed"] * 3
    assert all(row["debit_micro_usd"] > 0 for row in rows)
    assert set(rows[0]) == {
        *("request_id", "endpoint", "org", "outcome", "input_tokens", "cached_tokens", "output_tokens"),
        *("reasoning_tokens", "debit_micro_usd", "epoch", "sequence"),
    }
    assert agent.stop() == 0
    assert agent.usage() == rows


def test_a_refused_call_leaves_no_row(start):
    """Neither a wrong key nor a wrong body costs anything."""
    agent = start()
    ready = agent.ready()
    assert ask(ready, "pareta_sk_wrong").status_code == 401
    assert ask(ready, ready["api_key"], model="ep_none").status_code == 404
    assert agent.usage() == []


def test_a_call_that_fails_upstream_debits_nothing(start):
    """The row says how it ended; the balance does not move."""
    agent = start("--error-then-done")
    ready = agent.ready()
    ask_for = {"model": ready["endpoints"][0]["id"], "messages": QUESTION}
    with (
        openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"], max_retries=0) as client,
        pytest.raises(openai.APIError),
    ):
        list(client.chat.completions.create(**ask_for, stream=True))
    (row,) = agent.usage()
    assert (row["outcome"], row["debit_micro_usd"]) == ("failed_engine", 0)


def test_a_second_start_shows_no_key_and_the_old_one_works(start):
    """The key is shown once; everything else of the home is as it was."""
    first = start()
    key = first.ready()["api_key"]
    first.stop()
    second = start()
    ready = second.ready()
    assert ready["api_key"] is None
    assert ask(ready, key).status_code == 200


def test_while_the_engine_loads_the_port_answers(start, tmp_path):
    """Alive, not ready, and a call that may not wait is told to come back."""
    first = start()
    key = first.ready()["api_key"]
    first.stop()
    loaded = tmp_path / "loaded"
    command = fake_engine("--ready-when", str(loaded))
    with Agent(
        first.home, settings={"PARETA_ENGINE_COMMAND": command, "PARETA_FRONT_HOLD_S": "0"}
    ) as loading:
        opened = loading.wait_for("port_opened") | {"endpoints": [{"id": "ep_contract_kie"}]}
        root = opened["base_url"].removesuffix("/v1")
        _until(lambda: ask(opened, key).status_code == 503)
        answer = ask(opened, key)
        health = [httpx.get(root + path, timeout=120).status_code for path in ("/livez", "/readyz")]
        assert health == [200, 503]
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
        loaded.touch()
        loading.ready()
        assert httpx.get(root + "/readyz", timeout=120).status_code == 200


def test_sigterm_lets_an_admitted_stream_finish(start):
    """Readiness goes, the stream comes whole, its record is kept, nothing is left."""
    agent = start("--slow-token", "0.1", flags=("--no-canary",))
    ready = agent.ready()
    with openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"], max_retries=0) as client:
        answer = client.chat.completions.create(
            model="ep_contract_kie",
            messages=[{"role": "user", "content": "Go on."}],
            max_tokens=20,
            stream=True,
        )
        chunks = [next(answer)]
        stopping = threading.Thread(target=agent.stop)
        stopping.start()
        chunks += list(answer)
        stopping.join()
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert agent.process.returncode == 0
    assert [row["outcome"] for row in agent.usage()] == ["completed"]
    assert processes_of(agent.home) == []


def test_a_second_sigterm_hurries(start):
    """The drain is cut short; what was admitted is recorded as not completed."""
    agent = start("--slow-token", "1", flags=("--drain-timeout", "300", "--no-canary"))
    ready = agent.ready()
    with stream(ready, 300) as response:
        chunks = response.iter_raw()
        next(chunks)
        agent.process.send_signal(signal.SIGTERM)
        _until(lambda: not _is_ready(ready))
        assert agent.process.poll() is None
        agent.stop()
    (row,) = agent.usage()
    assert (row["outcome"], row["debit_micro_usd"]) == ("failed_server", 0)


def test_after_kill_9_the_next_start_cleans_up_and_loses_no_record(start):
    """The orphaned engine goes, the open request is recorded, nothing is debited twice."""
    agent = start("--slow-token", "0.2", flags=("--no-canary",))
    ready = agent.ready()
    done = ask(ready, ready["api_key"], max_tokens=2)
    with stream(ready, 50) as response:
        chunks = response.iter_raw()
        next(chunks)
        _until(lambda: agent.open_on_disk() == 1)
        agent.kill()
    orphans = processes_of(agent.home)
    assert any("engine.py" in orphan for orphan in orphans)
    second = start()
    second.ready()
    rows = second.usage()
    assert sorted(row["outcome"] for row in rows) == ["agent_crash", "completed"]
    completed = next(row for row in rows if row["outcome"] == "completed")
    assert completed["request_id"] == done.headers["x-request-id"]
    assert [o for o in processes_of(agent.home) if "--slow-token" in o] == []


@pytest.mark.parametrize(
    "after_s",
    [0.3, *(pytest.param(after_s, marks=pytest.mark.long) for after_s in (0.8, 1.2, 1.6, 3.0)), 2.2],
)
def test_ctrl_c_at_any_moment_of_the_start_leaves_nothing(home, after_s):
    """No process, no half file, a quick end."""
    settings = {"PARETA_ENGINE_COMMAND": fake_engine("--ready-after", "2")}
    agent = Agent(home, settings=settings)
    time.sleep(after_s)
    agent.stop(signal.SIGINT)
    _until(lambda: processes_of(home) == [])
    assert [str(p) for p in home.rglob("*.partial*")] == []


def test_several_endpoints_on_one_node(start, home):
    """Two tasks, two engines, one port; each has its part of the cores, and each call is its endpoint's."""
    home.mkdir()
    (home / "config.toml").write_text(
        '[[endpoints]]\ntask = "contract-key-fields"\n[[endpoints]]\ntask = "clause-summary"\n'
    )
    agent = start()
    ready = agent.ready()
    names = [endpoint["id"] for endpoint in ready["endpoints"]]
    assert len(set(names)) == 2
    spawned = [event for event in agent.events if event.get("phase") == "spawn" and event["state"] == "done"]
    parts = {str(share(read_cores(), 2, seat)) for seat in range(2)}
    assert {event["detail"] for event in spawned} == parts
    for name in names:
        assert ask(ready, ready["api_key"], model=name).json()["model"] == name
    assert sorted(row["endpoint"] for row in agent.usage()) == sorted(names)


def test_two_endpoints_of_one_name_are_refused(home):
    """Named or derived: before anything is made of them."""
    home.mkdir()
    (home / "config.toml").write_text('[[endpoints]]\ntask = "contract-key-fields"\n' * 2)
    refused = serve(home)
    assert refused.returncode == 2
    assert "two endpoints have the id ep_contract_kie (endpoint_twice)" in refused.stderr


def test_an_empty_balance_is_402_until_it_is_topped_up(start):
    """Calls are refused before they run: typed, unmetered; money makes them run."""
    agent = start(PARETA_PLANE_BALANCE_USD="0")
    ready = agent.ready()
    answer = ask(ready, ready["api_key"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "insufficient_credit")
    assert agent.usage() == []
    assert agent.command("org", "topup", "1").returncode == 0
    _until(lambda: ask(ready, ready["api_key"]).status_code == 200)


def test_a_wrong_answer_to_the_canary_keeps_an_endpoint_from_going_live(home):
    """Health alone would have called it live."""
    done = serve(home, PARETA_ENGINE_COMMAND=fake_engine("--wrong-text"))
    assert done.returncode == 6
    assert "canary" in done.stderr


def test_no_canary_goes_live_on_health_alone(start):
    """For engines that hold no such knowledge."""
    agent = start("--wrong-text", flags=("--no-canary",))
    assert agent.ready()["endpoints"][0]["status"] == "live"


def test_a_taken_port_is_told_before_anything_slow(home):
    """Exit 4, the port, and two ways on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        done = serve(home, "--port", str(port))
    assert done.returncode == 4
    assert "port_taken" in done.stderr
    assert "--port 0" in done.stderr


@pytest.mark.parametrize(
    ("flags", "settings", "code", "said"),
    [
        (["--config", "/nowhere.toml"], {}, 2, "config_unreadable"),
        ([], {"PARETA_ENGINE_PYTON": "x"}, 2, "did you mean engine.python?"),
        (["--task", "contract-key-field"], {}, 5, "did you mean 'contract-key-fields'?"),
        (["--alias", "none-1"], {}, 5, "contract-kie-1"),
        (["--catalog", "/nowhere"], {}, 5, "/nowhere"),
        ([], {"PARETA_ENGINE_COMMAND": fake_engine("--die-at-start", "3")}, 6, "ended"),
        ([], {"PARETA_ENGINE_COMMAND": "/nowhere/engine"}, 6, "/nowhere/engine"),
        ([], {"PARETA_ENGINE_COMMAND": "", "PARETA_ENGINE_PYTHON": "/nowhere/python"}, 4, "/nowhere/python"),
    ],
)
def test_bad_input_says_what_to_do(home, flags, settings, code, said):
    """Each with its own exit code and a message that names what is wrong."""
    done = serve(home, *flags, **settings)
    assert said in done.stderr
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert processes_of(home) == []


def test_a_catalog_that_is_broken_names_file_line_and_key(home, tmp_path):
    """Every problem is located."""
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    (catalog / "task.yaml").write_text(
        "kind: task\nid: t\ntitle: T\naliases:\n  - id: a-1\n    model: gone\nrecommended: a-1\n"
    )
    done = serve(home, "--catalog", str(catalog))
    assert done.returncode == 5
    assert "task.yaml:6" in done.stderr
    assert "gone" in done.stderr


def test_status_of_a_running_node_and_of_none(start, home):
    """A node that does not run is an answer, not a traceback."""
    agent = start()
    agent.ready()
    done = agent.command("status", "--json")
    assert done.returncode == 0
    status = json.loads(done.stdout)
    assert status["endpoints"][0]["status"] == "live"
    agent.stop()
    down = agent.command("status")
    assert down.returncode == 1
    assert "no node runs" in down.stderr


def _is_ready(ready: dict) -> bool:
    try:
        return httpx.get(ready["metrics_url"].replace("/metrics", "/readyz"), timeout=120).status_code == 200
    except httpx.HTTPError:
        return False


def _until(condition, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


def test_a_node_with_a_certificate_is_https_and_reads_it_again(start, tmp_path):
    """The Ready block says so; SIGHUP ends nothing and shows the new certificate."""
    (tmp_path / "new").mkdir()
    made, new = make_certificate(tmp_path), make_certificate(tmp_path / "new")
    agent = start(PARETA_FRONT_TLS_CERT_FILE=str(made.pem), PARETA_FRONT_TLS_KEY_FILE=str(made.key))
    ready = agent.ready()
    trusted = ssl.create_default_context(cafile=str(made.pem))
    http = httpx.Client(verify=trusted, timeout=120)
    with openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"], http_client=http) as client:
        answer = client.chat.completions.create(model="ep_contract_kie", messages=QUESTION, max_tokens=4)
    assert (ready["base_url"].startswith("https://127.0.0.1:"), answer.object) == (True, "chat.completion")
    authorized = {"authorization": f"Bearer {ready['api_key']}"}

    def urls() -> list[str | None]:
        found = httpx.get(f"{ready['base_url']}/endpoints", verify=trusted, headers=authorized, timeout=120)
        return [endpoint["url"] for endpoint in found.json()]

    _until(
        lambda: urls() == [ready["base_url"]]
    )  # the plane hears that it is live a moment after the Ready block
    assert (
        "certificate is good for" in agent.command("doctor").stdout
        or "days left" in agent.command("doctor").stdout
    )
    made.pem.write_bytes(new.pem.read_bytes())
    made.key.write_bytes(new.key.read_bytes())
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for("certificate_changed")
    again = ssl.create_default_context(cafile=str(new.pem))
    alive = httpx.get(ready["base_url"].replace("/v1", "/livez"), verify=again, timeout=120)
    assert alive.status_code == 200
    assert agent.stop() == 0


def test_a_certificate_that_is_no_good_is_wrong_input(tmp_path):
    """Exit 2, the file and what is wrong with it, before anything is started."""
    made = make_certificate(tmp_path)
    made.key.write_text("not a key")
    done = serve(
        tmp_path / "home", PARETA_FRONT_TLS_CERT_FILE=str(made.pem), PARETA_FRONT_TLS_KEY_FILE=str(made.key)
    )
    assert (done.returncode, "no plain private key" in done.stderr) == (2, True)
