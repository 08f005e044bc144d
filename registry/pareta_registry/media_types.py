"""Media types: names the types of published documents."""

from typing import Final

POINTER_TYPE: Final = "application/vnd.pareta.channel.v1+json"
CATALOG_TYPE: Final = "application/vnd.pareta.catalog.v1+json"
