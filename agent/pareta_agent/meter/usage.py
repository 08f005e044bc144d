"""Engine usage: reads a request's token counts from the engine's answer, and checks whether the counts are possible.

Reads the usage object of every answer shape (chat, completions, embeddings, responses, messages). An implausible
count is kept and marked `suspect`, never clamped. Pure; no notion of streams or prices.
"""

from __future__ import annotations

from typing import Any

from pareta_agent.contract.usage_record import Tokens, UsageSource
from pareta_agent.value import value


@value
class Bounds:
    """The most that a request can use: `prompts` × `choices` answers; None where no limit is known.

    `counts_output` is False for routes that generate nothing (embeddings, score), where the output must be 0.
    """

    prompts: int = 1
    choices: int = 1
    max_tokens: int | None = None
    max_model_len: int | None = None
    counts_output: bool = True


def tokens_of(usage: dict[str, Any]) -> Tokens | None:
    """Returns the counts of a parsed usage object; None for a negative or non-integer count, or no count at all."""
    prompt_key, output_key = (
        ("prompt_tokens", "completion_tokens")
        if "prompt_tokens" in usage
        else ("input_tokens", "output_tokens")
    )
    whole, output = _count(usage.get(prompt_key)), _count(usage.get(output_key))
    cached = _detail(usage, f"{prompt_key}_details", "cached_tokens")
    reasoning = _detail(usage, f"{output_key}_details", "reasoning_tokens")
    if whole is None or output is None or cached is None or reasoning is None:
        return None
    if not (prompt_key in usage or output_key in usage):
        return None
    if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
        read, created = (
            _count(usage.get("cache_read_input_tokens")),
            _count(usage.get("cache_creation_input_tokens")),
        )
        if read is None or created is None:
            return None
        return Tokens(
            whole + read + created, read, output, reasoning
        )  # Anthropic messages: `input_tokens` excludes cached tokens
    return Tokens(whole, cached, output, reasoning)


def judge(tokens: Tokens | None, bounds: Bounds, chunks: int = 0) -> tuple[Tokens, UsageSource]:
    """Returns the tokens to record and their source.

    Without a usage object, the content chunks (`chunks`) count as output tokens, an undercount.
    """
    if tokens is None:
        return (Tokens(output=chunks), "chunk_count") if chunks else (Tokens(), "none")
    return tokens, "engine_final" if plausible(tokens, bounds) else "suspect"


def plausible(tokens: Tokens, bounds: Bounds) -> bool:
    """Checks that counts are possible: 0 ≤ cached ≤ input ≤ max_model_len · prompts, and output within the limit.

    On routes that generate nothing, two prompts may be a pair with a token between them.
    """
    answers = bounds.prompts * bounds.choices
    ordered = 0 <= tokens.input_cached <= tokens.input and 0 <= tokens.output_reasoning <= tokens.output
    context, limit = bounds.max_model_len, bounds.max_tokens
    between = 0 if bounds.counts_output else bounds.prompts // 2
    input_fits = context is None or tokens.input <= context * bounds.prompts + between
    if not bounds.counts_output:
        return ordered and input_fits and tokens.output == 0
    if limit is None or (context is not None and context < limit):
        limit = context
    return ordered and input_fits and (limit is None or tokens.output <= answers * (limit + 1))


def _detail(usage: dict[str, Any], details: str, key: str) -> int | None:
    found = usage.get(details)
    return _count(found.get(key)) if isinstance(found, dict) else 0


def _count(value: Any) -> int | None:
    """Returns 0 for an absent count, None for an invalid count."""
    if value is None:
        return 0
    return value if type(value) is int and value >= 0 else None
