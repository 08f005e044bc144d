"""Configuration: merges flags > environment (`PARETA_…`) > TOML file > defaults into frozen settings, once.

No other module reads the environment. No package below `node` imports this module: `node` passes each component the
settings that it takes.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pareta_agent.bad_setting import explain, nearest
from pareta_agent.errors import ConfigError
from pareta_agent.settings import NONE, UNSET, EndpointEntry, Section, Settings

__all__ = ["EndpointEntry", "Settings", "environment", "load", "run_dir", "setting_rows"]

PREFIX = "PARETA_"
FOREIGN = {"PARETA_API_KEY", "PARETA_BASE_URL", "PARETA_CONFIG", "PARETA_GOLDEN_PLANS", "PARETA_MARKER"}
_LINK_NAME: Final = re.compile(
    r"PARETA_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)\w*)"
)
_LINK_VALUE: Final = re.compile(r"(?:tcp|udp|sctp)://")


def load(flags: Mapping[str, Any], config: Path | None = None) -> tuple[Settings, list[str]]:
    """Reads the settings. `flags` maps keys (dotted for sections) to values; None: the flag is absent.

    Returns the settings, and warnings for an operator on unknown names in the environment. Raises ConfigError with
    every wrong key or value, its layer, the allowed values and the nearest name.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    path = config or _config_file(given)
    layers = _merge(_toml(path) if path else {}, _environment_layer(), _nest(given))
    try:
        return Settings.model_validate(layers), _warnings()
    except ValidationError as error:
        raise ConfigError(
            "config_invalid", _explain(error, given, path), "correct the key or remove it"
        ) from None


def environment() -> dict[str, str]:
    """A copy of this process's environment, for child processes."""
    return dict(os.environ)


def run_dir(home: Path) -> Path:
    """The directory of the sockets of the node under `home`.

    `home/run`, or a short path in the temporary directory: the path of a unix socket has at most 107 bytes.
    """
    if len(str(home)) <= 44:
        return home / "run"
    name = hashlib.sha256(str(home).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"pareta-{os.getuid()}" / name


def setting_rows() -> list[tuple[str, str, str, str]]:
    """(key, environment name, default, meaning) of every setting, for the documentation."""
    rows = []
    for key, field in Settings.model_fields.items():
        if isinstance(field.default, Section):
            for sub, subfield in type(field.default).model_fields.items():
                rows.append(_row(f"{key}.{sub}", subfield.default, subfield.description))
        else:
            rows.append(_row(key, field.default, field.description))
    return rows


def _row(key: str, default: object, meaning: str | None) -> tuple[str, str, str, str]:
    return key, _env_name(key), _printed(default), meaning or ""


def _printed(default: object) -> str:
    """The default in a form that is valid in every layer."""
    if isinstance(default, bool):
        return "on" if default else "off"
    return UNSET if default is None else NONE if default == () else str(default)


def _env_name(key: str) -> str:
    return PREFIX + key.replace(".", "_").upper()


def _config_file(flags: Mapping[str, Any]) -> Path | None:
    if named := os.environ.get("PARETA_CONFIG"):
        return Path(named)
    home = Path(flags.get("home") or os.environ.get("PARETA_HOME") or Settings.model_fields["home"].default)
    default = home.expanduser().absolute() / "config.toml"
    return default if default.is_file() else None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(
            "config_unreadable", f"{path}: {error.strerror}", "name a readable TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config_not_toml", f"{path}: {error}", "correct the file's TOML") from None


def _environment_layer() -> dict[str, Any]:
    """The environment in the shape of the settings. Unknown keys of a section are kept, for the refusal."""
    sections = {key for key, field in Settings.model_fields.items() if isinstance(field.default, Section)}
    layer: dict[str, Any] = {}
    for name, value in _ours().items():
        key = name.removeprefix(PREFIX).lower()
        section, _, rest = key.partition("_")
        if _is_service_link(name, value):
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


def _ours() -> dict[str, str]:
    return {n: v for n, v in os.environ.items() if n.startswith(PREFIX) and n not in FOREIGN}


def _is_service_link(name: str, value: str) -> bool:
    """True if Kubernetes set the variable for a Service named `pareta…`. A service link is never a setting."""
    return bool(_LINK_NAME.fullmatch(name) or (name.endswith("_PORT") and _LINK_VALUE.match(value)))


def _warnings() -> list[str]:
    ours, known = _ours(), {row[1] for row in setting_rows()}
    links = sorted(name for name, value in ours.items() if _is_service_link(name, value))
    reported = [
        f"{name} is not a setting{nearest(name, known)}; it is ignored"
        for name in sorted(ours.keys() - known)
        if name not in links
    ]
    if links:
        reported.append(
            f"{', '.join(links)}: Kubernetes service links, ignored (enableServiceLinks: false omits them)"
        )
    return reported


def _explain(error: ValidationError, flags: Mapping[str, Any], path: Path | None) -> str:
    keys = {row[0] for row in setting_rows()}
    return "; ".join(explain(each, _layer(each, flags, path), keys) for each in error.errors())


def _layer(detail: ErrorDetails, flags: Mapping[str, Any], path: Path | None) -> str:
    """The layer of a value; an entry of a list has the layer of its list."""
    words = [str(part) for part in detail["loc"] if not isinstance(part, int)]
    for length in range(len(words), 0, -1):
        key = ".".join(words[:length])
        if key in flags:
            return "the flags"
        if _env_name(key) in os.environ:
            return f"the environment ({_env_name(key)})"
    return str(path) if path else "the defaults"
