"""Memory that an engine held comes back, or its holder is named."""

from __future__ import annotations

from dataclasses import dataclass, field

from pareta_agent.engine.process.gpu_memory import Held, free_by_uuid, held, until_released
from pareta_agent.hardware.inventory import Gpu, GpuProcess

GIB = 1024**3


def gpu(uuid: str, free_gib: float | None, *pids: int) -> Gpu:
    processes = tuple(GpuProcess(pid) for pid in pids)
    free = None if free_gib is None else int(free_gib * GIB)
    return Gpu(uuid=uuid, memory_free_bytes=free, processes=processes)


@dataclass
class Hands:
    """A clock that moves when somebody sleeps."""

    now_s: float = 0.0
    slept: list[float] = field(default_factory=list)

    def wall_s(self) -> float:
        return self.now_s

    mono_s = boot_s = wall_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_baseline_is_of_the_gpus_that_are_used() -> None:
    """Others do not matter, unknown is left out."""
    assert free_by_uuid([gpu("a", 80), gpu("b", 10), gpu("c", None)], ("a", "c")) == {"a": 80 * GIB}


def test_a_little_less_is_the_driver_and_much_less_is_somebody() -> None:
    """The holder is named by pid."""
    now = [gpu("a", 79.8), gpu("b", 40, 4711)]
    assert held(now, {"a": 80 * GIB, "b": 80 * GIB}) == [Held("b", 40 * GIB, (4711,))]


async def test_waits_for_the_driver_and_no_longer_than_told() -> None:
    """The memory is back after a second and a half; a stranger's never comes."""
    clock = Hands()
    readings = iter([[gpu("a", 10)], [gpu("a", 50)], [gpu("a", 80)]])
    assert await until_released(lambda: tuple(next(readings)), {"a": 80 * GIB}, clock, 10) == []
    assert clock.now_s == 1.0
    stranger = (gpu("a", 10, 99),)
    assert await until_released(lambda: stranger, {"a": 80 * GIB}, clock, 3) == [Held("a", 70 * GIB, (99,))]
    assert clock.now_s == 4.0
