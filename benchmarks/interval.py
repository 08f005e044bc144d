"""How sure a ratio is: pairs measured one after the other, and what resampling them says of their mean."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

RESAMPLES = 4000


def ratio_of(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The geometric mean of second / first over the pairs, with its bootstrap interval of 95 %."""
    logs = [math.log(after / before) for before, after in pairs]
    dice = random.Random(1)
    means = sorted(statistics.fmean(dice.choices(logs, k=len(logs))) for _ in range(RESAMPLES))
    low, high = means[int(RESAMPLES * 0.025)], means[int(RESAMPLES * 0.975)]
    return math.exp(statistics.fmean(logs)), math.exp(low), math.exp(high)


def verdict(low: float, high: float, most: float) -> str:
    """Whether what is to be at most `most` is so: as sure as the interval is."""
    if high <= most:
        return "met"
    return "not met" if low > most else "not shown: the interval holds the target"
