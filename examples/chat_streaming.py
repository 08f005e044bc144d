"""Chat: streams one answer from an endpoint with the OpenAI SDK, then prints the usage that the node meters.

Usage: python examples/chat_streaming.py [ENDPOINT]
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI

ROOT = os.environ.get("PARETA_BASE_URL", "http://127.0.0.1:8000")
QUESTION = "What is the capital of France?"


def main() -> None:
    client = OpenAI(base_url=f"{ROOT}/v1", api_key=os.environ["PARETA_API_KEY"])
    endpoint = sys.argv[1] if len(sys.argv) > 1 else next(iter(client.models.list())).id
    stream = client.chat.completions.create(
        model=endpoint,
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    print(f"{endpoint}: ", end="")
    for chunk in stream:
        # The last chunk has no choice: it carries the usage alone.
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage is not None:
            print(f"\n{chunk.usage.prompt_tokens} input and {chunk.usage.completion_tokens} output tokens")


if __name__ == "__main__":
    main()
