"""Kernel check, run in the engine's interpreter: compares vLLM's own kernels with float32 references in torch.

Run as `python program.py`; prints one JSON object on the last line. A row without `error` is a kernel that did not run,
with the reason in `detail`. Never imported by the agent.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import Any

from attention_cases import attention_rows
from case_row import CRASHED, PENDING, Row, described
from linear_cases import FORMATS, linear_rows, quantized_rows

IMPORTED = (
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.distributed.parallel_state",
    "vllm.model_executor.layers.linear",
    "vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors",
)


def main() -> None:
    torch = import_module("torch")
    for name in IMPORTED:  # once, before the forks
        with suppress(ImportError):
            import_module(name)
    platform = "cuda" if torch.cuda.is_available() else "cpu"
    dtypes = ("bfloat16", "float32") if platform == "cpu" else ("bfloat16", "float16")
    groups = [("attention", dtype, partial(attention_rows, torch, platform, dtype)) for dtype in dtypes]
    groups += [("linear", dtype, partial(linear_rows, torch, platform, dtype)) for dtype in dtypes]
    groups += [("linear", "bfloat16", partial(quantized_rows, torch, platform, name)) for name in FORMATS]
    rows = [row for op, dtype, group in groups for row in in_child(torch, op, dtype, group)]
    sys.stdout.write("\n" + json.dumps({"rows": rows}) + "\n")


def in_child(torch: Any, op: str, dtype: str, group: Callable[[], Iterator[Row]]) -> list[dict[str, Any]]:
    """The rows of a group, from a forked child. A kernel that ends the process is wrong and ends its group only."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.dup2(2, 1)  # standard output is the parent's
        try:
            with os.fdopen(writer, "w", buffering=1) as out:
                write_rows(torch, Row(op, "unknown", dtype, "", 0.0), group, lambda row: print(row, file=out))
        finally:
            os._exit(0)
    os.close(writer)
    rows: list[dict[str, Any]] = []
    with os.fdopen(reader) as lines:
        for row in map(json.loads, lines):
            if rows and rows[-1]["detail"] == PENDING:
                rows.pop()
            rows.append(row)
    _, status = os.waitpid(pid, 0)
    if rows and rows[-1]["detail"] == PENDING:
        rows[-1] |= {"error": CRASHED, "detail": f"the process ended by signal {os.WTERMSIG(status)}"}
    return rows


def write_rows(
    torch: Any, title: Row, group: Callable[[], Iterator[Row]], write: Callable[[str], None]
) -> None:
    """Writes each row of a group as a line. An error of the whole group is a separate row."""
    torch.manual_seed(0)
    if hasattr(torch.cpu, "_init_amx"):
        torch.cpu._init_amx()  # Linux enables tile registers on request only
    try:
        for row in group():
            write(json.dumps(asdict(row)))
    except Exception as error:
        write(json.dumps({**asdict(title), "detail": described(error)}))


if __name__ == "__main__":
    main()
