"""Measurements: stores the bytes that engines logged, and the starts that fail on this node. Values only.

The closed form reads corrections by key. The caller of `to_json` and `from_json` stores the file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import ConfigDict, TypeAdapter

from pareta_agent.planning.memory.footprint import Caps
from pareta_agent.planning.placement.layout import Layout
from pareta_agent.planning.support.numerics import Numerics


@dataclass(frozen=True, slots=True)
class Key:
    """The key of a measurement: weights, layout, GPU, dtypes, graphs, and the flags that change memory."""

    artifact: str
    variant: str
    gpu: str
    layout: Layout
    dtype: str
    kv_dtype: str
    eager: bool
    flags: tuple[str, ...]

    def text(self, engine_version: str) -> str:
        """The key as a text for the file."""
        flags = hashlib.sha256("\0".join(self.flags).encode()).hexdigest()[:12] if self.flags else "-"
        graphs = "eager" if self.eager else "graphs"
        words = (
            self.variant,
            self.gpu,
            str(self.layout),
            self.dtype,
            self.kv_dtype,
            graphs,
            flags,
            engine_version,
        )
        return "|".join((self.artifact, *words))


@dataclass(frozen=True, slots=True)
class Numbers:
    """The logged start of one rank under `caps`. None: not in the log.

    - `other_bytes`: activations, graphs and libraries, without weights and KV cache.
    - `kv_per_mille`: logged KV tokens per thousand that the closed form expects of the same bytes.
    """

    caps: Caps
    weights_bytes: int | None = None
    other_bytes: int | None = None
    kv_per_mille: int | None = None

    def other_within(self, caps: Caps) -> int | None:
        """`other_bytes` if the measurement bounds these caps, else None: a smaller step never uses more."""
        small = caps.tokens <= self.caps.tokens and caps.seqs <= self.caps.seqs
        return self.other_bytes if small else None


@dataclass(frozen=True, slots=True)
class Measured:
    """All measurements of a node for one engine version. A newer measurement of a key replaces the older."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    engine_version: str = ""
    starts: dict[str, Numbers] = field(default_factory=dict)
    ceilings: dict[str, Caps] = field(default_factory=dict)
    failures: frozenset[str] = frozenset()
    refusals: frozenset[str] = frozenset()
    numerics: Numerics = field(default_factory=Numerics)

    def numbers(self, key: Key) -> Numbers | None:
        return self.starts.get(key.text(self.engine_version)) if self.starts else None

    def failed(self, key: Key) -> bool:
        """True if a start of this key failed, and a start with another cache or without graphs worked."""
        return bool(self.failures) and key.text(self.engine_version) in self.failures

    def ceiling(self, key: Key) -> Caps | None:
        """The caps that worked after larger caps ran out of memory."""
        return self.ceilings.get(key.text(self.engine_version)) if self.ceilings else None

    def refused(self, artifact: str, capability: tuple[int, int]) -> bool:
        """True if these weights failed permanently on GPUs of this compute capability."""
        return self._refusal(artifact, capability) in self.refusals

    def learned(self, key: Key, numbers: Numbers) -> Measured:
        return replace(self, starts={**self.starts, key.text(self.engine_version): numbers})

    def capped(self, key: Key, caps: Caps) -> Measured:
        return replace(self, ceilings={**self.ceilings, key.text(self.engine_version): caps})

    def avoiding(self, *keys: Key) -> Measured:
        return replace(self, failures=self.failures | {key.text(self.engine_version) for key in keys})

    def blacklisted(self, artifact: str, capability: tuple[int, int]) -> Measured:
        return replace(self, refusals=self.refusals | {self._refusal(artifact, capability)})

    def checked(self, numerics: Numerics) -> Measured:
        """The measurements with this host's kernel check; the remedies stay."""
        return replace(self, numerics=replace(numerics, remedies=self.numerics.remedies))

    def _refusal(self, artifact: str, capability: tuple[int, int]) -> str:
        return f"{artifact}|{capability[0]}.{capability[1]}|{self.engine_version}"


NOTHING: Final = Measured()
_DOCUMENT: Final = TypeAdapter(Measured)


def to_json(measured: Measured) -> bytes:
    return _DOCUMENT.dump_json(measured, indent=2)


def from_json(document: bytes) -> Measured:
    """Parses the output of `to_json`. Raises pydantic's ValidationError for any other document."""
    return _DOCUMENT.validate_json(document)
