"""What does the front cost per streamed chunk and per request, next to proxies that people trust?

Starts a mock engine, then each proxy in turn, pinned to one core, with mock and load client on the other; CPU is the
proxy's own, from /proc, all its threads and children. Ratios are to nginx within the same round, since a shared
machine drifts. nginx and haproxy forward bytes only; ours checks keys, meters durably and bills. `raw` is a relay on
uvloop that looks at nothing: what Python itself costs here.

    python benchmarks/front.py [--rounds 3] [--seconds 4] [--routers VENV/bin] [--only ours,nginx] [--before CHECKOUT]

`--before` runs another checkout's gateway as `ours-before`, in turn with this one's.

The last lines are the front's targets, each with its figure and whether it is met.

Needs a C compiler, nginx and haproxy; the routers (`pip install vllm-router sglang-router`) are left out if absent.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KEY, MODEL = "pareta_sk_" + "b" * 32, "ep_bench"
PROXY_CORE, OTHER_CORE = "0", "1"


@dataclass(frozen=True)
class Scenario:
    """`interval_us` between the tokens of a stream (0: as fast as possible); `tokens` 0 asks for documents."""

    name: str
    connections: int
    tokens: int
    interval_us: int
    unit: str = "chunk"
    targets: tuple[str, ...] = ()  # all where it is empty


PACED = Scenario("256 streams x 50/s", 256, 256, 20_000)
DENSE = Scenario("128 streams x 200/s", 128, 512, 5_000, targets=("nginx", "ours", "vllm-router"))
MANY = Scenario("2000 streams x 4/s", 2000, 64, 250_000, targets=("nginx", "ours"))
UNPACED = Scenario(
    "unpaced, 64 streams",
    64,
    1024,
    0,
    targets=("nginx", "ours-before", "ours", "ours-1-worker", "ours-2-workers", "vllm-router"),
)
JSON = Scenario("JSON, 32-way", 32, 0, 0, "request")
SCENARIOS = (PACED, DENSE, MANY, UNPACED, JSON)


@dataclass(frozen=True)
class Aim:
    """What the front is to reach: a figure of ours, as it is, or by or above that of `peer` in the same round."""

    what: str
    scenario: Scenario
    figure: str
    how: str
    peer: str | None
    limit: float
    at_least: bool = False


AIMS = (
    Aim("CPU a paced chunk / nginx", PACED, "cpu_us", "by", "nginx", 1.1),
    Aim("CPU a paced chunk / vllm-router", PACED, "cpu_us", "by", "vllm-router", 1.0),
    Aim("CPU a JSON request / vllm-router", JSON, "cpu_us", "by", "vllm-router", 0.6),
    Aim("added to a chunk, p50, us", PACED, "chunk_p50_us", "above", "direct", 200),
    Aim("added to a chunk, p99, us", PACED, "chunk_p99_us", "above", "direct", 1500),
    Aim("unpaced chunks/s on one core", UNPACED, "rate_per_s", "is", None, 100_000, at_least=True),
    Aim("KiB an idle stream", MANY, "rss_kib_per_connection", "is", None, 64),
)


class Target:
    """A way to the engine. `argv` may write files into `place`; the port answers when it is up."""

    def __init__(self, name: str, place: Path, routers: Path | None, before: Path | None = None) -> None:
        self.name, self.place, self.routers, self.before = name, place, routers, before
        self.port = free_port()

    def argv(self, uds: Path, tcp_port: int) -> list[str]:
        return getattr(self, f"_{self.name.replace('-', '_')}")(uds, tcp_port)

    def _ours(self, uds: Path, _: int) -> list[str]:
        spool = Path(tempfile.mkdtemp(dir=self.place))
        arguments = [str(uds), str(self.port), MODEL, KEY, str(spool)]
        return [sys.executable, str(HERE / "loadgen" / "ours.py"), *arguments]

    def _ours_before(self, uds: Path, tcp_port: int) -> list[str]:
        assert self.before is not None
        program = self.before / "benchmarks" / "loadgen" / "ours.py"
        path = f"PYTHONPATH={self.before / 'agent'}:{self.before / 'registry'}"
        return ["env", path, sys.executable, str(program), *self._ours(uds, tcp_port)[2:]]

    def _ours_1_worker(self, uds: Path, tcp_port: int) -> list[str]:
        return [*self._ours(uds, tcp_port), "1"]

    def _ours_2_workers(self, uds: Path, tcp_port: int) -> list[str]:
        return [*self._ours(uds, tcp_port), "2"]

    def _raw(self, uds: Path, _: int) -> list[str]:
        return [sys.executable, str(HERE / "loadgen" / "raw.py"), str(uds), str(self.port)]

    def _nginx(self, uds: Path, _: int) -> list[str]:
        config = self.place / "nginx.conf"
        config.write_text(
            f"{'user root; ' if os.geteuid() == 0 else ''}worker_processes 1; daemon off;\n"
            f"pid {self.place}/nginx.pid; error_log /dev/null;\n"
            "events { worker_connections 16384; }\n"
            "http { access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k;\n"
            f"upstream e {{ server unix:{uds}; keepalive 1024; keepalive_requests 1000000000; }}\n"
            f"server {{ listen 127.0.0.1:{self.port} backlog=4096; location / {{ proxy_pass http://e;\n"
            'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } } }\n'
        )
        return ["nginx", "-c", str(config)]

    def _haproxy(self, uds: Path, _: int) -> list[str]:
        config = self.place / "haproxy.cfg"
        config.write_text(
            "global\n nbthread 1\n maxconn 4096\n"
            "defaults\n mode http\n timeout connect 5s\n timeout client 300s\n timeout server 300s\n"
            f"frontend f\n bind 127.0.0.1:{self.port}\n default_backend b\n"
            f"backend b\n http-reuse always\n server e unix@{uds} maxconn 4096\n"
        )
        return ["haproxy", "-f", str(config)]

    def _vllm_router(self, _: Path, tcp_port: int) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--prometheus-port", str(free_port())]
        return [
            str(self.routers / "vllm-router"),
            "--worker-urls",
            f"http://127.0.0.1:{tcp_port}",
            *where,
            "--policy",
            "round_robin",
        ]  # type: ignore[operator]

    def _sglang_router(self, uds: Path, tcp_port: int) -> list[str]:
        return [str(self.routers / "sglang-router"), "launch", *self._vllm_router(uds, tcp_port)[1:]]  # type: ignore[operator]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def build(place: Path) -> None:
    for name in ("mock", "load"):
        source = HERE / "loadgen" / f"{name}.c"
        subprocess.run(["cc", "-O2", "-o", str(place / name), str(source)], check=True)


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        children = Path(f"/proc/{parent}/task/{parent}/children")
        if children.exists():
            found += [int(child) for child in children.read_text().split()]
    return found


def cpu_s(pid: int) -> float:
    ticks = 0
    for process in tree(pid):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    pages = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def start(argv: list[str], core: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            ["taskset", "-c", core, *argv], stdout=out, stderr=out, start_new_session=True
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    for sig, wait_s in ((signal.SIGTERM, 4.0), (signal.SIGKILL, 4.0)):
        if process.poll() is None:
            os.killpg(process.pid, sig)
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                continue


def wait_for_answer(target: Target, process: subprocess.Popen[bytes], timeout_s: float = 90.0) -> None:
    """One real call must come back through this very process."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(
                f"{target.name} ended with {process.returncode}: see {target.place}/{target.name}.log"
            )
        try:
            with socket.create_connection(("127.0.0.1", target.port), 2) as sock:
                sock.sendall(head.encode() + body)
                if b" 200 " in sock.recv(64):
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{target.name} never answered")


