"""Task match: finds the task for a free text, by BM25 over word stems and pieces of words.

Pure and lexical: the words of titles, descriptions and examples decide. A score is the part of the query's
information that the task explains. A low best score is "unsupported", and between the thresholds the verdict is
"none".
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import bm25s
import numpy as np
import snowballstemmer

from pareta_registry.catalog import Task

Confidence = Literal["high", "medium", "low"]
Verdict = Literal["task", "unsupported", "none"]
Tokens = list[str]

# Chosen on the part of tests/data/phrasings.jsonl that is not held out.
UNSUPPORTED, SUPPORTED, MEDIUM, HIGH = 0.12, 0.18, 0.3, 0.5
AMBIGUOUS_FROM = 0.8  # of the best score
_WORDS_SHARE = 0.8
_K1, _B = 0.6, 0.75
_PIECE = 4
_LEAST_TASKS = 16
_WORD = re.compile(r"[^\W_]+")
# Words of every request, whatever the task.
_SAID_ANYWAY = frozenset(
    """a an and are as at automate be build by can could create decide detect do does find for from generate get give
    handle has have help how i identify in into is it its like make me my need of on or our out please should so that
    the their them this to turn us use want we what when where which who whom will with would write you your""".split()  # noqa: SIM905
)
_stem = snowballstemmer.stemmer("english").stemWord


@dataclass(frozen=True, slots=True)
class TaskCandidate:
    """`score` is between 0 and 1; `confidence` is the score as a word."""

    task: str
    score: float
    confidence: Confidence


class Matcher:
    """An index over a catalog's tasks, made once."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._ids = [task.id for task in tasks]
        self._indexes = [(share, _Index(tasks, split)) for share, split in _SPLITS]

    def ranked(self, query: str) -> list[TaskCandidate]:
        """Returns every task, best first."""
        shares = [weight * index.shares(query) for weight, index in self._indexes]
        scores = np.sum(shares, axis=0)
        order = np.argsort(-scores, kind="stable")
        return [_candidate(self._ids[at], min(1.0, float(scores[at]))) for at in order]


def verdict(ranked: Sequence[TaskCandidate]) -> Verdict:
    """Returns `task` when the best task fits, `unsupported` when no task fits, `none` when the words do not decide."""
    best = ranked[0].score if ranked else 0.0
    return "task" if best >= SUPPORTED else "unsupported" if best < UNSUPPORTED else "none"


def ambiguous(ranked: Sequence[TaskCandidate]) -> bool:
    """True when the second task scores nearly as high as the first."""
    return len(ranked) > 1 and ranked[1].score >= max(SUPPORTED, AMBIGUOUS_FROM * ranked[0].score)


class _Index:
    def __init__(self, tasks: Sequence[Task], split: Callable[[str], Tokens]) -> None:
        documents = [_tokens(task, split) for task in tasks]
        self._split, self._tasks = split, len(documents)
        self._found_in = Counter(token for document in documents for token in set(document))
        documents += _silent(documents)
        self._size = len(documents)
        self._bm25 = bm25s.BM25(method="lucene", k1=_K1, b=_B)
        self._bm25.index(documents, show_progress=False)

    def shares(self, query: str) -> np.ndarray:
        """Returns each task's BM25 score, divided by the weight of all query words; unknown words weigh most."""
        asked = self._split(query)
        known = [token for token in asked if token in self._found_in]
        if not known:
            return np.zeros(self._tasks)
        scores: np.ndarray = self._bm25.get_scores(known)[: self._tasks]
        return scores / sum(map(self._weight, asked))

    def _weight(self, token: str) -> float:
        found_in = self._found_in[token]
        return math.log(1 + (self._size - found_in + 0.5) / (found_in + 0.5))


def _tokens(task: Task, split: Callable[[str], Tokens]) -> Tokens:
    """Counts the words of a description twice, because the description defines the task."""
    name = f"{task.id.replace('-', ' ')} {task.title}"
    examples = " ".join(example.input for example in task.examples)
    return split(name) + 2 * split(task.description) + split(examples)


def _silent(documents: Sequence[Tokens]) -> list[Tokens]:
    """Pads a small catalog to the size for which the thresholds were chosen.

    With two tasks alone, a shared word would weigh nothing, and an unknown word too much.
    """
    mean = round(sum(map(len, documents)) / len(documents)) if documents else 1
    return [["\0"] * mean] * max(0, _LEAST_TASKS - len(documents))


def _stems(text: str) -> Tokens:
    return [_stem(word) for word in _WORD.findall(text.lower()) if word not in _SAID_ANYWAY]


def _pieces(text: str) -> Tokens:
    return [piece for stem in _stems(text) for piece in _pieces_of(f" {stem} ")]


def _pieces_of(word: str) -> Iterator[str]:
    return (word[at : at + _PIECE] for at in range(max(1, len(word) - _PIECE + 1)))


def _candidate(task: str, score: float) -> TaskCandidate:
    return TaskCandidate(
        task, round(score, 4), "high" if score >= HIGH else "medium" if score >= MEDIUM else "low"
    )


_SPLITS: tuple[tuple[float, Callable[[str], Tokens]], ...] = (
    (_WORDS_SHARE, _stems),
    (1 - _WORDS_SHARE, _pieces),
)
