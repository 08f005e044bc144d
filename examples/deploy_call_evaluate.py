"""An endpoint's whole life with the `pareta` SDK: deploy, call, evaluate, read metrics, delete.

Usage: python examples/deploy_call_evaluate.py [TASK]
"""

from __future__ import annotations

import sys

from pareta import Pareta

ROWS = [
    {"input": "It shall be governed by the laws of France. Which law governs it?", "expected": "France"},
    {"input": "It ends on 1 May 2026. When does it end?", "expected": "1 May 2026"},
]


def main() -> None:
    pa = Pareta.from_env()  # PARETA_API_KEY and PARETA_BASE_URL
    task = sys.argv[1] if len(sys.argv) > 1 else "contract-key-fields"

    for event in pa.endpoints.deploy(task=task, name="example"):
        print(event["event"], event["data"].get("message", ""))
    endpoint = pa.endpoints.retrieve("ep_example")
    print(f"deployed: {endpoint.id} is {endpoint.status}")

    try:
        question = [{"role": "user", "content": ROWS[0]["input"]}]
        answer = pa.chat.completions.create(model=endpoint.id, messages=question)
        print(f"answer: {answer.choices[0].message.content}")
        print(f"tokens: {answer.usage.total_tokens}")

        model = pa.tasks.leaderboard(task).recommended
        run = pa.evals.runs.create(task=task, items=ROWS, models=[model], wait=True, poll_interval=0.5)
        for result in run.results:
            print(f"quality of {result.model_id}: {result.quality_mean} ({result.error_count} errors)")
        print(f"cost of the run: {run.cost_micro_usd} micro-USD")

        latency = pa.endpoints.metrics(endpoint.id).performance(window="1h")["latency_ms"]
        print(f"latency in ms: {latency}")
    finally:
        pa.endpoints.delete(endpoint.id)
        print("deleted")


if __name__ == "__main__":
    main()
