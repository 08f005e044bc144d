"""Context errors: the refusal of a prompt longer than the context, in the sentences that client libraries match. Pure.

Client libraries such as litellm and LangChain match OpenAI's sentence or the code, and then select a longer model.
Clients of Anthropic's API match Anthropic's sentence (`gateway/api/dialects/anthropic_messages.py`).
"""

from __future__ import annotations

import re
from typing import Final

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api.routes import MESSAGES, Route

_LIMITS: Final = (
    re.compile(r"maximum context length (?:is|of) (?P<limit>\d+)"),
    re.compile(r"prompt length (?P<prompt>\d+) exceeds the max_model_len (?P<limit>\d+)"),
    re.compile(r"prompt \(length (?P<prompt>\d+)\).* longer than the maximum model length of (?P<limit>\d+)"),
    re.compile(r"Input length \((?P<prompt>\d+)\) exceeds model's maximum context length \((?P<limit>\d+)\)"),
)
_PROMPT: Final = re.compile(r"(\d+) (?:input|prompt) tokens")
_CHARACTERS: Final = re.compile(r"contains (\d+) characters")
_WANTED: Final = re.compile(r"(?:requested|request for) (\d+) (?:output|completion) tokens")


def overflow(message: str, route: Route) -> Problem | None:
    """The refusal of a prompt that the engine reports as too long."""
    found = next((found for each in _LIMITS if (found := each.search(message))), None)
    if found is None:
        return None
    limit, prompt = int(found["limit"]), found.groupdict().get("prompt")
    if prompt is None and (counted := _PROMPT.search(message)):
        prompt = counted.group(1)
    # Of a pair the document is what may be long.
    field = route.documents if route.documents and route.texts > 1 else route.prompt
    text = _anthropic(limit, prompt) if route is MESSAGES else _openai(limit, prompt, message, field)
    return Problem("context_length_exceeded", text, field)


def _openai(limit: int, prompt: str | None, message: str, field: str) -> str:
    """Both sentences of OpenAI: some clients match the second."""
    return (
        f"This model's maximum context length is {limit} tokens. However, {_sent(limit, prompt, message, field)}. "
        f"Please reduce the length of the {field}. Input tokens exceed the configured limit of {limit} tokens."
    )


def _sent(limit: int, prompt: str | None, message: str, field: str) -> str:
    wanted, characters = _WANTED.search(message), _CHARACTERS.search(message)
    if prompt and wanted:
        both = int(prompt) + int(wanted.group(1))
        return f"you requested {both} tokens ({prompt} in the {field}, {wanted.group(1)} in the completion)"
    if prompt:
        return f"your {field} resulted in {prompt} tokens"
    many = (
        f"{characters.group(1)} characters, more than {limit} tokens"
        if characters
        else f"more than {limit} tokens"
    )
    return f"your {field} resulted in {many}"


def _anthropic(limit: int, prompt: str | None) -> str:
    return f"prompt is too long: {prompt or f'more than {limit}'} tokens > {limit} maximum"
