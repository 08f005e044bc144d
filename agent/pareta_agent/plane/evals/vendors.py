"""Vendors: reads the list of vendors' models for eval runs: any OpenAI-compatible API, each with a key file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pareta_agent.errors import ConfigError
from pareta_registry.catalog import Price


class Vendor(BaseModel):
    """One vendor model. `model` is the name at `base_url` (which ends in /v1); unset: the id."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str = Field(min_length=1, max_length=128)
    vendor: str
    base_url: str = Field(pattern=r"^https?://")
    key_file: Path
    price: Price
    model: str | None = None
    vision: bool = False


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    models: tuple[Vendor, ...] = ()


@dataclass(frozen=True, slots=True)
class Vendors:
    models: tuple[Vendor, ...] = ()

    def find(self, model: str) -> Vendor | None:
        return next((each for each in self.models if each.id == model), None)


def read(path: Path | None) -> Vendors:
    """Reads the models from a TOML file (`[[models]]`); empty without a file. Raises ConfigError with the invalid
    entry.
    """
    if path is None:
        return Vendors()
    try:
        models = _File.model_validate(tomllib.loads(path.read_text())).models
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            "roster_unreadable", f"{path}: {error}", "name a TOML file with [[models]]"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError("roster_invalid", f"{path}: {where}: {first['msg']}", "correct the entry") from None
    if len({each.id for each in models}) < len(models):
        raise ConfigError("roster_invalid", f"{path}: an id is used twice", "give each model its own id")
    return Vendors(models)


def key_of(vendor: Vendor) -> str | None:
    """Reads the vendor's key at each call, so that the key can be exchanged; None for an unreadable file."""
    try:
        return vendor.key_file.read_text().strip() or None
    except OSError:
        return None
