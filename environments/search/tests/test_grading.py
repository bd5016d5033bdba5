"""How answers are graded."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym_search.grading import grade_f1, is_exact, split_answer

SPECS = Path(__file__).parents[4] / "shared" / "specs" / "reward_vectors.json"
WORDS = st.lists(st.sampled_from(["new", "york", "city", "the", "hague", "éire", "1875"]), max_size=6)
# The figures that IGPO's released grader gives for these.
VECTORS = [
    ("in New York City!", ["NYC", "New York"], 2 / 3),
    ("Paris", ["London"], 0.0),
    ("the Nile", ["Nile"], 2 / 3),
    ("paris", ["Paris"], 1.0),
]


@pytest.mark.parametrize(("prediction", "answers", "expected"), VECTORS)
def test_f1_vectors(prediction: str, answers: list[str], expected: float) -> None:
    assert grade_f1(prediction, answers) == pytest.approx(expected)


@pytest.mark.skipif(not SPECS.is_file(), reason="the reward vectors are not in ../shared/specs")
def test_f1_vectors_of_the_specification() -> None:
    vectors = [vector for vector in json.loads(SPECS.read_text())["IGPO"] if vector["name"].startswith("f1_")]
    assert len(vectors) >= 2
    for vector in vectors:
        inputs = vector["inputs"]
        found = grade_f1(inputs["prediction"], inputs["golds"])
        assert found == pytest.approx(vector["expected"]["f1"], abs=vector["tol"]), vector["name"]


@given(st.text(), st.lists(st.text(), max_size=3))
def test_exact_match_means_f1_of_1(prediction: str, answers: list[str]) -> None:
    f1 = grade_f1(prediction, answers)
    assert 0 <= f1 <= 1
    if is_exact(prediction, answers):
        assert f1 == 1


@given(st.text())
def test_splitting_again_changes_nothing(text: str) -> None:
    words = split_answer(text)
    assert split_answer(" ".join(words)) == words
    assert split_answer(unicodedata.normalize("NFD", text)) == split_answer(unicodedata.normalize("NFC", text))


@given(WORDS, WORDS)
def test_f1_is_harmonic_mean_of_precision_and_recall(said: list[str], wanted: list[str]) -> None:
    f1 = grade_f1(" ".join(said).upper(), [", ".join(wanted)])
    common = len(set(said) & set(wanted))
    if not common:
        assert f1 == 0
        return
    precision, recall = common / len(set(said)), common / len(set(wanted))
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert f1 == grade_f1(" ".join(reversed(said)), [" ".join(reversed(wanted))]), "sets of words, in no order"


@given(WORDS, st.lists(WORDS, max_size=3), WORDS)
def test_one_more_accepted_answer_never_costs(said: list[str], answers: list[list[str]], more: list[str]) -> None:
    accepted = [" ".join(words) for words in answers]
    assert grade_f1(" ".join(said), [*accepted, " ".join(more)]) >= grade_f1(" ".join(said), accepted)


def test_exact_match_wants_order_and_words() -> None:
    assert is_exact("  paris. ", ["Paris"])
    assert not is_exact("York New", ["New York"])
    assert not is_exact("...", ["…"]), "no words are no answer"
    assert not is_exact("", [])
