"""The settings, read once: flags > environment (`PARETA_…`) > TOML file > defaults, then frozen.

This is the only address of the environment. Rooms never see this module: `node` slices it for them.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from pareta_agent.errors import ConfigError

PREFIX = "PARETA_"
FOREIGN = {"PARETA_API_KEY", "PARETA_BASE_URL", "PARETA_CONFIG", "PARETA_GOLDEN_PLANS", "PARETA_MARKER"}


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
    threads: int | None = Field(None, ge=1, description="CPU threads of one engine; unset: cores - 1.")
    restart_budget: int = Field(
        5, ge=0, le=100, description="Failures in a row after which an engine is given up."
    )
    idle_sleep_s: float | None = Field(
        None, gt=0, description="Idle time after which an endpoint gives its devices back; unset: never."
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


class RegistrySection(Section):
    catalog: AbsolutePath | None = Field(
        None, description="Catalog directory; unset: the built-in demo catalog."
    )
    artifact_keys: AbsolutePath | None = Field(
        None, description="PEM file of public keys; set: weights that none of them signed are refused."
    )
    docker_config: AbsolutePath | None = Field(None, description="config.json with `auths` for `oci://`.")
    ca_file: AbsolutePath | None = Field(None, description="CA bundle trusted beside the system's.")
    hf_endpoint: str | None = Field(None, description="Private mirror for `hf://`.")
    hf_token_file: AbsolutePath | None = Field(None, description="File with the mirror's token.")
    object_store_file: AbsolutePath | None = Field(
        None, description="JSON options of `s3://`, `gs://`, `az://`."
    )


class FrontSection(Section):
    max_body_bytes: int = Field(10 * 2**20, ge=1024, description="Largest request body.")
    request_timeout_s: float = Field(600.0, gt=0, description="Longest a request may run.")
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

    id: str | None = None
    task: str
    alias: str = "recommended"


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
    host: str = Field("127.0.0.1", description="Address the front listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the front; 0 picks a free one.")
    task: str = Field("contract-key-fields", description="Task to deploy on the embedded plane.")
    alias: str = Field("recommended", description="Alias of the task's model.")
    endpoint: str | None = Field(
        None, pattern=r"^ep_[a-z0-9_]{1,60}$", description="Endpoint id; unset: made from the alias."
    )
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


def load(flags: Mapping[str, Any], config: Path | None = None) -> tuple[Settings, list[str]]:
    """Read the settings; `flags` maps keys (dotted for sections) to values, None meaning "not given".

    Returns the settings and warnings for a person (environment names that mean nothing).
    Raises ConfigError that names every wrong key or value, where it stands, and what was perhaps meant.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    path = config or _config_file(given)
    layers = _merge(_toml(path) if path else {}, _environment_layer(), _nest(given))
    try:
        return Settings.model_validate(layers), _strange_names()
    except ValidationError as error:
        raise ConfigError(
            "config_invalid", _explain(error, given, path), "fix the key or remove it"
        ) from None


def environment() -> dict[str, str]:
    """A copy of this process's environment, for children that inherit it."""
    return dict(os.environ)


def run_dir(home: Path) -> Path:
    """Where sockets of the node under `home` live: short, because a unix socket's path ends at 107 bytes."""
    if len(str(home)) <= 44:
        return home / "run"
    name = hashlib.sha256(str(home).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"pareta-{os.getuid()}" / name


def setting_rows() -> list[tuple[str, str, str, str]]:
    """(key, environment name, default, meaning) of every setting, for the docs and the test that checks them."""
    rows = []
    for key, field in Settings.model_fields.items():
        if isinstance(field.default, Section):
            for sub, subfield in type(field.default).model_fields.items():
                rows.append(_row(f"{key}.{sub}", subfield.default, subfield.description))
        else:
            rows.append(_row(key, field.default, field.description))
    return rows


def _row(key: str, default: object, meaning: str | None) -> tuple[str, str, str, str]:
    shown = {None: "unset", (): "none", True: "on", False: "off"}.get(default, default)  # type: ignore[call-overload]
    return key, _env_name(key), str(shown), meaning or ""


def _env_name(key: str) -> str:
    return PREFIX + key.replace(".", "_").upper()


def _config_file(flags: Mapping[str, Any]) -> Path | None:
    if named := os.environ.get("PARETA_CONFIG"):
        return Path(named)
    home = Path(flags.get("home") or os.environ.get("PARETA_HOME") or Settings.model_fields["home"].default)
    default = _absolute(home) / "config.toml"
    return default if default.is_file() else None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(
            "config_unreadable", f"{path}: {error.strerror}", "name a readable TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config_not_toml", f"{path}: {error}", "mend the TOML") from None


def _environment_layer() -> dict[str, Any]:
    """What the environment says, in the shape of the settings; nested unknown keys are kept, to be refused."""
    sections = {key for key, field in Settings.model_fields.items() if isinstance(field.default, Section)}
    layer: dict[str, Any] = {}
    for name, value in os.environ.items():
        key = name.removeprefix(PREFIX).lower()
        section, _, rest = key.partition("_")
        if not name.startswith(PREFIX) or name in FOREIGN:
            continue
        if key in Settings.model_fields and key not in sections:
            layer[key] = value
        elif section in sections and rest:
            layer.setdefault(section, {})[rest] = value
    return layer


def _nest(flags: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flags.items():
        section, _, rest = key.partition(".")
        if rest:
            nested.setdefault(section, {})[rest] = value
        else:
            nested[key] = value
    return nested


def _merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = {**merged[key], **value} if both else value
    return merged


def _strange_names() -> list[str]:
    known = {row[1] for row in setting_rows()} | FOREIGN
    strange = sorted(n for n in os.environ if n.startswith(PREFIX) and n not in known)
    return [f"{name} is not a setting{_meant(name, known)}; it is ignored" for name in strange]


def _meant(word: str, known: set[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _explain(error: ValidationError, flags: Mapping[str, Any], path: Path | None) -> str:
    return "; ".join(_explain_one(detail, flags, path) for detail in error.errors())


def _explain_one(detail: ErrorDetails, flags: Mapping[str, Any], path: Path | None) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    where = _source(key, flags, path)
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key} in {where}{_meant(key, {row[0] for row in setting_rows()})}"
    return f"{key} = {detail['input']!r} in {where}: {detail['msg']}"


def _source(key: str, flags: Mapping[str, Any], path: Path | None) -> str:
    if key in flags:
        return "the flags"
    if _env_name(key) in os.environ:
        return f"the environment ({_env_name(key)})"
    return str(path) if path else "the defaults"
