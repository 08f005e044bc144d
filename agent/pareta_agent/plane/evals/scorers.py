"""Scorers: score an answer from 0 to 1, by the scorer of the task; average the scores with an interval. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

RELATIVE_TOLERANCE: Final = 0.01
RESAMPLES: Final = 2000
_GROUPING: Final = ",'\u00a0\u202f"  # thousands separators
_NUMBER: Final = re.compile(rf"[-+−]?\d[\d{_GROUPING}]*(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+−]?\.\d+")
_FENCE: Final = re.compile(r"```(?:\w*)\n(.*?)```", re.DOTALL)
Scorer = Callable[[str, Any], float]


@dataclass(frozen=True, slots=True)
class ScoreInterval:
    """The mean of scores, and the interval of the mean in 95 of 100 resamples."""

    mean: float
    low: float
    high: float


def exact(answer: str, expected: Any) -> float:
    """Returns 1 when the answer is the expected text, apart from surrounding white space."""
    return float(answer.strip() == _text(expected).strip())


def normalised(answer: str, expected: Any) -> float:
    """Returns 1 for the same words in the same order: case, punctuation and character width do not count."""
    return float(words(answer) == words(_text(expected)))


def label_accuracy(answer: str, expected: Any) -> float:
    """Returns 1 when the first non-empty line is the expected label, with or without a name before a colon."""
    line = next((each for each in answer.splitlines() if words(each)), "")
    wanted = words(_text(expected))
    return float(wanted in (words(line), words(line.rpartition(":")[2])))


def numeric(answer: str, expected: Any) -> float:
    """Returns 1 when the answer's last number is within one percent of the expected number."""
    found, wanted = _numbers(answer), _numbers(_text(expected))
    if not found or not wanted:
        return 0.0
    return float(abs(found[-1] - wanted[-1]) <= RELATIVE_TOLERANCE * abs(wanted[-1]) + 1e-9)


def token_f1(answer: str, expected: Any) -> float:
    """Returns the harmonic mean of precision and recall over words, as in SQuAD (Rajpurkar et al. 2016, §4.1)."""
    return _f1(Counter(words(answer)), Counter(words(_text(expected))))


def json_key_f1(answer: str, expected: Any) -> float:
    """Returns F1 over the leaves of the expected JSON: a leaf counts when path and words match.

    The JSON may stand in a fence or between the first and the last brace; any other answer scores 0.
    """
    found = _json_in(answer)
    if found is None:
        return 0.0
    wanted = _json_in(expected) if isinstance(expected, str) else expected
    return _f1(Counter(_leaves(found)), Counter(_leaves(wanted)))


SCORERS: Final[dict[str, Scorer]] = {
    "exact": exact,
    "normalised": normalised,
    "label-accuracy": label_accuracy,
    "numeric": numeric,
    "token-f1": token_f1,
    "json-key-f1": json_key_f1,
}
DEFAULT: Final = "normalised"


def quality(scores: Sequence[float]) -> ScoreInterval | None:
    """Returns the mean with a percentile bootstrap interval (Efron 1979); deterministic; None without scores."""
    if not scores:
        return None
    import numpy as np  # imported here: a start of the plane must not pay for the import

    seen = np.asarray(scores, dtype=float)
    draw = np.random.default_rng(0).integers
    means = [seen[draw(0, len(seen), len(seen))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return ScoreInterval(float(seen.mean()), float(low), float(high))


def words(text: str) -> list[str]:
    """Returns the words of a text in normal form: NFKC, no case, no punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c if c.isalnum() else " " for c in folded).split()


def _text(expected: Any) -> str:
    return expected if isinstance(expected, str) else orjson.dumps(expected).decode()


def _numbers(text: str) -> list[float]:
    found = [re.sub(f"[{_GROUPING}]", "", each).replace("−", "-") for each in _NUMBER.findall(text)]
    return [float(each) for each in found]


def _f1(found: Counter[Any], wanted: Counter[Any]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    right = (found & wanted).total()
    return 2 * right / (found.total() + wanted.total())


def _json_in(text: str) -> Any:
    first = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    last = max(text.rfind("}"), text.rfind("]"))
    for candidate in (text, *_FENCE.findall(text), text[first : last + 1] if first >= 0 else ""):
        try:
            return orjson.loads(candidate)
        except orjson.JSONDecodeError:
            continue
    return None


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields (path, words) of each leaf; the order of a list does not count."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, " ".join(words(key))))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, (*path, "[]"))
    else:
        yield path, " ".join(words(_text(value)))
