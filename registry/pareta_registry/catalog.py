"""The catalog's documents: what a task is, which open models answer it, and where their bytes are.

Pydantic at the door: every document is validated here and frozen; the cross-checks are in `load`.
Weights ids live in these documents and nowhere else.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from pareta_registry.manifest import ArtifactFile

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
_NOT_SLUG = re.compile("[^a-z0-9.-]+")
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


def slug(text: str, otherwise: str) -> str:
    """A name that a document may carry, made of somebody's; `otherwise` where nothing of it is left."""
    return _NOT_SLUG.sub("-", text.lower())[:63].strip("-.") or otherwise


class Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Architecture(Document):
    """The facts of a model that its memory and its layouts follow from; read off config.json.

    `moe_intermediate`, `num_experts`, `experts_per_tok` are set for mixtures of experts; `kv_lora_rank`
    and `qk_rope_head_dim` for MLA; `sliding_window` with `sliding_layers`, and `linear_layers` (no KV,
    constant state, `linear_state_bytes` a layer and request) for hybrids. `full_layers` counts layers
    whose KV grows with the context (None: all `layers`). `vision_heads` is set when a vision tower rides
    along. `model_type` is config.json's, where it decides what the engine accepts.
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
    """One checkpoint of a model. `artifact` is the digest of its manifest, `source` where it is fetched.

    `files` is that manifest, for a store that keeps none beside the files (a hub mirror).
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
    """A prompt whose greedy answer is known: `contains` must appear in the text, ignoring case."""

    prompt: str
    contains: str
    max_tokens: int = Field(default=16, ge=1, le=256)


class Adapter(Document):
    """A LoRA adapter on its model: an artifact like any other, with its rank.

    The model's own canaries say nothing about it, so it has its own.
    """

    name: Slug
    artifact: Digest
    source: str
    rank: int = Field(gt=0, le=512)
    weights_bytes: int = Field(gt=0)
    canaries: tuple[Canary, ...] = ()
    files: tuple[ArtifactFile, ...] = ()


Artifact = Variant | Adapter
"""What has bytes somewhere: `artifact` names them, `source` is where they are."""


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
    """In micro-USD per million tokens."""

    input_micro_usd_per_mtok: int = Field(ge=0)
    cached_input_micro_usd_per_mtok: int = Field(ge=0)
    output_micro_usd_per_mtok: int = Field(ge=0)


class Alias(Document):
    """A name of a model under one task, best rank first; `engine` overrides the model's own settings.

    `adapter` names one of the model's. `quality` is what the task's metric gave it; without a `price` the control
    plane's own holds. `tokenize` lets callers ask for the tokens of a text, which tell whose vocabulary it is. After
    `idle_sleep_s` without a call it may sleep, where its endpoint does not say otherwise; 0: never.
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
    """A vendor's model that open ones are compared with on one task; `context` in tokens."""

    id: Slug
    vendor: str
    quality: float | None = Field(default=None, ge=0, le=1)
    price: Price | None = None
    context: int | None = Field(default=None, gt=0)
    vision: bool = False


class Example(Document):
    """One input as a caller writes it, and the answer that counts as right: text, a number, or JSON."""

    input: str = Field(min_length=1)
    expected: JsonValue = None


class TypicalTokens(Document):
    """The size of a usual request, by which costs are compared before anything is called."""

    input: int = Field(ge=0)
    output: int = Field(ge=0)


class Task(Document):
    """`system_prompt` is injected when a caller sends none; `prompt_scaffold` is text around the caller's input,
    with `{input}` where it goes; `scorer` names the function that the task's quality is measured by;
    `has_blob_input` says that callers send documents or pictures. Title, description and examples are also what
    free-text questions are matched against: write them in the words of those who ask."""

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
    """All documents together. `digest` is sha256 over their canonical JSON: the catalog's version."""

    tasks: tuple[Task, ...]
    models: tuple[Model, ...]
    digest: Digest
