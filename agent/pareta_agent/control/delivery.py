"""Delivery: classifies the plane's answer to a batch of usage records. Pure.

A 2xx acknowledges a batch only if the body names this epoch and a sequence within the sent range. The spool checks
the hash.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from pareta_agent.contract import wire


@dataclass(frozen=True, slots=True)
class Acked:
    sequence: int
    hash: bytes
    duplicates: int = 0
    rejected: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rewind:
    expected: int


@dataclass(frozen=True, slots=True)
class Split:
    """The batch was too large."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Send again later: after `seconds` if the plane named a delay. `paused`: only after a change, such as a new
    token.
    """

    reason: str
    seconds: float | None = None
    paused: bool = False


Verdict = Acked | Rewind | Split | Wait

_LONGEST_RETRY_AFTER_S = 300.0


def judge(status: int, body: bytes, retry_after_s: float | None, epoch: int, last_sent: int) -> Verdict:
    """The action after a send of entries of `epoch` up to `last_sent`."""
    if status == 200:
        return _ack(body, epoch, last_sent)
    if status == 409:
        return _gap(body)
    if status == 413:
        return Split()
    if status in (401, 403):
        return Wait(f"refused with {status}", paused=True)
    if status in (429, 503) and retry_after_s is not None:
        return Wait(f"requires a delay ({status})", min(retry_after_s, _LONGEST_RETRY_AFTER_S))
    return Wait(f"answered {status}")


def _ack(body: bytes, epoch: int, last_sent: int) -> Verdict:
    try:
        ack = wire.Ack.model_validate_json(body)
        digest = bytes.fromhex(ack.hash)
    except (ValidationError, ValueError):
        return Wait("a 200 without an ack")
    if ack.epoch != epoch or not ack.acked_seq > 0:
        return Wait("an ack for something else")
    rejected = tuple((each.sequence, each.reason) for each in ack.rejected if each.sequence <= last_sent)
    return Acked(ack.acked_seq, digest, ack.duplicates, rejected)


def _gap(body: bytes) -> Verdict:
    try:
        return Rewind(wire.Gap.model_validate_json(body).expected_seq)
    except ValidationError:
        return Wait("a 409 without a sequence")