def measure(target: Target, scenario: Scenario, seconds: float, place: Path) -> dict[str, Any]:
    """One target under one scenario: the load client's figures and the proxy's CPU in the same window."""
    uds, tcp_port = place / "mock.sock", free_port()
    log = place / f"{target.name}.log"
    mock = start([str(place / "mock"), str(uds), str(tcp_port), str(scenario.interval_us)], OTHER_CORE, log)
    proxy = None
    where = ["-", str(target.port)]
    try:
        if target.name == "direct":
            where, watched = [str(uds), "0"], None
            time.sleep(0.3)
        else:
            proxy = start(target.argv(uds, tcp_port), PROXY_CORE, log)
            wait_for_answer(target, proxy)
            watched = proxy.pid
        load = ["taskset", "-c", OTHER_CORE, str(place / "load"), *where]
        load += [str(scenario.connections), str(seconds), str(scenario.tokens), KEY, MODEL]
        return under_load(load, watched, scenario)
    finally:
        if proxy is not None:
            stop(proxy)
        stop(mock)


def under_load(argv: list[str], pid: int | None, scenario: Scenario) -> dict[str, Any]:
    used, resting_mib = {}, rss_mib(pid) if pid is not None else 0.0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        assert load.stderr is not None
        assert load.stdout is not None
        for line in load.stderr:
            if line.strip() in ("begin", "end") and pid is not None:
                used[line.strip()] = cpu_s(pid)
                loaded_mib = rss_mib(pid)
            elif line.startswith("load:"):
                print(line.strip(), file=sys.stderr)
        seen: dict[str, Any] = json.loads(load.stdout.read())
    units = seen["answers"] if scenario.unit == "request" else seen["events"]
    seen["rate_per_s"] = units / seen["seconds"]
    if pid is not None:
        cpu = used["end"] - used["begin"]
        if cpu <= 0 or units == 0:
            raise SystemExit(f"no CPU or no answers: {argv} measured something else ({seen})")
        seen["cpu_us"] = cpu / units * 1e6
        seen["cpu_share_ratio"] = cpu / seen["seconds"]
        seen["rss_mib"] = loaded_mib
        seen["rss_kib_per_connection"] = (loaded_mib - resting_mib) * 1024 / int(argv[6])
    return seen


