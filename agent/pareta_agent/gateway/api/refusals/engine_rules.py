"""Engine rules: match an engine's refusals that need more than a field's name. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api.refusals.allowed_values import not_allowed
from pareta_agent.gateway.api.routes import Route

# Stand for the route's own names: of the prompt, the documents, the limit of output tokens; and for the field that the
# message names.
_PROMPT, _DOCUMENTS, _LIMIT, _NAMED = "{prompt}", "{documents}", "{limit}", "{field}"
_CONTEXT: Final = "an integer from 1 to {most}, the endpoint's context"
_TEXTS: Final = (
    "text",
    "input_text",
    "output_text",
    "refusal",
    "thinking",
    "tool_use",
    "tool_result",
    "message",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Refuses the first of `fields` that the caller sent, else the last; the pattern's groups fill `allowed`.

    `media`: the message lists the kinds of media in the prompt.
    """

    pattern: re.Pattern[str]
    fields: tuple[str, ...]
    allowed: str = ""
    media: bool = False


def _rule(pattern: str, *fields: str, allowed: str = "", media: bool = False) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE), fields, allowed, media)


RULES: Final = (
    _rule(
        r"requires .*--tool-call-parser|tool parser",
        "tools",
        "tool_choice",
        allowed="left out or of no use ('tool_choice' none), for this endpoint's model calls no tools",
    ),
    _rule(
        r"not a multimodal model|does not support \w+ input",
        _PROMPT,
        allowed="text, for this endpoint's model reads nothing else",
        media=True,
    ),
    _rule(
        r"At most (?P<most>\d+) (?P<kind>\w+)\(s\) may be provided",
        _PROMPT,
        allowed="a prompt with at most {most} of the kind {kind}",
        media=True,
    ),
    _rule(r"unsupported chat content part|for ValidatorIterator|'loc': 'body\.0\.", _PROMPT, media=True),
    _rule(r"unsupported language", "language"),
    _rule(
        r"exceeds maximum allowed duration of (?P<most>[\d.]+)s",
        _PROMPT,
        allowed="made of recordings of at most {most} seconds each",
        media=True,
    ),
    _rule(r"maximum file size exceeded", _PROMPT, allowed="a recording of at most 25 MB", media=True),
    _rule(
        r"image dimensions .* exceed the maximum of (?P<most>\d+) pixels",
        _PROMPT,
        allowed="made of images of at most {most} pixels each",
        media=True,
    ),
    _rule(
        r"(?:load|open|decode|identify|read) (?:the )?(?:image|audio|video)|base64|corrupted|(?:unsupported|no) audio",
        _PROMPT,
        allowed="made of media that can be decoded",
        media=True,
    ),
    _rule(
        r"logprobs of \d+, which is greater than max allowed: (?P<most>\d+)",
        "top_logprobs",
        "logprobs",
        allowed="an integer from 0 to {most}",
    ),
    _rule(
        r"in (?P<field>\w+) contain out-of-vocab token ids\. Vocabulary size: (?P<size>\d+)",
        _NAMED,
        allowed="made of token ids from 0 to {last}",
    ),
    _rule(r"out of vocabulary", _PROMPT, allowed="made of token ids of the endpoint's vocabulary"),
    _rule(r"when using greedy sampling", "n", allowed="1 where the temperature is 0"),
    _rule(
        r"(?P<limit>max_\w+)=(?P<sent>\d+) cannot be greater than \w+ ?= ?(?P<most>\d+)",
        _LIMIT,
        allowed=_CONTEXT,
    ),
    _rule(
        r"min_tokens must be less than or equal to max_tokens=(?P<most>\d+)",
        "min_tokens",
        allowed="an integer from 0 to {most}, the most output tokens of the answer",
    ),
    _rule(
        r"truncate_prompt_tokens\D*\d* cannot be greater than \w+ ?= ?(?P<most>\d+)",
        "truncate_prompt_tokens",
        allowed=f"{_CONTEXT}, or -1 for all of it",
    ),
    _rule(r"tool with name .* is not found", "tool_choice"),
    _rule(r"cannot set both `continue_final_message`", "continue_final_message"),
    _rule(
        r"reasoning_config is not configured",
        "thinking_token_budget",
        allowed="left out, for this endpoint's model has no budget of thoughts",
    ),
    _rule(
        r"chat template is passed",
        "chat_template_kwargs",
        allowed="free of 'chat_template', for the endpoint's own applies",
    ),
    _rule(r"prompt cannot be empty|pass at least one prompt", "truncate_prompt_tokens", _PROMPT),
    _rule(r"at least one text", _DOCUMENTS),
    _rule(
        r"input lengths must be",
        _DOCUMENTS,
        allowed="as many texts as its pair has, or any number for one text",
    ),
    _rule(
        r"MultiModalParam is not supported",
        _DOCUMENTS,
        allowed="text, for this endpoint's model reads nothing else",
    ),
    _rule(
        r"Matryoshka",
        "dimensions",
        allowed="left out, for this endpoint's model gives one number of dimensions",
    ),
    _rule(r"too many bad words", "bad_words"),
)


def by_rule(message: str, route: Route, fields: Mapping[str, Any]) -> Problem | None:
    """The refusal by the first rule that matches."""
    for rule in RULES:
        if found := rule.pattern.search(message):
            return _refusal(rule, found.groupdict(), route, fields)
    return None


def limit_of(route: Route, fields: Mapping[str, Any], named: str) -> str:
    """The field in which the caller set the limit of the answer; `named` by the engine if there is none."""
    sent = next((name for name in route.limits if fields.get(name) is not None), None)
    return sent or (named if named in route.fields else route.limits[0])


def _refusal(rule: Rule, groups: dict[str, str], route: Route, fields: Mapping[str, Any]) -> Problem | None:
    names = {
        _PROMPT: route.prompt,
        _DOCUMENTS: route.documents or route.prompt,
        _NAMED: groups.get("field", ""),
    }
    names[_LIMIT] = limit_of(route, fields, groups.get("limit", ""))
    named = [names.get(name, name) for name in rule.fields]
    field = next((name for name in named if fields.get(name) is not None), named[-1])
    if field not in route.fields:
        return None
    allowed = rule.allowed.format(last=int(groups.get("size") or 1) - 1, **groups)
    return not_allowed(field, fields, allowed, _sent(rule, groups, fields.get(field)))


def _sent(rule: Rule, groups: Mapping[str, str], held: Any) -> str | None:
    """The text for the value sent, if that is not the field itself."""
    if rule.media:
        kinds = ", ".join(f"{count} {kind}" for kind, count in _media(held).items())
        return f"; you sent {kinds}" if kinds else None
    return f"; you sent {groups['sent']}" if held is None and "sent" in groups else None


def _media(prompt: Any) -> Counter[str]:
    """The number of parts of each kind that are not text."""
    return Counter(kind for kind in _kinds(prompt) if kind not in _TEXTS)


def _kinds(prompt: Any) -> Iterator[str]:
    if isinstance(prompt, list):
        for each in prompt:
            yield from _kinds(each)
    elif isinstance(prompt, dict):
        if isinstance(prompt.get("type"), str):
            yield prompt["type"][:40]
        yield from _kinds(prompt.get("content"))
