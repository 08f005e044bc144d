"""Settings: declares each setting's key, bounds, default and meaning. `config` reads the values."""

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
    """The host without the brackets of an IPv6 address in a URL, such as `[::1]`."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
PathOrAddress = Annotated[str, BeforeValidator(str), AfterValidator(_address)]


def _words(value: object) -> object:
    """Splits a text at its commas: the form of a list in the environment."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Origin = Annotated[
    str, StringConstraints(pattern=r"(?i)^(\*|null|[a-z][a-z0-9+.-]*://[^/?#@\s]+)$", to_lower=True)
]
EndpointId = Annotated[str, StringConstraints(pattern=r"^ep_[a-z0-9_]{1,60}$")]


UNSET, NONE = "unset", "none"
"""The printed form of a setting without a value, and of an empty list."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, values: object) -> object:
        """Accepts `unset` and `none` where they are the printed default."""
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
        None,
        description="Path of a Python interpreter that has vLLM. Unset: the agent installs a pinned engine.",
    )
    command: str | None = Field(
        None,
        description="Program that replaces `python -m vllm.entrypoints.openai.api_server` with the same arguments.",
    )
    platform: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Platform of the pinned engine. `auto`: `cuda` on a host with GPUs, else `cpu`."
    )
    version: str | None = Field(
        None, description="Version of the pinned engine. Unset: the newest pinned version."
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads per engine. Unset: the cores of its share, less one."
    )
    restart_budget: int = Field(
        5,
        ge=0,
        le=100,
        description="Maximum consecutive failures of an engine. Above it: no restart, and 503 `endpoint_failed`.",
    )
    log_max_bytes: int = Field(
        16 * 2**20,
        ge=2**18,
        description="Maximum log size per engine start; the logs of three starts are kept. "
        "Above it: the middle is removed.",
    )
    idle_sleep_s: float | None = Field(
        None,
        ge=0,
        description="Default idle timeout for endpoints whose own setting and catalog alias set none. "
        "Unset or 0: never.",
    )
    asleep_s: float = Field(
        3600.0,
        ge=0,
        description="Maximum time for which a sleeping GPU engine keeps its weights in host memory; "
        "then the engine ends. 0: an idle engine ends.",
    )
    standby: int = Field(
        1,
        ge=0,
        le=8,
        description="Standby processes that have imported vLLM and shorten a cold start. 0: none.",
    )


class PlaneSection(Section):
    url: str | None = Field(
        None, description="URL of the control plane. Unset: an embedded plane under `home`."
    )
    token_file: AbsolutePath | None = Field(None, description="File with the node token for `plane.url`.")
    database: str | None = Field(
        None,
        description="SQLAlchemy URL of the plane's database (PostgreSQL). Unset: a SQLite file under `home`.",
    )
    balance_usd: float = Field(10.0, ge=0, le=1e9, description="Initial balance of the embedded plane's org.")
    frontier: AbsolutePath | None = Field(
        None, description="TOML file of the vendors' models that eval runs may compare with. Unset: none."
    )


class RegistrySection(Section):
    catalog: PathOrAddress | None = Field(
        None,
        description="Catalog directory, or address of published catalogs. Unset: the built-in demo catalog.",
    )
    channel: Slug = Field("stable", description="Channel of published catalogs that the node follows.")
    catalog_keys: AbsolutePath | None = Field(
        None,
        description="PEM file of public keys. Set: a channel without a signature by one of the keys is refused.",
    )
    trust_remote_code: bool = Field(
        False, description="Run a model's own code where its catalog entry requires `trust_remote_code`."
    )
    poll_s: float = Field(60.0, gt=0, description="Mean interval between two reads of the channel.")
    artifact_keys: AbsolutePath | None = Field(
        None,
        description="PEM file of public keys. Set: weights without a signature by one of the keys are refused.",
    )
    prefetch: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        (), description="Weights to prefetch, each as `TASK` or `TASK/ALIAS`."
    )
    prefetch_wanted: bool = Field(
        True,
        description="Prefetch also for stopped endpoints, and the recommended weights of tasks that run here.",
    )
    docker_config: AbsolutePath | None = Field(
        None, description="Docker's `config.json`, with `auths` for `oci://` sources."
    )
    ca_file: AbsolutePath | None = Field(
        None, description="CA bundle that is trusted in addition to the system's."
    )
    hf_endpoint: str | None = Field(None, description="URL of a private mirror for `hf://` sources.")
    hf_token_file: AbsolutePath | None = Field(None, description="File with the token for `hf://` sources.")
    object_store_file: AbsolutePath | None = Field(
        None, description="JSON file of options for `s3://`, `gs://` and `az://` sources."
    )


class FrontSection(Section):
    workers: int = Field(
        0,
        ge=0,
        le=64,
        description="Worker processes that serve callers; the main process keeps limits, credit and records. "
        "0: no workers.",
    )
    tls_cert_file: AbsolutePath | None = Field(
        None,
        description="PEM file of the port's certificate chain, read again after each change. Set: HTTPS. "
        "Unset: plain HTTP.",
    )
    tls_key_file: AbsolutePath | None = Field(
        None,
        description="PEM file of the certificate's private key. Unset: the key is in `front.tls_cert_file`.",
    )
    hosts: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        (),
        description="Host allowlist; `*.` stands for all subdomains. `none`: every host name. "
        "IP addresses are always allowed.",
    )
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_words)] = Field(
        (),
        description="Origins whose pages may call this node: `https://host[:port]`, or `*` for every origin.",
    )
    max_body_bytes: int = Field(
        10 * 2**20,
        ge=2**16,
        description="Maximum request body without its media. Above it: 413 `body_too_large`.",
    )
    max_media_body_bytes: int = Field(
        32 * 2**20,
        ge=2**16,
        description="Maximum request body with its media. Above it: 413 `body_too_large`.",
    )
    idempotency_ttl_s: float = Field(
        3600.0,
        gt=0,
        description="Time for which the answer of an `Idempotency-Key` is stored and returned to repeated calls.",
    )
    idempotency_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="Memory for stored answers. "
        "Above it: the oldest are dropped, and their keys return 409 `idempotency_not_kept`.",
    )
    max_connections: int = Field(
        16384,
        ge=1,
        description="Maximum open connections. Above it: 429 `too_many_requests`, and the connection closes.",
    )
    max_connections_per_address: int = Field(
        8192,
        ge=1,
        description="Maximum open connections per IPv4 address or IPv6 /64. Above it: 429 `too_many_requests`.",
    )
    max_requests_per_key: int = Field(
        2048, ge=1, description="Maximum in-flight requests per API key. Above it: 429 `too_many_requests`."
    )
    max_requests_per_seat: int = Field(
        16,
        ge=1,
        description="Maximum in-flight requests per replica, as a multiple of its `max_num_seqs` (64 to 4096). "
        "Above it: 429 `endpoint_busy`.",
    )
    request_timeout_s: float = Field(
        600.0, gt=0, description="Maximum duration of a request. Above it: 504 `engine_timeout`."
    )
    lame_duck_s: float = Field(
        0.0,
        ge=0,
        description="Time between SIGTERM and the drain: `/readyz` answers 503, and calls are still admitted. "
        "0: drain at once.",
    )
    hold_s: float = Field(
        60.0,
        ge=0,
        description="Maximum time in the wake queue, for an endpoint that starts or wakes. "
        "Above it: 503 `endpoint_cold`. 0: no queue.",
    )
    queue_per_endpoint: int = Field(
        2048, ge=1, description="Maximum calls in the wake queue per endpoint. Above it: 429 `endpoint_busy`."
    )
    queue_per_org: int = Field(
        4096, ge=1, description="Maximum calls in the wake queue per org. Above it: 429 `endpoint_busy`."
    )


class SpoolSection(Section):
    max_bytes: int = Field(
        2 * 2**30,
        ge=2**20,
        description="Maximum size of the spool. At 95 % admission stops: 503 `metering_unavailable`.",
    )


class EndpointEntry(Section):
    """An endpoint that the embedded plane deploys."""

    id: EndpointId | None = None
    task: str
    alias: str = "recommended"
    idle_sleep_s: float | None = Field(None, ge=0)


class Settings(Section):
    """All settings. A section's key is `section.key` in TOML and `PARETA_SECTION_KEY` in the environment."""

    home: AbsolutePath = Field(
        Path("~/.pareta"),
        validate_default=True,
        description="Directory of the node's state: identity, weights, spool, logs and the embedded plane.",
    )
    cache: AbsolutePath = Field(
        Path("~/.cache/pareta"),
        validate_default=True,
        description="Directory of installed engines and downloads, shared by all homes of a host.",
    )
    node: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="Node id. Unset: generated at the first start, stored under `home`.",
    )
    host: Annotated[str, AfterValidator(unbracketed)] = Field(
        "127.0.0.1", description="IP address or host name on which the gateway listens."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port of the gateway. 0: any free port.")
    task: str = Field("contract-key-fields", description="Task of the endpoint on the embedded plane.")
    alias: str = Field("recommended", description="Alias of the task's model.")
    endpoint: EndpointId | None = Field(None, description="Endpoint id. Unset: generated from the alias.")
    endpoints: tuple[EndpointEntry, ...] = Field(
        (), description="Endpoints on the embedded plane, instead of `task` and `alias`."
    )
    canary: bool = Field(
        True, description="Require a replica's correct answer to its canary before the replica serves."
    )
    objective: Literal["balanced", "latency", "throughput"] = Field(
        "balanced",
        description="Objective of plans: throughput at up to 50 ms per token (`latency`: 7 ms, `throughput`: 100 ms).",
    )
    max_model_len: int | None = Field(
        None,
        ge=64,
        description="Maximum context length of plans. Unset: the longest that fits, up to the model's own limit.",
    )
    drain_timeout_s: float = Field(
        30.0,
        ge=0,
        description="Maximum time for admitted requests to finish after SIGTERM. "
        "Above it: they end with `node_draining`.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)] = Field(
        "info", description="Minimum level of logged events."
    )
    engine: EngineSection = EngineSection()
    plane: PlaneSection = PlaneSection()
    registry: RegistrySection = RegistrySection()
    front: FrontSection = FrontSection()
    spool: SpoolSection = SpoolSection()
