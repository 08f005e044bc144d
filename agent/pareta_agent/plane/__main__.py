"""Plane process: `python -m pareta_agent.plane`. Prints the address as one line of JSON on stdout."""

from __future__ import annotations

from pareta_registry import early_signals

if __name__ == "__main__":
    early_signals.hold()

import gc  # an interrupt during the imports must not be lost

if __name__ == "__main__":
    gc.disable()  # until the server runs: a start makes little garbage and many objects to walk

import argparse
import os
import sys
from pathlib import Path

from pareta_agent.errors import AgentError, HostError
from pareta_agent.plane.seed import DATABASE_ENV, Seed
from pareta_agent.plane.standalone import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pareta_agent.plane")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--seed", type=Seed.model_validate_json, default=None)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, default=None, help="log file of the plane after the ready line")
    options = parser.parse_args()
    database = os.environ.get(DATABASE_ENV)  # `config` would build a model for every setting
    try:
        sys.exit(serve(options.home, options.seed, database, options.host, options.port, options.log))
    except (AgentError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code if isinstance(error, AgentError) else HostError.exit_code)


if __name__ == "__main__":
    main()
