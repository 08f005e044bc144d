"""Conversation: checks the turns of a chat and inserts the task's system prompt. Pure."""

from __future__ import annotations

from typing import Any, Final

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api.routes import BATCH, CHAT, COUNT_TOKENS, MESSAGES, RESPONSES, Route

# Tools of other types would be run by the engine, which reaches for other hosts.
_OWN_TOOLS: Final = ("function", "custom", "namespace")


def wrong(route: Route, fields: dict[str, Any]) -> Problem | None:
    """The first problem with the turns of a conversation."""
    turns = fields[route.prompt]
    if route is RESPONSES:
        return _wrong_input(turns) or _wrong_tools(fields.get("tools"))
    if route is MESSAGES and (limit := fields.get("max_tokens")) is None:
        return missing("max_tokens")
    if route is MESSAGES and (type(limit) is not int or limit < 1):
        return Problem("invalid_value", "max_tokens must be a positive integer.", "max_tokens")
    if route is BATCH:
        return _wrong_conversations(turns)
    return _wrong_turns(route.prompt, turns)


def instruct(route: Route, fields: dict[str, Any], system_prompt: str) -> None:
    """Puts the task's system prompt before the turns, if the caller sends no system prompt.

    The prompt goes among the turns and not into `instructions`, which an answer repeats.
    """
    turns = fields[route.prompt]
    first = {"role": "system", "content": system_prompt}
    if route is BATCH:
        fields["messages"] = [each if _has_system(each) else [first, *each] for each in turns]
    elif _has_system(turns):
        return
    elif route is CHAT:
        fields["messages"] = [first, *turns]
    elif route in (MESSAGES, COUNT_TOKENS) and not fields.get("system"):
        fields["system"] = system_prompt
    elif route is RESPONSES and not fields.get("instructions"):
        fields["input"] = [
            first,
            *(turns if isinstance(turns, list) else [{"role": "user", "content": turns}]),
        ]


def _wrong_turns(field: str, turns: Any) -> Problem | None:
    if not isinstance(turns, list) or not turns:
        return ill_typed(field, "a non-empty array")
    for turn in turns:
        if not isinstance(turn, dict):
            return ill_typed(field, "an array of objects")
    return None


def _wrong_conversations(turns: Any) -> Problem | None:
    if isinstance(turns, list) and turns and not any(_wrong_turns("messages", turns) for turns in turns):
        return None
    return ill_typed("messages", "an array of conversations, each a non-empty array of objects")


def _wrong_input(turns: Any) -> Problem | None:
    if isinstance(turns, list):
        return _wrong_turns("input", turns)
    return None if isinstance(turns, str) and turns else ill_typed("input", "a text or a non-empty array")


def _wrong_tools(tools: Any) -> Problem | None:
    if tools is None:
        return None
    if not isinstance(tools, list):
        return ill_typed("tools", "an array")
    if any(isinstance(tool, dict) and tool.get("type") not in _OWN_TOOLS for tool in tools):
        return Problem(
            "invalid_value", "Only tools that the caller runs are offered: function and custom.", "tools"
        )
    return None


def _has_system(turns: Any) -> bool:
    turns = turns if isinstance(turns, list) else ()
    return any(isinstance(turn, dict) and turn.get("role") in ("system", "developer") for turn in turns)


def missing(field: str) -> Problem:
    return Problem("missing_field", f"The field '{field}' is required.", field)


def ill_typed(field: str, wanted: str) -> Problem:
    return Problem("invalid_type", f"The field '{field}' must be {wanted}.", field)
