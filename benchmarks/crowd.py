"""Does the front hold a crowd, what does one slow reader cost the others, and what do wrk and h2load say of it?

    python benchmarks/crowd.py [--seconds 60] [--pairs 24] [--out benchmarks/results/crowd.json]

The mock engine and the load client share one core, the front has the other. A slow reader takes a hundred bytes a
second of a stream that makes 12 kB; its effect is told by many short windows on one front, without and with eight of
them in turn, as the ratio of the others' p99 with its interval. wrk and h2load ask for documents over 32 connections,
of nginx and of the front in turn.

Needs a C compiler, nginx, wrk and h2load.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from front import (
    KEY,
    MODEL,
    OTHER_CORE,
    PROXY_CORE,
    Scenario,
    Target,
    build,
    free_port,
    start,
    stop,
    under_load,
    versions,
    wait_for_answer,
)
from interval import ratio_of, verdict

CROWD = Scenario("2,000 streams x 4/s", 2000, 64, 250_000)
BESIDE = Scenario("64 streams x 50/s", 64, 64, 20_000)
WINDOW_S, MOST_RATIO = 1.9, 1.10
SLOW, SLOW_TOKENS = 8, 4096
WIDTH = 32


@contextmanager
def up(name: str, scenario: Scenario, place: Path) -> Iterator[tuple[Target, int]]:
    """The mock and one target before it; gives the target and its process id."""
    target, uds, tcp_port = Target(name, place, None), place / "mock.sock", free_port()
    log = place / f"{name}.log"
    mock = start([str(place / "mock"), str(uds), str(tcp_port), str(scenario.interval_us)], OTHER_CORE, log)
    proxy = start(target.argv(uds, tcp_port), PROXY_CORE, log)
    try:
        wait_for_answer(target, proxy)
        yield target, proxy.pid
    finally:
        stop(proxy)
        stop(mock)


def load(target: Target, pid: int, scenario: Scenario, seconds: float, place: Path) -> dict[str, Any]:
    argv = ["taskset", "-c", OTHER_CORE, str(place / "load"), "-", str(target.port)]
    argv += [str(scenario.connections), str(seconds), str(scenario.tokens), KEY, MODEL]
    return under_load(argv, pid, scenario)


def crowd(seconds: float, place: Path) -> dict[str, Any]:
    """The window that is counted is the last four fifths of what the client runs."""
    with up("ours", CROWD, place) as (target, pid):
        seen = load(target, pid, CROWD, seconds / 0.8, place)
    log = (place / "ours.log").read_text()
    records = re.findall(r"records (\d+) open (\d+)", log)
    return {**seen, "records": int(records[-1][0]), "records_open": int(records[-1][1])}


def slow_readers(port: int, count: int) -> subprocess.Popen[bytes]:
    """A process that asks for long streams and hardly reads them."""
    argv = [sys.executable, __file__, "--read-slowly", str(port), str(count)]
    return subprocess.Popen(["taskset", "-c", OTHER_CORE, *argv])


def read_slowly(port: int, count: int) -> None:
    body = json.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": SLOW_TOKENS,
            "stream": True,
        }
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    socks = []
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect(("127.0.0.1", port))
        sock.sendall((head + body).encode())
        socks.append(sock)
    while True:
        for sock in socks:
            sock.recv(100)
        time.sleep(1.0)


def beside_slow_readers(pairs: int, place: Path) -> list[dict[str, Any]]:
    """Windows in changing order, the front and its engine the same: what drifts falls on both kinds alike."""
    runs = []
    with up("ours", BESIDE, place) as (target, pid):
        for turn in range(pairs):
            for slow in (0, SLOW) if turn % 2 else (SLOW, 0):
                readers = slow_readers(target.port, slow)
                try:
                    time.sleep(0.5)
                    seen = load(target, pid, BESIDE, WINDOW_S, place)
                finally:
                    readers.kill()
                    readers.wait()
                runs.append({"pair": turn, "slow": slow, **seen})
            print(
                f"pair {turn} p99={runs[-2]['chunk_p99_us']:.0f}, {runs[-1]['chunk_p99_us']:.0f} us",
                file=sys.stderr,
            )
    return runs


def documents(name: str, place: Path) -> dict[str, Any]:
    """Requests a second and the middle latency, as wrk and h2load print them."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 64})
    script, data = place / "post.lua", place / "body.json"
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    lines = ['wrk.method = "POST"', f"wrk.body = [[{body}]]"]
    script.write_text("\n".join([*lines, *(f'wrk.headers["{n}"] = "{v}"' for n, v in headers.items())]))
    data.write_text(body)
    with up(name, Scenario("documents", WIDTH, 0, 0), place) as (target, _):
        url = f"http://127.0.0.1:{target.port}/v1/chat/completions"
        wrk = said(["wrk", "-t1", f"-c{WIDTH}", "-d6s", "--latency", "-s", str(script), url])
        named = [f"-H{n}: {v}" for n, v in headers.items()]
        h2load = said(
            ["h2load", "--h1", f"-c{WIDTH}", "-t1", "-D6", "--warm-up-time=1", "-d", str(data), *named, url]
        )
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", h2load)
    return {
        "wrk_requests_per_s": float(find(r"Requests/sec:\s+([\d.]+)", wrk)),
        "wrk_p50": find(r"50%\s+(\S+)", wrk),
        "wrk_p99": find(r"99%\s+(\S+)", wrk),
        "wrk_errors": int(find(r"Non-2xx or 3xx responses: (\d+)", wrk, "0")) + ("Socket errors" in wrk),
        "h2load_requests_per_s": float(find(r"([\d.]+) req/s", h2load)),
        "h2load_errors": sum(map(int, failed.groups())) if failed else None,
    }


