"""Agent frameworks, unmodified, against a running node, one call each: prints what each of them got as JSON.

usage: frameworks.py BASE_URL API_KEY ENDPOINT (run by the interpreter of `requirements.txt`).
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any, Literal

import agents
import instructor
import openai
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

BASE_URL, API_KEY, ENDPOINT = sys.argv[1:]
QUESTION = "Acme leases an office in Paris to Borealis from 2025 on. Return the key fields."
RAIN = "Will it rain in Oslo?"

# Values of a few tokens: what is tested is that an answer has its shape, not what so small a model would write.
Country = Literal["France", "Germany", "Norway"]


class Place(BaseModel):
    country: Country
    capital: bool


class Contract(BaseModel):
    """The key fields of a contract."""

    kind: Literal["lease", "sale", "loan"]
    year: Literal[2024, 2025, 2026]
    office: Place
    law: Place | None


def weather(country: Country, capital: bool) -> str:
    """Looks up the weather of a country or its capital."""
    return f"rain in {country} ({capital})"


def langchain_schema() -> Any:
    return _langchain().with_structured_output(Contract).invoke(QUESTION)


def langchain_function() -> Any:
    return _langchain().with_structured_output(Contract, method="function_calling").invoke(QUESTION)


def langchain_tool() -> Any:
    model = _langchain().bind_tools([tool(weather)], tool_choice="required", parallel_tool_calls=False)
    (call,) = model.invoke(RAIN).tool_calls
    return Place(**call["args"])


def _langchain() -> ChatOpenAI:
    return ChatOpenAI(model=ENDPOINT, base_url=BASE_URL, api_key=API_KEY, max_retries=0)


def pydantic_ai_schema() -> Any:
    return _pydantic_ai(NativeOutput(Contract))


def pydantic_ai_tool() -> Any:
    return _pydantic_ai(ToolOutput(Contract))


def _pydantic_ai(output: Any) -> Any:
    model = OpenAIChatModel(ENDPOINT, provider=OpenAIProvider(base_url=BASE_URL, api_key=API_KEY))
    return Agent(model, output_type=output, retries=0).run_sync(QUESTION).output


def openai_agents_schema() -> Any:
    agent = agents.Agent(name="reader", model=_agents_model(), output_type=Contract)
    return agents.Runner.run_sync(agent, QUESTION, max_turns=1).final_output


def openai_agents_tool() -> Any:
    called: list[Place] = []

    @agents.function_tool
    def look_up(country: Country, capital: bool) -> str:
        called.append(Place(country=country, capital=capital))
        return weather(country, capital)

    agent = agents.Agent(
        name="weather",
        model=_agents_model(),
        tools=[look_up],
        tool_use_behavior="stop_on_first_tool",
        model_settings=agents.ModelSettings(tool_choice="required", parallel_tool_calls=False),
    )
    agents.Runner.run_sync(agent, RAIN, max_turns=1)
    return called[0]


def _agents_model() -> agents.OpenAIResponsesModel:
    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0)
    return agents.OpenAIResponsesModel(model=ENDPOINT, openai_client=client)


def instructor_tool() -> Any:
    return _instructor(instructor.Mode.TOOLS)


def instructor_schema() -> Any:
    return _instructor(instructor.Mode.JSON_SCHEMA)


def _instructor(mode: instructor.Mode) -> Any:
    client = instructor.from_openai(
        openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0), mode=mode
    )
    turns = [{"role": "user", "content": QUESTION}]
    return client.chat.completions.create(
        model=ENDPOINT, messages=turns, response_model=Contract, max_retries=0
    )


def llama_index_tool() -> Any:
    return _llama_index(is_function_calling_model=True)


def llama_index_schema() -> Any:
    return _llama_index(should_use_structured_outputs=True)


def _llama_index(**options: Any) -> Any:
    where = {"model": ENDPOINT, "api_base": BASE_URL, "api_key": API_KEY, "max_retries": 0}
    model = OpenAILike(**where, is_chat_model=True, **options)
    return model.as_structured_llm(Contract).chat([ChatMessage(role="user", content=QUESTION)]).raw


CALLS: dict[str, tuple[Callable[[], Any], type[BaseModel]]] = {
    "langchain_schema": (langchain_schema, Contract),
    "langchain_function": (langchain_function, Contract),
    "langchain_tool": (langchain_tool, Place),
    "pydantic_ai_schema": (pydantic_ai_schema, Contract),
    "pydantic_ai_tool": (pydantic_ai_tool, Contract),
    "openai_agents_schema": (openai_agents_schema, Contract),
    "openai_agents_tool": (openai_agents_tool, Place),
    "instructor_schema": (instructor_schema, Contract),
    "instructor_tool": (instructor_tool, Contract),
    "llama_index_schema": (llama_index_schema, Contract),
    "llama_index_tool": (llama_index_tool, Contract),
}


def result(call: Callable[[], Any], shape: type[BaseModel]) -> str:
    """`ok` where the call brought an object of its shape, else the error that its user would see."""
    try:
        got = call()
    except Exception:
        return traceback.format_exc()
    return "ok" if isinstance(got, shape) else f"no {shape.__name__}: {got!r}"


if __name__ == "__main__":
    print(json.dumps({name: result(*call) for name, call in CALLS.items()}))
