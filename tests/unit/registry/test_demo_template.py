"""The demo's chat template: the model's own for what its own can say, and tools beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pareta_registry.load import CHAT_TEMPLATES

OWN = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""What SmolLM2's GGUF holds."""
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": 'a "b" <c>'}}}


def rendered(template: str, turns: list[dict[str, Any]], **options: Any) -> str:
    """As transformers renders, whose `tojson` escapes nothing."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = json.dumps
    return environment.from_string(template).render(messages=turns, **options)


def ours(turns: list[dict[str, Any]], **options: Any) -> str:
    return rendered(CHAT_TEMPLATES["tools"].read_text(), turns, **options)


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("system", [[], [{"role": "system", "content": " You read\ncontracts. "}]])
def test_a_talk_without_tools_is_rendered_as_the_model_knows_it(
    system: list[dict[str, Any]], prompt: bool
) -> None:
    """To the character: another prompt would be another answer."""
    turns = [("user", "Hi & <b>"), ("assistant", " Hello.\n"), ("user", ""), ("developer", "x")]
    talk = [*system, *({"role": role, "content": content} for role, content in turns)]
    assert ours(talk, add_generation_prompt=prompt) == rendered(OWN, talk, add_generation_prompt=prompt)


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "You read contracts."}]])
def test_tools_are_offered_once_in_the_system_prompt(system: list[dict[str, Any]]) -> None:
    """With or without a system prompt of the caller's."""
    text = ours([*system, {"role": "user", "content": "Rain?"}], tools=[TOOL], add_generation_prompt=True)
    first, rest = text.split("<|im_end|>", 1)
    assert first.startswith("<|im_start|>system\nYou ")
    assert f"<tools>{json.dumps([TOOL])}</tools>" in first
    assert rest == "\n<|im_start|>user\nRain?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("content", [None, "", "I look it up."])
def test_an_agents_second_turn_is_rendered(content: str | None) -> None:
    """Calls in the form that the `xlam` parser reads, whose turn has no text, and their results."""
    turns = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": content, "tool_calls": [CALL, CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "none"},
    ]
    text = ours(turns, tools=[TOOL])
    called = text.split("<|im_start|>assistant\n")[1].split("<|im_end|>")[0]
    assert called.startswith(f"{content or ''}<tool_call>")
    calls = json.loads(called.split("<tool_call>")[1].removesuffix("</tool_call>"))
    assert calls == [{"name": "weather", "arguments": {"city": 'a "b" <c>'}}] * 2
    assert text.endswith("<|im_start|>tool\nnone<|im_end|>\n")
