"""How fast do verified weights arrive, in how much memory, and what does a cut cost, compared with other tools?

One gigabyte from a registry on the loopback, round robin, several rounds: ours (parallel ranges, sha256 of every
byte, fsync), ours without its fsync (as all the others are), `skopeo copy` (sha256), oras-py (checks nothing),
huggingface_hub (checks sizes; from an HF-shaped server). Each runs in a process of its own into a fresh directory;
time and CPU are the kernel's, memory is the peak of its resident set. Then ours is killed at random bytes and started
again. With `--folder /dev/shm` the disk is left out of it. Ends with 1 when a promise does not hold: as fast as the
fastest, at most 64 MiB over idle, at most one part a connection fetched twice.

    python benchmarks/fetch.py --oras-python VENV/bin/python [--rounds 5] [--out benchmarks/results/fetch.json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes.artifact import write_artifact
from fakes.hub import Hub
from fakes.oci_registry import Registry

from pareta_registry.publish.oci_publisher import publish
from pareta_registry.stores import StoreSettings

OURS = """
import json, os, signal, sys
from pathlib import Path
import uvloop
from pareta_agent.weights import disk, transfer
from pareta_agent.weights.store import WeightsStore
from pareta_agent.weights.settings import WeightsSettings
from pareta_registry.catalog import Variant
from pareta_registry.stores.oci import OciStore
source, digest, target, mode = sys.argv[1:5]
if mode == "unsynced":
    disk.sync = transfer.sync = lambda path: None
root = Path(target)
settings = WeightsSettings(root, root, reserve_bytes=0)
seen, read = 0, OciStore.read
async def counted(self, path, start, stop):
    global seen
    async for piece in read(self, path, start, stop):
        seen += len(piece)
        if mode.isdecimal() and seen >= int(mode):
            print(json.dumps({"read_bytes": seen}), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        yield piece
if mode not in ("plain", "unsynced"):
    OciStore.read = counted
def peak_kib():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])
idle = peak_kib()
variant = Variant(name="bf16", quant="none", artifact=digest, source=source, weights_bytes=1)
uvloop.run(WeightsStore(settings).fetch(variant, lambda _: None))
print(json.dumps({"over_idle_kib": peak_kib() - idle, "read_bytes": seen,
    "part_bytes": settings.part_bytes, "connections": settings.connections}))
"""
ORAS = """
import sys, oras.client
client = oras.client.OrasClient(insecure=True)
client.pull(target=sys.argv[1], outdir=sys.argv[2])
"""
HUB = """
import sys
from huggingface_hub import snapshot_download
snapshot_download("org/model", endpoint=sys.argv[1], local_dir=sys.argv[2], max_workers=8)
"""


async def measure(argv: list[str], *, dies: bool = False) -> dict[str, float]:
    """Wall and CPU seconds, peak memory and what one process printed."""
    env = os.environ | {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(argv, stdout=out, stderr=err, env=env)
        watching = asyncio.create_task(watch_peak(process.pid))
        _, status, usage = await asyncio.to_thread(os.wait4, process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        text, complaint = out.read(), err.read()
    assert process.returncode == (-9 if dies else 0), complaint.decode()
    extra = json.loads(text) if text.startswith(b"{") else {}
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_s": cpu, "peak_mib": await watching} | extra


async def watch_peak(pid: int) -> float:
    """MiB. The kernel's `ru_maxrss` would begin with what this benchmark itself holds."""
    peak_kib = 0
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            peak_kib = int(status.split("VmHWM:")[1].split()[0])
        except (OSError, IndexError):
            return peak_kib / 1024
        await asyncio.sleep(0.02)


def write_shards(root: Path, shards: int, shard_bytes: int) -> object:
    root.mkdir()
    for number in range(shards):
        with (root / f"model-{number + 1:05}.safetensors").open("wb") as out:
            for _ in range(shard_bytes >> 20):
                out.write(os.urandom(1 << 20))
    return write_artifact(root, {"config.json": b"{}"})


