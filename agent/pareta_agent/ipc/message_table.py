"""Message table: maps the kinds of one direction of a protocol to dataclasses.

A message is a frozen dataclass with a `kind`; the fields, in order, are the values on the wire. A class with other
values than fields defines `encode` and `decode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol


class TypedMessage(Protocol):
    """A dataclass of a message table."""

    kind: ClassVar[str]


class MessageTable:
    """The kinds that an end sends to the peer."""

    def __init__(self, *messages: type[TypedMessage]) -> None:
        self.by_kind = {each.kind: each for each in messages}

    def decode(self, kind: str, values: Sequence[Any]) -> Any:
        """The message of a known kind. Raises KeyError for an unknown kind."""
        message: Any = self.by_kind[kind]
        return getattr(message, "decode", message)(*values)


def field_names(message: Any) -> tuple[str, ...]:
    """The fields of a message, or of a message class, in the order of the wire."""
    names: tuple[str, ...] = message.__match_args__
    return names


def values_of(message: Any) -> Sequence[Any]:
    """The values of a dataclass on the wire, in order, without the kind."""
    if hasattr(message, "encode"):
        values: Sequence[Any] = message.encode()
        return values
    return [getattr(message, name) for name in field_names(message)]
