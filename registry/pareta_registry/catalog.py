"""Catalog: defines the documents of tasks, models and artifacts.

Every document is validated and frozen here; `check` compares documents with each other. Weights ids stand in catalog
documents and nowhere else.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from pareta_registry.artifacts.manifest import ArtifactFile

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
_NOT_SLUG = re.compile("[^a-z0-9.-]+")
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


def slug(text: str, otherwise: str) -> str:
    """An id made from `text`; `otherwise` if no character remains."""
    return _NOT_SLUG.sub("-", text.lower())[:63].strip("-.") or otherwise


class Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Architecture(Document):
    """Facts from config.json that determine a model's memory and layouts.

    Mixtures of experts set `moe_intermediate`, `num_experts` and `experts_per_tok`. MLA sets `kv_lora_rank` and
    `qk_rope_head_dim`. Hybrids set `sliding_window` with `sliding_layers`, or `linear_layers` (no KV, constant state,
    `linear_state_bytes` a layer and request). `full_layers` counts layers with a KV cache that grows with the context
    (None: all `layers`). `vision_heads` is set for a model with a vision tower. `model_type` is config.json's, where
    the engine requires the value.
    """

    architecture: str
    model_type: str | None = None
    params_b: float = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    hidden: int = Field(gt=0)
    intermediate: int = Field(gt=0)
    vocab: int = Field(gt=0)
    max_position_embeddings: int = Field(gt=0)
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    num_experts: int | None = None
    experts_per_tok: int | None = None
    moe_intermediate: int | None = None
    kv_lora_rank: int | None = None
    qk_rope_head_dim: int | None = None
    full_layers: int | None = None
    sliding_window: int | None = None
    sliding_layers: int = 0
    linear_layers: int = 0
    linear_state_bytes: int | None = None
    attention_sinks: bool = False
    tied_embeddings: bool = False
    vision_heads: int | None = None


class Variant(Document):
    """A checkpoint of a model. `artifact` is the digest of the manifest, `source` the place of the files.

    `files` is the manifest itself, for a store without a manifest file (a hub mirror).
    """

    name: Slug
    quant: str
    artifact: Digest
    source: str
    weights_bytes: int = Field(gt=0)
    min_compute_capability: float | None = None
    quality: float = Field(default=1.0, ge=0, le=1)
    files: tuple[ArtifactFile, ...] = ()


class Canary(Document):
    """A prompt with a known greedy answer: `contains` must appear in the text, ignoring case."""

    prompt: str
    contains: str
    max_tokens: int = Field(default=16, ge=1, le=256)


class Adapter(Document):
    """A LoRA adapter of a model: an artifact with a rank.

    An adapter has canaries of its own, because the model's canaries do not test the adapter.
    """

    name: Slug
    artifact: Digest
    source: str
    rank: int = Field(gt=0, le=512)
    weights_bytes: int = Field(gt=0)
    canaries: tuple[Canary, ...] = ()
    files: tuple[ArtifactFile, ...] = ()


Artifact = Variant | Adapter
"""An artifact of the catalog: `artifact` is the digest, `source` the place of the files."""


class Model(Document):
    kind: Literal["model"] = "model"
    id: Slug
    license: str
    context: int = Field(gt=0)
    architecture: Architecture
    variants: tuple[Variant, ...] = Field(min_length=1)
    engine: dict[str, Any] = Field(default_factory=dict)
    canaries: tuple[Canary, ...] = ()
    trust_remote_code: bool = False
    adapters: tuple[Adapter, ...] = ()


class Price(Document):
    """Micro-USD per million tokens."""

    input_micro_usd_per_mtok: int = Field(ge=0)
    cached_input_micro_usd_per_mtok: int = Field(ge=0)
    output_micro_usd_per_mtok: int = Field(ge=0)


class Alias(Document):
    """A name of a model under a task, best rank first; `engine` overrides the model's settings.

    `adapter` is the name of an adapter of the model. `quality` is the alias's score by the task's metric. Without a
    `price` the control plane's price applies. `tokenize` lets callers tokenize texts, which reveals the vocabulary.
    After `idle_sleep_s` seconds without a call an endpoint may sleep, unless the endpoint has a setting; 0: never.
    """

    id: Slug
    model: Slug
    adapter: Slug | None = None
    engine: dict[str, Any] = Field(default_factory=dict)
    max_model_len: int | None = Field(default=None, gt=0)
    quality: float | None = Field(default=None, ge=0, le=1)
    price: Price | None = None
    tokenize: bool = False
    idle_sleep_s: float | None = Field(default=None, ge=0)


class Baseline(Document):
    """A vendor's model for comparison on a task; `context` in tokens."""

    id: Slug
    vendor: str
    quality: float | None = Field(default=None, ge=0, le=1)
    price: Price | None = None
    context: int | None = Field(default=None, gt=0)
    vision: bool = False


class Example(Document):
    """An input in a caller's words, and the right answer: text, a number, or JSON."""

    input: str = Field(min_length=1)
    expected: JsonValue = None


class TypicalTokens(Document):
    """The size of a usual request, for cost comparisons before any call."""

    input: int = Field(ge=0)
    output: int = Field(ge=0)


class Task(Document):
    """`system_prompt` is injected into calls without a system prompt. `prompt_scaffold` is text around the caller's
    input, with `{input}` as the place of the input. `scorer` is the name of the function that measures the task's
    quality. `has_blob_input`: callers send documents or pictures. Free-text questions are matched with title,
    description and examples: write these in the words of callers.
    """

    kind: Literal["task"] = "task"
    id: Slug
    title: str
    description: str = ""
    system_prompt: str | None = None
    aliases: tuple[Alias, ...] = Field(min_length=1)
    recommended: Slug
    prompt_scaffold: str | None = None
    scorer: Slug | None = None
    has_blob_input: bool = False
    examples: tuple[Example, ...] = ()
    typical_tokens: TypicalTokens | None = None
    frontier: tuple[Baseline, ...] = ()


class Catalog(Document):
    """All documents. `digest` is the sha256 of the canonical JSON: the catalog's version."""

    tasks: tuple[Task, ...]
    models: tuple[Model, ...]
    digest: Digest
