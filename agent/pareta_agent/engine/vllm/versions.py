"""vLLM versions: lists each version's flags, since an unknown flag ends vLLM with exit 2."""

from __future__ import annotations

Version = tuple[int, int, int]

SINCE: dict[str, Version] = {
    "--max-num-queued-reqs": (0, 29, 0),
    "--max-num-queued-tokens": (0, 29, 0),
    "--sse-keep-alive-interval": (0, 29, 0),
    "--logging-config": (0, 31, 0),
    "--trust-request-mm-kwargs": (0, 31, 0),
    "--watchdog-config": (0, 33, 0),
    "--sleep-mode-backend": (0, 33, 0),
}
UNTIL: dict[str, Version] = {
    "--max-num-partial-prefills": (0, 27, 0),
    "--calculate-kv-scales": (0, 28, 0),
}
# From here on CPU engines size the KV cache by --kv-cache-memory-bytes; before, by whole GiB in the environment.
CPU_KV_BYTES_SINCE: Version = (0, 32, 0)


def parse(version: str) -> Version:
    """`0.32.0`, `0.32.0+cpu` and `0.33.0rc1` as three numbers; what is missing or no number is 0."""
    numbers = [
        int("".join(filter(str.isdigit, part.split("rc")[0])) or 0)
        for part in version.split("+")[0].split(".")
    ]
    return (*numbers[:3], 0, 0, 0)[:3]  # type: ignore[return-value]


def knows(version: Version, flag: str) -> bool:
    """True where this vLLM takes the flag; all supported versions (0.25 to 0.33) take flags in neither table."""
    return SINCE.get(flag, (0, 0, 0)) <= version < UNTIL.get(flag, (999, 0, 0))
