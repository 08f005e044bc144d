"""Every setting of the agent: its key, its bounds, its default, its meaning. Where values come from is `config`'s."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from pareta_registry.catalog import Slug


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _address(place: str) -> str:
    return place if "://" in place else str(_absolute(Path(place)))


def unbracketed(host: str) -> str:
    """An address of IPv6 may be given as it stands in a URL, `[::1]`."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
PathOrAddress = Annotated[str, BeforeValidator(str), AfterValidator(_address)]


def _words(value: object) -> object:
    """A list in the environment is words with commas between."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Origin = Annotated[
    str, StringConstraints(pattern=r"(?i)^(\*|null|[a-z][a-z0-9+.-]*://[^/?#@\s]+)$", to_lower=True)
]
EndpointId = Annotated[str, StringConstraints(pattern=r"^ep_[a-z0-9_]{1,60}$")]


UNSET, NONE = "unset", "none"
"""Written where a setting has no value, and where a list has no entry."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, values: object) -> object:
        """`unset` and `none` are values, too: a printed default may be written back."""
        if not isinstance(values, Mapping):
            return values
        absent = {(None, UNSET): None, ((), NONE): ()}
        fields = cls.model_fields
        return {
            key: absent.get((fields[key].default, str(value)), value) if key in fields else value
            for key, value in values.items()
        }


class EngineSection(Section):
    python: AbsolutePath | None = Field(
        None, description="Interpreter that has vLLM; unset: install a pinned one."
    )
    command: str | None = Field(
        None,
        description="Program that replaces `python -m vllm.entrypoints.openai.api_server`, same arguments.",
    )
    platform: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Which pinned engine to install and run."
    )
    version: str | None = Field(
        None, description="Pinned engine version; unset: the newest that is committed."
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads of one engine; unset: the cores of its share, less one."
    )
    restart_budget: int = Field(
        5, ge=0, le=100, description="Failures in a row after which an engine is given up."
    )
    log_max_bytes: int = Field(
        16 * 2**20,
        ge=2**18,
        description="Largest log of one engine start, three are kept; beyond it the middle is dropped.",
    )
    idle_sleep_s: float | None = Field(
        None,
        ge=0,
        description="Idle time after which an endpoint sleeps that does not say it, nor its alias; unset or 0: never.",
    )
    asleep_s: float = Field(
        3600.0,
        ge=0,
        description="How long engines on GPUs sleep with their weights in host memory before they end; 0: not at all.",
    )
    standby: int = Field(1, ge=0, le=8, description="Pre-imported engines kept warm for fast cold starts.")


class PlaneSection(Section):
    url: str | None = Field(None, description="Control plane; unset: one embedded under the home directory.")
    token_file: AbsolutePath | None = Field(
        None, description="File that holds the node token for `plane.url`."
    )
    database: str | None = Field(
        None, description="SQLAlchemy URL of this plane's ledger (PostgreSQL); unset: SQLite under the home."
    )
    balance_usd: float = Field(10.0, ge=0, le=1e9, description="What the embedded plane's org starts with.")
    frontier: AbsolutePath | None = Field(
        None, description="TOML file of vendors' models that evals may compare with."
    )


class RegistrySection(Section):
    catalog: PathOrAddress | None = Field(
        None, description="Catalog directory, or address of published ones; unset: the built-in demo catalog."
    )
    channel: Slug = Field("stable", description="Which channel of published catalogs to follow.")
    catalog_keys: AbsolutePath | None = Field(
        None, description="PEM file of public keys; set: a channel that none of them signed is refused."
    )
    trust_remote_code: bool = Field(
        False, description="Run a model's own code where the catalog's entry asks for it."
    )
    poll_s: float = Field(60.0, gt=0, description="Mean time between two looks at the channel.")
    artifact_keys: AbsolutePath | None = Field(
        None, description="PEM file of public keys; set: weights that none of them signed are refused."
    )
    prefetch: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        (), description="Weights to have here before a start needs them: `TASK` or `TASK/ALIAS`."
    )
    prefetch_wanted: bool = Field(
        True,
        description="Have those of stopped endpoints too, and what is recommended for tasks that run here.",
    )
    docker_config: AbsolutePath | None = Field(None, description="config.json with `auths` for `oci://`.")
    ca_file: AbsolutePath | None = Field(None, description="CA bundle trusted beside the system's.")
    hf_endpoint: str | None = Field(None, description="Private mirror for `hf://`.")
    hf_token_file: AbsolutePath | None = Field(None, description="File with the mirror's token.")
    object_store_file: AbsolutePath | None = Field(
        None, description="JSON options of `s3://`, `gs://`, `az://`."
    )


