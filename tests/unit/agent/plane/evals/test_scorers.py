"""Scorers: the score of an answer by each scorer."""

import pytest

from pareta_agent.plane.evals.scorers import DEFAULT, SCORERS, quality


@pytest.mark.parametrize(
    ("scorer", "answer", "expected", "score"),
    [
        ("exact", " Paris\n", "Paris", 1.0),
        ("exact", "paris", "Paris", 0.0),
        ("exact", '{"a":1}', {"a": 1}, 1.0),
        ("normalised", "The capital: PARIS!", "the capital paris", 1.0),
        ("normalised", "ﬁne Ａ", "FINE a", 1.0),
        ("normalised", "Paris, France", "Paris", 0.0),
        ("label-accuracy", "Label: Billing.\nBecause it is about money.", "billing", 1.0),
        ("label-accuracy", "not billing", "billing", 0.0),
        ("numeric", "That makes 1,234.50 in all", 1234.5, 1.0),
        ("numeric", "about 1 249", 1234.5, 0.0),
        ("numeric", "from 3, 4 to 1246", "1234.5", 1.0),
        ("numeric", "−5 °C", -5, 1.0),
        ("numeric", "1e3", 1000, 1.0),
        ("numeric", "none", 3, 0.0),
        ("token-f1", "the quick fox", "quick brown fox", 2 * 2 / 6),
        ("token-f1", "", "", 1.0),
        ("token-f1", "", "something", 0.0),
        ("json-key-f1", '{"party": "ACME", "term": 2}', {"party": "Acme", "term": "2"}, 1.0),
        ("json-key-f1", 'Here:\n```json\n{"party": "Acme"}\n```', {"party": "Acme", "law": "France"}, 2 / 3),
        ("json-key-f1", 'It is {"party": "Acme"}.', '{"party": "Acme"}', 1.0),
        ("json-key-f1", '{"names": ["b", "a"]}', {"names": ["a", "b"]}, 1.0),
        ("json-key-f1", '{"party": {"name": "Acme"}}', {"party": "Acme"}, 0.0),
        ("json-key-f1", "no JSON at all", {"party": "Acme"}, 0.0),
    ],
)
def test_scorer(scorer, answer, expected, score):
    """The scorer gives this answer that score."""
    assert SCORERS[scorer](answer, expected) == pytest.approx(score)


def test_the_default_is_a_scorer():
    """A task without a scorer uses the default scorer."""
    assert DEFAULT in SCORERS


def test_quality_lies_in_its_interval():
    """Few scores have a wide interval; equal scores give equal intervals."""
    few, many = quality([1.0, 0.0] * 3), quality([1.0, 0.0] * 300)
    assert few == quality([1.0, 0.0] * 3)
    assert (few.mean, many.mean) == (0.5, 0.5)
    assert 0 <= few.low < many.low < 0.5 < many.high < few.high <= 1


def test_scores_that_are_all_alike_leave_no_doubt():
    """Equal scores have an interval of width zero; no scores have no quality."""
    alike = quality([1.0] * 4)
    assert (alike.mean, alike.low, alike.high) == (1.0, 1.0, 1.0)
    assert quality([]) is None
