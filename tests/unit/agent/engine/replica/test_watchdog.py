"""When an engine counts as hung."""

from __future__ import annotations

from pareta_agent.engine.process.compilers import Stillness
from pareta_agent.engine.replica.watchdog import TokenProgress, counters

METRICS = """# TYPE vllm:generation_tokens_total counter
vllm:num_requests_running{engine="0",model_name="ep_x"} 3.0
vllm:prompt_tokens_total{engine="0",model_name="ep_x"} 37.0
vllm:generation_tokens_total{engine="0",model_name="ep_x"} 8.0
vllm:iteration_tokens_total_count{engine="0",model_name="ep_x"} 9.0
"""


def test_counters_are_those_that_grow_with_work() -> None:
    """Gauges do not count; silence is None."""
    assert counters(METRICS) == ("37.0", "8.0", "9.0")
    assert counters(None) is None


def test_requests_without_tokens_hang_after_the_limit() -> None:
    """Standing still is a hang only past the limit."""
    progress = TokenProgress(10.0, Stillness(100.0), 0.0)
    assert [progress.hangs(t, ("1",), pending=True) for t in (1.0, 6.0, 11.0, 11.5)] == [
        False,
        False,
        False,
        True,
    ]


def test_slow_is_not_hung() -> None:
    """A token now and then is progress, however slow."""
    progress = TokenProgress(10.0, Stillness(100.0), 0.0)
    assert not any(progress.hangs(9.0 * n, (str(n),), pending=True) for n in range(1, 50))


def test_idle_never_hangs_but_silence_does() -> None:
    """No request, no progress needed; an engine whose metrics cannot be read is judged by the limit."""
    progress = TokenProgress(10.0, Stillness(100.0), 0.0)
    assert not progress.hangs(1000.0, ("1",), pending=False)
    assert not progress.hangs(1009.0, None, pending=False)
    assert progress.hangs(1011.0, None, pending=False)


def test_a_compiler_excuses_an_engine_up_to_a_limit() -> None:
    """It stands still while it compiles, then has its limit again; a compiler that never ends is a hang."""
    progress = TokenProgress(10.0, Stillness(100.0), 0.0)
    assert not any(progress.hangs(5.0 * n, None, pending=True, compiling=True) for n in range(1, 9))
    assert [progress.hangs(t, None, pending=True) for t in (45.0, 50.0, 51.0)] == [False, False, True]
    forever = TokenProgress(10.0, Stillness(100.0), 0.0)
    hung = [t for t in range(0, 200, 5) if forever.hangs(float(t), None, pending=True, compiling=True)]
    assert hung[0] == 115
