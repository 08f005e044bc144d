"""Engine metrics: exports selected series of the engines under the endpoint's name.

The list is an allowlist: other series stay in the engine, as do labels that could contain a model or a path. An engine
that does not answer costs the scrape only the engine's own series.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from pareta_agent.contract.fleet_view import FleetView, ReplicaView
from pareta_agent.gateway.upstream.pool import ConnectionPools, EngineConnection
from pareta_agent.telemetry.metrics import Metrics

DEADLINE_S: Final = 2.0
MAX_TEXT_BYTES: Final = 4 * 2**20
REQUEST: Final = b"GET /metrics HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n\r\n"

EXPORTED: Final[dict[str, tuple[str, str, str]]] = {
    "vllm:num_requests_running": ("requests_running", "gauge", "Requests in the engine's batch."),
    "vllm:num_requests_waiting": ("requests_waiting", "gauge", "Requests that wait in the engine."),
    "vllm:kv_cache_usage_perc": ("kv_cache_usage_ratio", "gauge", "Share of the KV cache in use."),
    "vllm:prefix_cache_queries_total": ("prefix_cache_queries_total", "counter", "Tokens looked up."),
    "vllm:prefix_cache_hits_total": (
        "prefix_cache_hits_total",
        "counter",
        "Tokens found in the prefix cache.",
    ),
    "vllm:num_preemptions_total": ("preemptions_total", "counter", "Requests that were preempted."),
    "vllm:prompt_tokens_total": ("prompt_tokens_total", "counter", "Prompt tokens processed."),
    "vllm:generation_tokens_total": ("generation_tokens_total", "counter", "Tokens generated."),
    "vllm:request_success_total": ("requests_finished_total", "counter", "Requests finished, by reason."),
    "vllm:time_to_first_token_seconds": ("time_to_first_token_seconds", "histogram", "At the engine."),
    "vllm:inter_token_latency_seconds": ("inter_token_seconds", "histogram", "At the engine."),
    "vllm:request_queue_time_seconds": ("queue_seconds", "histogram", "Time waiting in the engine."),
    "vllm:e2e_request_latency_seconds": ("request_seconds", "histogram", "At the engine, whole."),
}
KEPT_LABELS: Final = frozenset({"le", "finished_reason"})
_SAMPLE: Final = re.compile(r"([a-zA-Z_:][\w:]*?)(_bucket|_sum|_count)?(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="([\w.+-]*)"')
_VALUE: Final = re.compile(r"[-+]?(?:\d[\d.]*(?:[eE][-+]?\d+)?|Inf|NaN)$")


def relabel(text: str, endpoint: str, replica: str) -> dict[str, list[str]]:
    """Samples by exported family. Lines that are not allowed, or not a sample, are dropped."""
    families: dict[str, list[str]] = defaultdict(list)
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample is None or not _VALUE.match(sample.group(4)):
            continue
        name, suffix = sample.group(1), sample.group(2) or ""
        exported = EXPORTED.get(name)
        if exported is None or bool(suffix) != (exported[1] == "histogram"):
            continue
        labels = [f'endpoint="{endpoint}"', f'replica="{replica}"']
        labels += [f'{k}="{v}"' for k, v in _LABEL.findall(sample.group(3) or "") if k in KEPT_LABELS]
        families[name].append(f"pareta_engine_{exported[0]}{suffix}{{{','.join(labels)}}} {sample.group(4)}")
    return families


def exposition(parts: Iterable[dict[str, list[str]]]) -> bytes:
    """Families of several engines as a single text, each with a help and a type line."""
    merged: dict[str, list[str]] = defaultdict(list)
    for part in parts:
        for name, samples in part.items():
            merged[name] += samples
    lines = []
    for name, samples in merged.items():
        exported, kind, meaning = EXPORTED[name]
        lines += [f"# HELP pareta_engine_{exported} {meaning}", f"# TYPE pareta_engine_{exported} {kind}"]
        lines += samples
    return "".join(f"{line}\n" for line in lines).encode()


async def scrape(pools: ConnectionPools, fleet: FleetView, metrics: Metrics) -> bytes:
    """Scrapes all replicas concurrently, each within `DEADLINE_S`; a shared engine once, under the engine's name."""
    replicas = {(e.runs_on, replica) for e in fleet.endpoints.values() for replica in e.replicas}
    parts = await asyncio.gather(*(_one(pools, metrics, e, r) for e, r in sorted(replicas, key=_name)))
    return exposition(parts)


def _name(found: tuple[str, ReplicaView]) -> str:
    return found[1].name


async def _one(
    pools: ConnectionPools, metrics: Metrics, endpoint: str, replica: ReplicaView
) -> dict[str, list[str]]:
    try:
        async with asyncio.timeout(DEADLINE_S):
            connection = await pools.of(replica.socket).connect(DEADLINE_S)
            text = await _Text(connection).read()
    except (OSError, TimeoutError, ValueError):
        metrics.inc("pareta_scrape_errors_total", endpoint)
        return {}
    return relabel(text, endpoint, replica.name.rpartition("/")[2])


class _Text:
    """Reads an answer up to the end of the connection."""

    def __init__(self, connection: EngineConnection) -> None:
        self._connection = connection
        self._bytes = bytearray()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read(self) -> str:
        self._connection.send([REQUEST], self)
        try:
            await self._done
        finally:
            self._connection.abort()
        head, _, body = bytes(self._bytes).partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise ValueError("no metrics")
        return body.decode("utf-8", "replace")

    def feed(self, data: bytes) -> None:
        self._bytes += data
        if len(self._bytes) > MAX_TEXT_BYTES:
            self._connection.transport.abort()

    def lost(self) -> None:
        if not self._done.done():
            self._done.set_result(None)
