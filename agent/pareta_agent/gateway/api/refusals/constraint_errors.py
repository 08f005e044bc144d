"""Constraint errors: the refusal of a schema, grammar or regular expression that the engine rejects. Pure.

The engine answers 500 to a constraint that passes the checks but cannot be compiled, for that request alone. The
caller receives a 400, because the constraint is in the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api.constraints import constraint_of
from pareta_agent.gateway.api.refusals.allowed_values import ALLOWED, sent_of

_UNCOMPILED: Final = "Internal server error"
_ABOUT: Final = re.compile(
    r"Grammar error:|Invalid grammar|Invalid JSON grammar|Invalid \w+ structural_tag|structured_outputs\.\w+ |"
    r"Choice '|You (?:can only|must) (?:only )?(?:use )?(?:use )?one kind|The JSON schema is nested|"
    r"Failed to (?:transform|convert|compile|parse)|Regex compilation|The provided JSON schema|Unsupported JSON schema"
)
_KEYWORDS: Final = re.compile(r"Unimplemented keys: \[([\w\", $]+)\]")
_REASONS: Final = (
    (r"nested too deeply", "nests deeper than 64 levels"),
    (r"one kind", f"must be {ALLOWED['structured_outputs']}"),
    (r"empty string|empty list|No 'root' rule \(empty\)", "is empty"),
    (r"look-?arounds?", "has a regular expression with look-around, which is not supported"),
    (r"backreferences", "has a regular expression with a back-reference, which is not supported"),
    (r"regex|NUL character|Unicode property", "has a regular expression that cannot be read"),
    (r"Pointer '", "has a '$ref' that points to nothing"),
    (r"Invalid type", "has a 'type' that JSON Schema does not have"),
    (r"Unknown format", "has a 'format' that is not supported"),
    (r"Unsatisfiable", "allows no value at all"),
    (r"duplicate rule", "defines a rule twice"),
    (r"No 'root' rule", "has no rule 'root'"),
    (r"unknown name|Rule '[^']*' not found", "uses a rule that it does not define"),
    (r"json_object must be True", "may only hold 'json_object' as true"),
    (r"structural_tag", "has a structural tag that cannot be read"),
    (r"must be an? |Expected \w+ for", "has a keyword with a value of the wrong type"),
)


def refused(message: str, fields: Mapping[str, Any]) -> Problem | None:
    """The refusal of a constraint that the engine's checks found wrong."""
    field = constraint_of(fields)
    if field is None or not _ABOUT.match(message):
        return None
    return Problem("invalid_value", f"'{field}' {_reason(message)}{sent_of(field, fields)}.", field)


def uncompiled(message: str, fields: Mapping[str, Any]) -> Problem | None:
    """The refusal of a constraint that the engine could not compile."""
    field = constraint_of(fields)
    if field is None or message != _UNCOMPILED:
        return None
    reason = "cannot be compiled: a rule or '$ref' leads to itself, is defined twice, or holds nothing"
    return Problem("invalid_value", f"'{field}' {reason}{sent_of(field, fields)}.", field)


def _reason(message: str) -> str:
    if keywords := _KEYWORDS.search(message):
        names = keywords.group(1).replace('"', "'")
        return f"has keywords that are not supported: {names}"
    return next((reason for seen, reason in _REASONS if re.search(seen, message)), "cannot be compiled")
