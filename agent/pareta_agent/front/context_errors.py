"""A prompt that is longer than the context, in the words that clients match on. Pure.

litellm, LangChain and others look for OpenAI's sentence or for the code to take a longer model instead; clients of
Anthropic's API look for its sentence (`front/messages.py`).
"""

from __future__ import annotations

import re
from typing import Final

from pareta_agent.front.envelope import Problem
from pareta_agent.front.routes import MESSAGES, Route

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
    """The refusal of a prompt whose length the engine complains of."""
    found = next((found for each in _LIMITS if (found := each.search(message))), None)
    if found is None:
        return None
    limit, prompt = int(found["limit"]), found.groupdict().get("prompt")
    if prompt is None and (counted := _PROMPT.search(message)):
        prompt = counted.group(1)
    said = _anthropic(limit, prompt) if route is MESSAGES else _openai(limit, prompt, message, route)
    return Problem("context_length_exceeded", said, route.prompt)


def _openai(limit: int, prompt: str | None, message: str, route: Route) -> str:
    said = f"This model's maximum context length is {limit} tokens. However, "
    wanted, characters = _WANTED.search(message), _CHARACTERS.search(message)
    if prompt is None:
        sent = f"{characters.group(1)} characters, which is more" if characters else "more than that"
        return (
            f"{said}your {route.prompt} resulted in {sent}. Please reduce the length of the {route.prompt}."
        )
    if wanted is None:
        return f"{said}your {route.prompt} resulted in {prompt} tokens. Please reduce the length of the {route.prompt}."
    return (
        f"{said}you requested {int(prompt) + int(wanted.group(1))} tokens ({prompt} in the {route.prompt}, "
        f"{wanted.group(1)} in the completion). Please reduce the length of the {route.prompt} or completion."
    )


def _anthropic(limit: int, prompt: str | None) -> str:
    return f"prompt is too long: {prompt or f'more than {limit}'} tokens > {limit} maximum"
