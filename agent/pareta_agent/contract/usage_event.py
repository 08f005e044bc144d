"""Spool entry: an event as bytes, in CloudEvents 1.0, canonical, chained by hash.

The canonical bytes are the event's JSON without `prevhash` and `hash`: keys sorted at every depth, no spaces, UTF-8.
A hash is sha256 over the previous hash (32 bytes; zeros before the first) and the canonical bytes. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from pareta_agent.contract.usage_record import Admission, Outcome, UsageRecord
from pareta_agent.value import value

FINISHED = "ai.pareta.inference.finished.v1"
COLDSTART = "ai.pareta.node.coldstart.v1"
EPOCH_OPENED = "ai.pareta.node.epoch.opened.v1"
EPOCH_CLOSED = "ai.pareta.node.epoch.closed.v1"
QUARANTINED = "ai.pareta.node.spool.quarantined.v1"

NO_HASH = bytes(32)
MOST_REASONS = 128  # per event: the ids of a call's many answers might exceed the wire's limit


@value
class Item:
    """An event before a sequence is assigned: `data` is canonical JSON."""

    type: str
    time: str
    data: bytes


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """An event with epoch and sequence. `body` is canonical; `hash` was chained to `prev_hash`."""

    epoch: int
    sequence: int
    prev_hash: bytes
    hash: bytes
    body: bytes

    @property
    def intact(self) -> bool:
        return chain(self.prev_hash, self.body) == self.hash

    def wire(self) -> bytes:
        """Returns the event for the wire: the canonical bytes with `prevhash` and `hash` appended."""
        return b'%s,"prevhash":"%s","hash":"%s"}' % (
            self.body[:-1],
            self.prev_hash.hex().encode(),
            self.hash.hex().encode(),
        )


def item(event_type: str, data: Mapping[str, Any], wall_s: float) -> Item:
    return Item(event_type, timestamp(wall_s), orjson.dumps(data, option=orjson.OPT_SORT_KEYS))


def canonical(entry: Item, source: str, epoch: int, sequence: int) -> bytes:
    """Returns the bytes to hash: equal to orjson's output for the whole event with sorted keys, built by
    concatenation.
    """
    return (
        b'{"data":%s,"datacontenttype":"application/json","epoch":%d,"id":"%d-%d","sequence":%d,'
        b'"source":"%s","specversion":"1.0","time":"%s","type":"%s"}'
    ) % (
        entry.data,
        epoch,
        epoch,
        sequence,
        sequence,
        source.encode(),
        entry.time.encode(),
        entry.type.encode(),
    )


def chain(prev_hash: bytes, body: bytes) -> bytes:
    return hashlib.sha256(prev_hash + body).digest()


def parse_wire(event: dict[str, Any]) -> SpoolEntry:
    """Returns an event from the wire as an entry; raises KeyError, TypeError or ValueError for any other object."""
    bare = {key: value for key, value in event.items() if key not in ("prevhash", "hash")}
    return SpoolEntry(
        int(event["epoch"]),
        int(event["sequence"]),
        bytes.fromhex(event["prevhash"]),
        bytes.fromhex(event["hash"]),
        orjson.dumps(bare, option=orjson.OPT_SORT_KEYS),
    )


def timestamp(wall_s: float) -> str:
    seconds, milliseconds = divmod(int(wall_s * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def finished(record: UsageRecord) -> Item:
    """Returns a usage record as an event. Offsets are seconds after `t_admit`, to the microsecond.

    The keys are written in sorted order, which saves a sort for every request.
    """
    admission, tokens = record.admission, record.tokens
    first, end_s = record.t_first_token_s, round(record.t_end_s, 6)
    data = {
        "alias": admission.alias,
        "choices": record.choices,
        **({"client_request_id": record.client_request_id} if record.client_request_id else {}),
        "endpoint": admission.endpoint,
        "engine": {
            "generation": record.generation,
            "replica": record.replica,
            "vllm": record.engine_version,
        },
        "finish_reasons": record.finish_reasons[:MOST_REASONS],
        "key_id": admission.key_id,
        "org": admission.org,
        "outcome": record.outcome,
        "request_id": admission.request_id,
        "retry_count": record.retry_count,
        "route": admission.route,
        "schema": 1,
        "streamed": admission.streamed,
        "t_admit": round(admission.t_admit_wall_s, 6),
        "t_end": end_s,
        "t_first_token": None if first is None else round(first, 6),
        "task": admission.task,
        "tokens": {
            "input": tokens.input,
            "input_cached": tokens.input_cached,
            "input_multimodal": {},
            "output": tokens.output,
            "output_reasoning": tokens.output_reasoning,
        },
        "units": {"audio_seconds": record.audio_seconds, "requests": 1},
        "usage_source": record.usage_source,
    }
    return Item(FINISHED, timestamp(admission.t_admit_wall_s + end_s), orjson.dumps(data))


def crashed(admission: Admission) -> Item:
    """Returns the record of a request that the agent's own end closed (`agent_crash`)."""
    return finished(UsageRecord(admission, Outcome.AGENT_CRASH, "none"))