async def compare(root: Path, arguments: argparse.Namespace, shards: int) -> dict[str, Any]:
    variant = write_shards(root / "artifact", shards, arguments.bytes // shards)
    results: dict[str, list[dict[str, float]]] = {}
    with Registry(root / "registry") as registry:
        async with Hub(root / "artifact") as hub:
            name = f"{registry.host}/team/model:v1"
            await publish(root / "artifact", f"oci://{name}", StoreSettings())
            target = root / "target"

            def ours(mode: str) -> list[str]:
                return [sys.executable, "-c", OURS, f"oci://{name}", variant.artifact, str(target), mode]

            contenders = {
                "pareta": ours("plain"),
                "pareta without fsync": ours("unsynced"),
                "skopeo": [
                    "skopeo",
                    "copy",
                    "-q",
                    "--src-tls-verify=false",
                    f"docker://{name}",
                    f"dir:{target}",
                ],
                "huggingface_hub": [sys.executable, "-c", HUB, hub.endpoint, str(target)],
            }
            if arguments.oras_python:
                contenders["oras-py"] = [arguments.oras_python, "-c", ORAS, name, str(target)]
            for number in range(arguments.rounds + 1):
                for who, argv in contenders.items():
                    shutil.rmtree(target, ignore_errors=True)
                    target.mkdir()
                    found = await measure(argv)
                    sys.stderr.write(f"{shards} shards, round {number}, {who}: {found['seconds']:.2f} s\n")
                    if number:
                        results.setdefault(who, []).append(found)
            cuts = [await cut(ours, target, arguments.bytes) for _ in range(arguments.cuts)]
    shutil.rmtree(root / "target", ignore_errors=True)
    return {who: summary(rounds, arguments.bytes) for who, rounds in results.items()} | {"cuts": cuts}


async def cut(ours: Callable[[str], list[str]], target: Path, size: int) -> dict[str, float]:
    """Kills ours at a random byte, starts it again, and counts what was read twice."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    before = await measure(ours(str(random.randrange(1, size))), dies=True)
    after = await measure(ours("counted"))
    return {
        "cut_at_bytes": before["read_bytes"],
        "again_bytes": before["read_bytes"] + after["read_bytes"] - size,
        "promised_bytes": after["part_bytes"] * after["connections"],
    }


def broken(found: dict[str, Any]) -> list[str]:
    """The promises that one comparison does not keep. Times are compared as all peers write: without fsync."""
    peers = [who for who in found if not who.startswith("pareta") and who != "cuts"]
    fastest = min(peers, key=lambda who: found[who]["seconds_median"])
    fastest_s = found[fastest]["seconds_median"]
    ratios = {who: round(found[who]["seconds_median"] / fastest_s, 2) for who in found if "pareta" in who}
    found["to the fastest peer"] = {"peer": fastest, **ratios}
    again = max((one["again_bytes"] - one["promised_bytes"] for one in found["cuts"]), default=0)
    kept = {
        f"slower than {fastest}": ratios["pareta without fsync"] <= 1,
        "more than 64 MiB over idle": found["pareta"]["peak_over_idle_mib"] <= 64,
        "more than a part a connection fetched twice": again <= 0,
    }
    return [what for what, holds in kept.items() if not holds]


def summary(rounds: list[dict[str, float]], size: int) -> dict[str, float]:
    seconds = statistics.median(one["seconds"] for one in rounds)
    found = {
        "seconds_median": round(seconds, 2),
        "seconds_best": round(min(one["seconds"] for one in rounds), 2),
        "mb_per_s": round(size / seconds / 1e6),
        "cpu_s": round(statistics.median(one["cpu_s"] for one in rounds), 2),
        "peak_mib": round(max(one["peak_mib"] for one in rounds)),
    }
    if "over_idle_kib" in rounds[0]:
        found["peak_over_idle_mib"] = round(max(one["over_idle_kib"] for one in rounds) / 1024, 1)
    return found


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cuts", type=int, default=5)
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--oras-python", help="an interpreter that has oras")
    parser.add_argument("--folder", type=Path, default=None, help="where the bytes go; 4 GB are needed")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    answer: dict[str, Any] = {
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "kernel": platform.release(),
        },
        "bytes": arguments.bytes,
        "disk": "tmpfs" if str(arguments.folder).startswith("/dev/shm") else "disk",
        "rounds": arguments.rounds,
    }
    for shards in (4, 1):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            found = answer[f"{shards} shards"] = await compare(Path(folder), arguments, shards)
            answer.setdefault("broken promises", []).extend(broken(found))
    text = json.dumps(answer, indent=2)
    sys.stdout.write(text + "\n")
    if arguments.out:
        arguments.out.write_text(text + "\n")
    return 1 if answer["broken promises"] else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
