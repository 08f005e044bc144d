"""The vendors' models that runs may compare with: any API that speaks OpenAI's, each key in a file of its own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pareta_agent.errors import ConfigError
from pareta_registry.catalog import Price


class Vendor(BaseModel):
    """One model of the roster. `model` is its name at `base_url` (which ends in /v1); unset: its id."""

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
    """The roster in a TOML file (`[[models]]`); empty without one. Raises ConfigError that says what is wrong."""
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
        raise ConfigError("roster_invalid", f"{path}: {where}: {first['msg']}", "mend the entry") from None
    if len({each.id for each in models}) < len(models):
        raise ConfigError("roster_invalid", f"{path}: an id stands there twice", "give each model its own id")
    return Vendors(models)


def key_of(vendor: Vendor) -> str | None:
    """The vendor's key, read anew each time, so that it can be exchanged; None when it cannot be read."""
    try:
        return vendor.key_file.read_text().strip() or None
    except OSError:
        return None
