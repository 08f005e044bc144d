"""Backoff: computes the delay before a retry, which grows exponentially to a cap and is jittered.

Pure: the random draw is an argument, and the caller waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

# Caps the exponent, for the cap of the delay comes too late: 2.0 ** 1024 is an OverflowError.
_MOST_DOUBLINGS: Final = 30


class Jitter(NamedTuple):
    """The range of a random delay, as ratios of the exponential delay."""

    low: float
    high: float


NO_JITTER: Final = Jitter(1.0, 1.0)
# Both from the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).
FULL_JITTER: Final = Jitter(0.0, 1.0)
EQUAL_JITTER: Final = Jitter(0.5, 1.0)


def spread(ratio: float) -> Jitter:
    """±`ratio` around the exponential delay. Source: gRPC's Connection Backoff Protocol (there 0.2)."""
    return Jitter(1 - ratio, 1 + ratio)


@dataclass(frozen=True, slots=True)
class Backoff:
    """`first_s` after the first failure, doubled by each further failure, at most `cap_s`; then drawn from `jitter`."""

    first_s: float
    cap_s: float
    jitter: Jitter = NO_JITTER

    def delay_s(self, failures: int, draw: float = 0.0) -> float:
        """The delay after `failures` failures in a row, from 1; at most `cap_s`, jitter included.

        `draw` in [0, 1) selects the point of the jitter's range.
        """
        exponential_s = min(self.cap_s, self.first_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
        low, high = self.jitter
        return min(self.cap_s, exponential_s * (low + (high - low) * draw))
