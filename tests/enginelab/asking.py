"""A caller of a node on real vLLM, who notes of each call what the engine told: counts, and how its answers ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

Chunk = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call as its caller saw it; `usage` is None where the engine's was not shown, `cut` a body without its end."""

    id: str
    status: int
    usage: dict[str, Any] | None = None
    finish_reasons: tuple[str, ...] = ()
    cut: bool = False

    @property
    def tokens(self) -> tuple[int, int]:
        """Of the prompt and of the answers, by the names of either family of routes."""
        assert self.usage is not None
        names = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
        prompt, answers = (self.usage[name] for name in names if name in self.usage)
        return prompt, answers

    @property
    def cached(self) -> int:
        return self._detail("cached_tokens")

    @property
    def reasoning(self) -> int:
        return self._detail("reasoning_tokens")

    def _detail(self, name: str) -> int:
        assert self.usage is not None
        details = (value for key, value in self.usage.items() if key.endswith("_details") and value)
        return sum(value.get(name) or 0 for value in details)


class Caller:
    def __init__(self, ready: dict[str, Any]) -> None:
        self.endpoint = ready["endpoints"][0]["id"]
        key = {"Authorization": f"Bearer {ready['api_key']}"}
        self.http = httpx.Client(base_url=ready["base_url"], headers=key, timeout=120)

    def body(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"model": self.endpoint, "temperature": 0, **fields}

    def whole(self, path: str, fields: dict[str, Any]) -> Call:
        answer = self.http.post(path, json=self.body(fields))
        said = answer.json()
        return Call(answer.headers["x-request-id"], answer.status_code, said.get("usage"), _reasons(said))

    def streamed(
        self, path: str, fields: dict[str, Any], enough: Callable[[Chunk], bool] = lambda _: False
    ) -> Call:
        """Reads to the end, or hangs up at the first chunk that is `enough`."""
        usage, cut = None, False
        reasons: tuple[str, ...] = ()
        with self.http.stream("POST", path, json=self.body(fields) | {"stream": True}) as answer:
            try:
                for line in answer.iter_lines():
                    if not line.startswith("data: {"):
                        continue
                    chunk = json.loads(line[6:])
                    usage = (chunk.get("response") or chunk).get("usage") or usage
                    reasons += _reasons(chunk)
                    if enough(chunk):
                        break
            except httpx.RemoteProtocolError:
                cut = True
        return Call(answer.headers["x-request-id"], answer.status_code, usage, reasons, cut)


def says(what: str) -> Callable[[Chunk], bool]:
    """Whether a chunk has some of that: `content`, `reasoning`, or `tool_calls`."""
    return lambda chunk: any(choice.get("delta", {}).get(what) for choice in chunk.get("choices", ()))


def finished(chunk: Chunk) -> bool:
    return bool(_reasons(chunk))


def _reasons(said: dict[str, Any]) -> tuple[str, ...]:
    return tuple(c["finish_reason"] for c in said.get("choices", ()) if c["finish_reason"])
