"""What does the agent add to an engine? The same load straight to the engine's socket and through the agent.

Starts `pareta-agent serve`, finds the engine's socket, and alternates the two ways within one run, in many short
rounds. Tells ratios of time to first token, time between tokens and tokens per second, each with its interval of 95 %,
and the agent's own CPU. First tokens are timed by calls of their own, one at a time and a way by turns.

    python benchmarks/overhead.py [--engine vllm|fake] [--rounds 36] [--out benchmarks/results/overhead.json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

from interval import ratio_of, verdict
from loadgen import client

from pareta_agent.engine.install.requirements import choose

ROOT = Path(__file__).resolve().parents[1]
FAKE = f"{sys.executable} {ROOT / 'tests' / 'fakes' / 'engine.py'} --slow-token 0.01"
FIRSTS = 12
START_S = 300.0
MOST_LOSS = 0.02
PROMPT = "{} {}: tell me about this number in one paragraph."


def serve(engine: str, home: Path, **settings: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A running agent and its ready event, within `START_S`; `settings` are variables of its environment."""
    environment = {**os.environ, "PARETA_HOME": str(home), **settings}
    if engine == "fake":
        environment["PARETA_ENGINE_COMMAND"] = FAKE
    command = [
        str(Path(sys.executable).with_name("pareta-agent")),
        "serve",
        "--json",
        "--port",
        "0",
        "--standby",
        "0",
    ]
    with (home / "serve.log").open("w") as log:
        agent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    assert agent.stdout is not None
    patience = threading.Timer(START_S, agent.terminate)
    patience.start()
    for line in agent.stdout:
        event = json.loads(line)
        if event["event"] == "ready":
            patience.cancel()
            return agent, event
    patience.cancel()
    raise SystemExit(f"the agent ended with {agent.wait()}:\n{(home / 'serve.log').read_text()[-2000:]}")


def engine_socket(home: Path) -> str:
    """The socket of the engine that this agent started, from the command lines of the machine's processes."""
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            variables = (process / "environ").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if "--uds" in words and str(home) in variables + " ".join(words):
            return words[words.index("--uds") + 1]
    raise SystemExit("no engine socket found")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def idle_cpu_share(pid: int, seconds: float = 5.0) -> float:
    """What the agent uses when nobody calls: its heartbeats and looks at its engines."""
    before = cpu_s(pid)
    await asyncio.sleep(seconds)
    return (cpu_s(pid) - before) / seconds


def figures(seen: client.Seen) -> dict[str, float]:
    if seen.errors or not seen.gaps_s:
        raise SystemExit(f"{seen.errors} errors, {seen.answers} answers")
    gaps = sorted(seen.gaps_s)
    return {
        "ttft_p50_s": statistics.median(seen.first_s),
        "inter_token_p50_s": statistics.median(gaps),
        "inter_token_mean_s": statistics.fmean(gaps),
        "inter_token_p99_s": gaps[int(len(gaps) * 0.99)],
        "tokens_per_s": seen.events / seen.wall_s,
    }


