"""What the selectors of a vLLM that is not installed answer: its wheel's sources, asked in another one's interpreter.

The interpreter lends torch and the rest; the compiled parts are faked as `engine_probe.py` does on any CPU build. The
answers go to tests/data/vllm_support.json, against which a test holds the shipped snapshot.

    python benchmarks/gpu/support.py ENGINE_PYTHON WHEEL … [--out tests/data/vllm_support.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import tempfile
import zipfile
from pathlib import Path

from pareta_agent.planning.support import engine_probe
from pareta_agent.planning.support.support_snapshot import CAPABILITIES

ROOT = Path(__file__).resolve().parents[2]
SOURCES = re.compile(r"vllm/.*\.(py|json)$|vllm-.*\.dist-info/METADATA$")


def asked(python: Path, wheel: Path) -> tuple[str, dict[str, object]]:
    """The version, and the digest of its wheel with the kernels by weight format and compute capability."""
    with tempfile.TemporaryDirectory(prefix="pv") as folder:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder, [name for name in packed.namelist() if SOURCES.match(name)])
        done = subprocess.run(
            [str(python), "-W", "ignore", str(Path(engine_probe.__file__).resolve()), *CAPABILITIES],
            env={**os.environ, "PYTHONPATH": folder},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return str(answer["version"]), {"sha256": digest, "kernels": answer["kernels"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("python", type=Path, help="an interpreter that has some vLLM")
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "data" / "vllm_support.json")
    given = parser.parse_args()
    table = json.loads(given.out.read_text()) if given.out.exists() else {}
    for wheel in given.wheels:
        version, answer = asked(given.python, wheel)
        table[version] = answer
        print(f"{version}: asked for {len(CAPABILITIES)} capabilities")
    given.out.write_text(json.dumps(dict(sorted(table.items())), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