def summarize(runs: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Medians per scenario and target, and the median of the ratios to nginx within a round."""
    table: dict[str, Any] = {}
    for scenario in SCENARIOS:
        rows = table[scenario.name] = {}
        for name in names:
            mine = [r for r in runs if r["scenario"] == scenario.name and r["target"] == name]
            row = {
                key: round(statistics.median(r[key] for r in mine), 2)
                for key in (
                    "cpu_us",
                    "rate_per_s",
                    "chunk_p50_us",
                    "chunk_p99_us",
                    "first_p50_us",
                    "whole_p50_us",
                    "rss_mib",
                    "rss_kib_per_connection",
                )
                if mine and all(key in r for r in mine)
            }
            if not mine:
                continue
            row["errors"] = sum(r["errors"] for r in mine)
            by_round = {
                r["round"]: r for r in runs if r["scenario"] == scenario.name and r["target"] == "nginx"
            }
            pairs = [
                r["cpu_us"] / by_round[r["round"]]["cpu_us"]
                for r in mine
                if "cpu_us" in r and r["round"] in by_round
            ]
            if pairs:
                row["cpu_to_nginx"] = round(statistics.median(pairs), 2)
                row["cpu_to_nginx_range"] = [round(min(pairs), 2), round(max(pairs), 2)]
            rows[name] = row
    return table


def show(table: dict[str, Any]) -> None:
    for scenario, rows in table.items():
        print(f"\n{scenario}")
        titles = ("CPU us", "x nginx", "range", "p50 us", "p99 us", "rate/s", "MiB", "errors")
        print(" " * 16 + "".join(f"{title:>12}" for title in titles))
        for name, row in rows.items():
            p50 = row.get("chunk_p50_us") or row.get("whole_p50_us", 0)
            cells = [f"{row.get('cpu_us', 0):.1f}", f"{row.get('cpu_to_nginx', 0):.2f}"]
            cells.append("-".join(map(str, row.get("cpu_to_nginx_range", []))))
            cells += [f"{value:.0f}" for value in (p50, row.get("chunk_p99_us", 0), row["rate_per_s"])]
            cells += [f"{row.get('rss_mib', 0):.0f}", str(row["errors"])]
            print(f"  {name:14}" + "".join(f"{cell:>12}" for cell in cells))


def reached(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each aim with the median over the rounds, their range, and whether the median is within the limit."""
    rows = []
    for aim in AIMS:
        of = {
            (r["round"], r["target"]): r[aim.figure]
            for r in runs
            if r["scenario"] == aim.scenario.name and aim.figure in r
        }
        turns = [turn for turn, name in of if name == "ours" and (aim.peer is None or (turn, aim.peer) in of)]
        values = sorted(_figure(aim, of[turn, "ours"], of.get((turn, aim.peer or ""), 0.0)) for turn in turns)
        if values:
            middle = statistics.median(values)
            met = middle >= aim.limit if aim.at_least else middle <= aim.limit
            row = {
                "aim": aim.what,
                "value": round(middle, 2),
                "range": [round(v, 2) for v in (values[0], values[-1])],
            }
            rows.append({**row, "limit": aim.limit, "at_least": aim.at_least, "met": met})
    return rows


def _figure(aim: Aim, ours: float, peer: float) -> float:
    return {"by": lambda: ours / peer, "above": lambda: ours - peer, "is": lambda: ours}[aim.how]()


def show_aims(rows: list[dict[str, Any]]) -> None:
    print("\ntargets")
    for row in rows:
        sign, low, high = ">=" if row["at_least"] else "<=", *row["range"]
        said = f"{row['value']:>12g} [{low:g}-{high:g}] {sign} {row['limit']:g}"
        print(f"  {row['aim']:36}{said:44}{'met' if row['met'] else 'NOT MET'}")


def plot(table: dict[str, Any], path: Path) -> None:
    """CPU by target as bars, one group a scenario, in plain SVG."""
    rows = [(s, n, r["cpu_us"]) for s, group in table.items() for n, r in group.items() if "cpu_us" in r]
    shapes, y = [], 10
    for scenario, group in table.items():
        top = max((r.get("cpu_us", 0) for r in group.values()), default=1) or 1
        shapes.append(f'<text x="10" y="{y + 14}" font-weight="bold">{scenario}: proxy CPU, us</text>')
        y += 22
        for name, value in [(n, v) for s, n, v in rows if s == scenario]:
            fill = "#2463eb" if name == "ours" else "#9aa5b1"
            width = 420 * value / top
            shapes.append(f'<text x="10" y="{y + 13}">{name}</text>')
            shapes.append(f'<rect x="120" y="{y + 2}" width="{width:.0f}" height="14" fill="{fill}"/>')
            shapes.append(f'<text x="{width + 126:.0f}" y="{y + 13}">{value:.1f}</text>')
            y += 19
        y += 12
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{y}" font-family="sans-serif" font-size="12">'
    path.write_text(frame + '<rect width="100%" height="100%" fill="white"/>' + "".join(shapes) + "</svg>\n")


def targets_of(options: argparse.Namespace) -> list[str]:
    known = ["direct", "nginx", "haproxy", "raw", "ours-before", "ours", "ours-1-worker", "ours-2-workers"]
    known += ["vllm-router", "sglang-router"]
    if options.only:
        known = [name for name in known if name in options.only.split(",")]
    have = {"nginx": shutil.which("nginx"), "haproxy": shutil.which("haproxy")}
    for name in ("vllm-router", "sglang-router"):
        have[name] = options.routers and (options.routers / name).exists()
    have["ours-before"] = options.before
    missing = [name for name in known if name in have and not have[name]]
    if missing:
        print(f"left out, not installed: {', '.join(missing)}", file=sys.stderr)
    return [name for name in known if name not in missing]


def versions(routers: Path | None) -> dict[str, str]:
    """What was measured, as each says it."""
    found = {"uvloop": version("uvloop"), "pareta-agent": version("pareta-agent")}
    for name, flag in (("nginx", "-v"), ("haproxy", "-v")):
        if shutil.which(name):
            said = subprocess.run([name, flag], capture_output=True, text=True, check=False)
            found[name] = (said.stdout + said.stderr).splitlines()[0]
    if routers is not None:
        ask = "from importlib.metadata import version as v; print(v('vllm-router'), v('sglang-router'))"
        said = subprocess.run(
            [str(routers / "python"), "-c", ask], capture_output=True, text=True, check=False
        )
        found |= dict(zip(("vllm-router", "sglang-router"), said.stdout.split(), strict=False))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--routers", type=Path)
    parser.add_argument("--before", type=lambda text: Path(text).resolve(), help="a checkout")
    parser.add_argument("--only", default="")
    parser.add_argument("--scenarios", default="", help="parts of the names to run")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chosen = [
        s
        for s in SCENARIOS
        if not options.scenarios or any(p in s.name for p in options.scenarios.split(","))
    ]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        build(place)
        names = targets_of(options)
        for turn in range(options.rounds):
            for scenario in chosen:
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    if scenario.targets and name not in scenario.targets:
                        continue
                    result = measure(
                        Target(name, place, options.routers, options.before), scenario, options.seconds, place
                    )
                    runs.append({"round": turn, "scenario": scenario.name, "target": name, **result})
                    print(
                        f"round {turn} {scenario.name} {name} cpu_us={result.get('cpu_us', 0):.1f}",
                        file=sys.stderr,
                    )
    table = {name: rows for name, rows in summarize(runs, names).items() if name in {s.name for s in chosen}}
    show(table)
    aims = reached(runs)
    show_aims(aims)
    if options.out:
        machine = {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
        settings = {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "scenarios": [asdict(s) for s in chosen],
        }
        document = {"machine": machine, "versions": versions(options.routers), "settings": settings}
        options.out.write_text(
            json.dumps({**document, "aims": aims, "summary": table, "runs": runs}, indent=1) + "\n"
        )
        plot(table, options.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