async def rounds(options: argparse.Namespace, ready: dict[str, Any], uds: str) -> list[dict[str, Any]]:
    url = urlsplit(ready["base_url"])
    model, key = ready["endpoints"][0]["id"], ready["api_key"]
    ways = {"direct": client.at(uds), "agent": client.at((url.hostname or "", url.port or 0))}

    def ask(way: str, number: int, tokens: int) -> bytes:
        # Distinct from the first word on: a prefix cache must not favour whoever comes second.
        return client.request(model, key, PROMPT.format(way, number), tokens)

    async def load(way: str, requests: int, turn: int) -> client.Seen:
        def many(number: int) -> bytes:
            return ask(way, turn * 2000 + number, options.tokens)

        return await client.run(ways[way], many, options.connections, requests)

    async def firsts(turn: int) -> dict[str, client.Seen]:
        return await client.by_turns(ways, lambda way, n: ask(way, turn * 2000 + 1000 + n, 2), FIRSTS)

    for way in ways:
        await load(way, options.connections, 0)
    idle_share = await idle_cpu_share(ready["pid"])
    rows = []
    for turn in range(options.rounds):
        alone = await firsts(turn + 1)
        for way in ("direct", "agent") if turn % 2 else ("agent", "direct"):
            before = cpu_s(ready["pid"])
            seen = await load(way, options.requests, turn + 1)
            used = cpu_s(ready["pid"]) - before
            row: dict[str, Any] = {"round": turn, "way": way, **figures(seen)}
            row["ttft_alone_s"] = statistics.median(alone[way].first_s)
            if way == "agent":
                row["agent_cpu_s_per_1000_chunks"] = used / seen.events * 1000
                row["of_it_idle_s_per_1000_chunks"] = idle_share * seen.wall_s / seen.events * 1000
                row["chunks"] = seen.events
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
    return rows


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The ratio agent to direct over the rounds, with its interval."""
    summary: dict[str, Any] = {}
    turns = sorted({row["round"] for row in rows})
    for key in (
        "ttft_alone_s",
        "ttft_p50_s",
        "inter_token_p50_s",
        "inter_token_mean_s",
        "inter_token_p99_s",
        "tokens_per_s",
    ):
        pairs = [{row["way"]: row[key] for row in rows if row["round"] == turn} for turn in turns]
        ratio, low, high = ratio_of([(pair["direct"], pair["agent"]) for pair in pairs])
        summary[key] = {
            "direct": statistics.median(pair["direct"] for pair in pairs),
            "agent": statistics.median(pair["agent"] for pair in pairs),
            "ratio": round(ratio, 4),
            "ratio_interval": [round(low, 4), round(high, 4)],
        }
    for key in ("agent_cpu_s_per_1000_chunks", "of_it_idle_s_per_1000_chunks"):
        summary[key] = round(statistics.median(row[key] for row in rows if row["way"] == "agent"), 4)
    return summary


def show(summary: dict[str, Any], options: argparse.Namespace) -> None:
    print(
        f"{options.engine}: {options.connections} streams of {options.tokens} tokens, {options.rounds} rounds"
    )
    for key, row in summary.items():
        if isinstance(row, dict):
            low, high = row["ratio_interval"]
            ways = f"direct {row['direct']:10.5f}  agent {row['agent']:10.5f}"
            print(f"  {key:20} {ways}  x {row['ratio']:.3f} [{low:.3f}-{high:.3f}]")
    cpu, idle = summary["agent_cpu_s_per_1000_chunks"], summary["of_it_idle_s_per_1000_chunks"]
    print(
        f"  agent CPU seconds per 1,000 streamed chunks: {cpu:.4f}, of which {idle:.4f} it uses when idle too"
    )

    for key, worse in (("ttft_alone_s", 1), ("tokens_per_s", -1)):
        low, high = (bound**worse for bound in summary[key]["ratio_interval"])
        said = verdict(min(low, high), max(low, high), 1 + MOST_LOSS)
        print(f"  target: {key} within {MOST_LOSS:.0%} of direct: {said}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=("vllm", "fake"), default="vllm")
    parser.add_argument("--rounds", type=int, help="default: 36 vllm, 6 fake")
    parser.add_argument("--connections", type=int, help="streams at once (default: 2 vllm, 64 fake)")
    parser.add_argument("--requests", type=int, help="requests a round and way")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.connections = options.connections or (2 if options.engine == "vllm" else 64)
    options.requests = options.requests or options.connections * (1 if options.engine == "vllm" else 6)
    options.rounds = options.rounds or (36 if options.engine == "vllm" else 6)
    with tempfile.TemporaryDirectory(prefix="po") as home:
        agent, ready = serve(options.engine, Path(home))
        try:
            rows = asyncio.run(rounds(options, ready, engine_socket(Path(home))))
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait(60)
    summary = summarize(rows)
    show(summary, options)
    if options.out:
        machine = {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
        load = {
            key: getattr(options, key) for key in ("engine", "rounds", "connections", "requests", "tokens")
        }
        when = time.strftime("%Y-%m-%d", time.gmtime())
        peer = (
            f"vLLM {choose('cpu', None).version}, eager, on its unix socket"
            if options.engine == "vllm"
            else "the fake engine"
        )
        result = {
            "date": when,
            "peer": peer,
            "machine": machine,
            "load": load,
            "summary": summary,
            "rows": rows,
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