class FrontSection(Section):
    workers: int = Field(
        0,
        ge=0,
        le=64,
        description="Processes that answer callers beside the main one, which keeps the meter; 0: it answers itself.",
    )
    tls_cert_file: AbsolutePath | None = Field(
        None,
        description="PEM of the port's certificate and its chain; set: HTTPS. Read again when it changes.",
    )
    tls_key_file: AbsolutePath | None = Field(
        None, description="PEM of its private key; unset: within `front.tls_cert_file`."
    )
    hosts: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        (),
        description="Host names that are answered, `*.` for all below; none: every one. Addresses always are.",
    )
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_words)] = Field(
        (),
        description="Pages that may call this node from a browser: `https://host[:port]`, or `*` for every one.",
    )
    max_body_bytes: int = Field(
        10 * 2**20, ge=2**16, description="Largest request body, not counting media within it."
    )
    max_media_body_bytes: int = Field(
        32 * 2**20, ge=2**16, description="Largest request body with its media."
    )
    idempotency_ttl_s: float = Field(
        3600.0, gt=0, description="How long an answer under an `Idempotency-Key` is given again."
    )
    idempotency_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="Memory for those answers; the oldest are known, but not kept, beyond it.",
    )
    max_connections: int = Field(16384, ge=1, description="Connections of callers.")
    max_connections_per_address: int = Field(
        8192, ge=1, description="Connections of one address; of IPv6, of one /64."
    )
    max_requests_per_key: int = Field(2048, ge=1, description="Admitted requests of one key at a time.")
    max_requests_per_seat: int = Field(
        16,
        ge=1,
        description="Admitted requests for each that an engine works on at a time (64 at least); then 429.",
    )
    request_timeout_s: float = Field(600.0, gt=0, description="Longest a request may run.")
    lame_duck_s: float = Field(
        0.0,
        ge=0,
        description="Time after SIGTERM in which `/readyz` answers 503 and calls are still admitted; then the drain.",
    )
    hold_s: float = Field(
        60.0,
        ge=0,
        description="Longest a call waits for an endpoint that wakes or starts; 0 refuses at once.",
    )
    queue_per_endpoint: int = Field(2048, ge=1, description="Calls that may wait for one endpoint.")
    queue_per_org: int = Field(4096, ge=1, description="Calls of one organization that may wait.")


class SpoolSection(Section):
    max_bytes: int = Field(2 * 2**30, ge=2**20, description="Largest spool; at 95 % admission stops.")


class EndpointEntry(Section):
    """One endpoint to deploy on the embedded plane."""

    id: EndpointId | None = None
    task: str
    alias: str = "recommended"
    idle_sleep_s: float | None = Field(None, ge=0)


class Settings(Section):
    """Every setting. Keys of a section are `section.key` in TOML and `PARETA_SECTION_KEY` in the environment."""

    home: AbsolutePath = Field(
        Path("~/.pareta"), validate_default=True, description="Everything this node keeps."
    )
    cache: AbsolutePath = Field(
        Path("~/.cache/pareta"),
        validate_default=True,
        description="Engines and downloads, shared by all homes.",
    )
    node: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Node id; unset: made once."
    )
    host: Annotated[str, AfterValidator(unbracketed)] = Field(
        "127.0.0.1", description="Address the front listens on."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port of the front; 0 picks a free one.")
    task: str = Field("contract-key-fields", description="Task to deploy on the embedded plane.")
    alias: str = Field("recommended", description="Alias of the task's model.")
    endpoint: EndpointId | None = Field(None, description="Endpoint id; unset: made from the alias.")
    endpoints: tuple[EndpointEntry, ...] = Field(
        (), description="Several endpoints instead of task and alias."
    )
    canary: bool = Field(True, description="Ask a known question before going live.")
    objective: Literal["balanced", "latency", "throughput"] = Field(
        "balanced", description="What plans aim at."
    )
    max_model_len: int | None = Field(None, ge=64, description="Longest context to plan for.")
    drain_timeout_s: float = Field(
        30.0, ge=0, description="How long admitted requests may finish after SIGTERM."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)] = Field(
        "info", description="Least level that is logged."
    )
    engine: EngineSection = EngineSection()
    plane: PlaneSection = PlaneSection()
    registry: RegistrySection = RegistrySection()
    front: FrontSection = FrontSection()
    spool: SpoolSection = SpoolSection()
