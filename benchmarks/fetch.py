"""How fast do verified weights arrive, and in how much memory, compared with the tools that people use?

One gigabyte from a registry on the loopback, round robin, several rounds: ours (parallel ranges, sha256 of every
byte, fsync), `skopeo copy` (sha256), oras-py (checks nothing), huggingface_hub (checks sizes; from an HF-shaped
server). Each runs in a process of its own into a fresh directory; time, CPU and peak memory are the kernel's. With
`--folder /dev/shm` the disk is left out of it.

    python benchmarks/fetch.py --oras-python VENV/bin/python [--rounds 5] [--out benchmarks/results/fetch.json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes.artifact import write_artifact
from fakes.hub import Hub
from fakes.oci_registry import Registry

from pareta_registry.publish import publish
from pareta_registry.stores import StoreSettings

OURS = """
import asyncio, json, resource, sys
from pathlib import Path
import uvloop
from pareta_agent.weights.store import WeightsStore
from pareta_agent.weights.settings import WeightsSettings
from pareta_registry.catalog import Variant
from pareta_registry.stores import oci
source, digest, target = sys.argv[1:4]
root = Path(target)
idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
variant = Variant(name="bf16", quant="none", artifact=digest, source=source, weights_bytes=1)
uvloop.run(WeightsStore(WeightsSettings(root, root, reserve_bytes=0)).fetch(variant, lambda _: None))
print(json.dumps({"over_idle_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle}))
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


async def measure(argv: list[str]) -> dict[str, float]:
    """Wall and CPU seconds and peak memory of one process."""
    env = os.environ | {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(argv, stdout=out, stderr=err, env=env)
        _, status, usage = await asyncio.to_thread(os.wait4, process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        text, complaint = out.read(), err.read()
    assert process.returncode == 0, complaint.decode()
    extra = json.loads(text) if text.startswith(b"{") else {}
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_s": cpu, "peak_mib": usage.ru_maxrss / 1024} | extra


def write_shards(root: Path, shards: int, shard_bytes: int) -> object:
    root.mkdir()
    for number in range(shards):
        with (root / f"model-{number + 1:05}.safetensors").open("wb") as out:
            for _ in range(shard_bytes >> 20):
                out.write(os.urandom(1 << 20))
    return write_artifact(root, {"config.json": b"{}"})


async def compare(root: Path, arguments: argparse.Namespace, shards: int) -> dict[str, object]:
    variant = write_shards(root / "artifact", shards, arguments.bytes // shards)
    results: dict[str, list[dict[str, float]]] = {}
    with Registry(root / "registry") as registry:
        async with Hub(root / "artifact") as hub:
            name = f"{registry.host}/team/model:v1"
            await publish(root / "artifact", f"oci://{name}", StoreSettings())
            target = root / "target"
            contenders = {
                "pareta": [sys.executable, "-c", OURS, f"oci://{name}", variant.artifact, str(target)],
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
    shutil.rmtree(root / "target", ignore_errors=True)
    return {who: summary(rounds, arguments.bytes) for who, rounds in results.items()}


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


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--oras-python", help="an interpreter that has oras")
    parser.add_argument("--folder", type=Path, default=None, help="where the bytes go; 4 GB are needed")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    answer: dict[str, object] = {
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
            answer[f"{shards} shards"] = await compare(Path(folder), arguments, shards)
    text = json.dumps(answer, indent=2)
    sys.stdout.write(text + "\n")
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    asyncio.run(main())