def said(argv: list[str]) -> str:
    done = subprocess.run(["taskset", "-c", OTHER_CORE, *argv], capture_output=True, text=True, check=True)
    return done.stdout


def find(pattern: str, text: str, default: str | None = None) -> str:
    found = re.search(pattern, text)
    if found is None and default is None:
        raise SystemExit(f"no {pattern} in:\n{text}")
    return found.group(1) if found else str(default)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read-slowly", nargs=2, type=int)
    options = parser.parse_args()
    if options.read_slowly:
        read_slowly(*options.read_slowly)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        build(place)
        whole = crowd(options.seconds, place)
        runs = beside_slow_readers(options.pairs, place)
        asked = {name: documents(name, place) for name in ("nginx", "ours")}
    p99s = {(r["pair"], r["slow"]): r["chunk_p99_us"] for r in runs}
    ratio, low, high = ratio_of([(p99s[pair, 0], p99s[pair, SLOW]) for pair in range(options.pairs)])
    summary = {
        "streams": CROWD.connections,
        "seconds": whole["seconds"],
        "errors": whole["errors"],
        "chunks_per_s": round(whole["rate_per_s"]),
        "chunk_p99_us": whole["chunk_p99_us"],
        "records_open_at_the_end": whole["records_open"],
        "p99_beside_slow_readers_ratio": round(ratio, 3),
        "p99_beside_slow_readers_interval": [round(low, 3), round(high, 3)],
        "documents": asked,
    }
    print(json.dumps(summary, indent=1))
    said = f"{ratio:.3f} [{low:.3f}-{high:.3f}] <= {MOST_RATIO}"
    print(f"targets\n  p99 beside slow readers  {said}  {verdict(low, high, MOST_RATIO)}")
    held = "met" if whole["errors"] == 0 == whole["records_open"] else "NOT MET"
    print(f"  {CROWD.connections} streams for {whole['seconds']:.0f} s, errors {whole['errors']}  {held}")
    if options.out:
        tools = {"wrk": "wrk", "h2load": "nghttp2-client"}
        packages = subprocess.run(
            ["dpkg-query", "-W", *tools.values()], capture_output=True, text=True, check=False
        )
        machine = {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
        document = {
            "machine": machine,
            "versions": versions(None) | dict(line.split("\t") for line in packages.stdout.splitlines()),
            "settings": {
                "seconds": options.seconds,
                "pairs": options.pairs,
                "window_s": WINDOW_S,
                "slow_readers": SLOW,
            },
        }
        document |= {"summary": summary, "crowd": whole, "beside_slow_readers": runs}
        options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
