from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym.errors import RewardError
from agentgym.rewards.information_gain import AnswerFormat, InformationGain, information_gains, word_f1
from agentgym.rewards.trajectory_reward import Array, Continuation
from agentgym.train.advantage import find_advantage, turn_rewards
from agentgym.trajectory import Trajectory, Turn

RIGHT = "<think>so</think><answer>Paris</answer>"


class LetterModel:
    """Finds a letter of the answer the likelier, the oftener the context has it: a table-driven policy."""

    def __init__(self) -> None:
        self.calls = 0
        self.asked: list[Continuation] = []

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def score(self, continuations: Sequence[Continuation]) -> list[Array]:
        self.calls += 1
        self.asked += continuations
        return [np.array([self._logprob(one, token) for token in one.ids]) for one in continuations]

    def _logprob(self, one: Continuation, token: int) -> float:
        return math.log((1 + list(one.context_ids).count(token)) / (2 + len(one.context_ids)))


def episode(observations: Sequence[str], last: str = RIGHT, answers: Sequence[str] = ("Paris",)) -> Trajectory:
    turns, end = [], 0
    for number, text in enumerate(observations):
        action = last if number == len(observations) - 1 else "look"
        prompt, said = [ord(c) for c in text], [ord(c) for c in action]
        start = end + len(prompt)
        end = start + len(said)
        turns.append(
            Turn(
                text,
                action,
                tuple(prompt),
                tuple(said),
                (0.0,) * len(said),
                (start, end),
                {"outcome": 0.5, "step": 0.1},
            )
        )
    return Trajectory(
        "tests/Any-v0", "lonely", "train", turns=tuple(turns), privileged={"answers": list(answers)}, success=True
    )


def bound(**kwargs: object) -> tuple[InformationGain, LetterModel]:
    method, model = InformationGain(**kwargs), LetterModel()  # type: ignore[arg-type]
    method.bind(model)
    return method, model


def test_a_turn_is_paid_what_it_taught() -> None:
    method, model = bound()
    shaped = method.shape(episode(["Where?", "It is Paris, Paris, Paris.", "zzzzzzzzzzzzzzzz"]))
    assert [sorted(turn.reward_terms) for turn in shaped.turns] == [["information_gain"]] * 2 + [["outcome"]]
    first, second = (turn.reward_terms["information_gain"] for turn in shaped.turns[:2])
    assert first > 0 > second
    assert shaped.turns[-1].reward == 1.0
    assert shaped.turns[0].measures == {"raw/outcome": 0.5, "raw/step": 0.1}
    assert shaped.success is True
    opening = [ord(c) for c in "</think>\n<answer>"]
    assert model.asked[0].context_ids == [*(ord(c) for c in "Where?"), *opening]
    assert {tuple(one.ids) for one in model.asked} == {tuple(ord(c) for c in "Paris")}
    ids = shaped.token_ids()[0]
    for turn, one in zip(shaped.turns, model.asked, strict=True):
        assert one.context_ids == [*ids[: turn.span[0]], *opening]  # with the reply to the turn before, without its own


@given(
    st.lists(st.text("Paris abc", min_size=1, max_size=12), min_size=1, max_size=6), st.sampled_from(["log", "prob"])
)
def test_gains_telescope(observations: list[str], difference: str) -> None:
    method, model = bound(difference=difference)
    trajectory = episode(observations)
    shaped = method.shape(trajectory)
    levels = [float(np.mean(own)) for own in model.score(model.asked)]
    first, last = (levels[0], levels[-1]) if difference == "log" else (math.exp(levels[0]), math.exp(levels[-1]))
    gained = sum(turn.reward_terms["information_gain"] for turn in shaped.turns[:-1])
    assert gained == pytest.approx(last - first, abs=1e-12)
    assert shaped.measures["answer_logprob"] == pytest.approx(levels[-1])


def test_a_batch_is_scored_in_one_call_and_like_its_episodes() -> None:
    batch = [episode(["Where?", "Paris."]), episode(["a"]), episode(["b", "c", "d"], answers=["Rome", "Paris"])]
    fault = Trajectory("tests/Any-v0", "lost", "train", ended="infrastructure")
    method, model = bound(aliases="best")
    shaped = method([*batch, fault])
    assert model.calls == 1
    assert len(model.asked) == 2 + 1 + 3 * 2
    assert shaped == [*(method.shape(one) for one in batch), fault]


def test_a_gain_of_nothing_keeps_its_turn() -> None:
    assert information_gains([-1.0, -1.0, -0.5]).tolist() == [0.0, 0.5]
    method, _ = bound(scale=0.0)
    group = [method.shape(episode(["a", "b", "c"], last)) for last in (RIGHT, "<answer>Rome</answer>")]
    found = find_advantage("igpo")(group, [turn_rewards(t) for t in group])
    assert [own.tolist() for own in found] == [pytest.approx([1.0] * 3, abs=1e-4), pytest.approx([-1.0] * 3, abs=1e-4)]


def test_unequal_turns_and_a_malformed_end() -> None:
    method, _ = bound()
    group = [method.shape(one) for one in (episode(["a", "Paris", "b"]), episode(["a"], "no idea"))]
    assert group[1].reward_terms == {"outcome": -2.0}
    found = find_advantage("igpo")(group, [turn_rewards(t) for t in group])
    assert [len(own) for own in found] == [3, 1]
    assert found[0][2] > 0 > found[1][0]


@pytest.mark.parametrize(
    ("action", "malformed", "outcome"),
    [
        (RIGHT, -2.0, 1.0),
        ("<answer>in Paris, France</answer>", -2.0, 0.5),
        ("<answer>Rome</answer> no: <answer>Paris</answer>", -2.0, 1.0),
        ("<answer>Rome</answer>", -2.0, 0.0),
        ("Paris", -2.0, -2.0),
        ("<answer>Paris", -2.0, -2.0),
        ("<answer>Paris</answer></answer>", -2.0, -2.0),
        ("Paris", None, 0.0),
    ],
)
def test_outcomes(action: str, malformed: float | None, outcome: float) -> None:
    method, _ = bound(malformed=malformed)
    assert method.shape(episode(["a"], action)).reward_terms == pytest.approx({"outcome": outcome})


def test_the_environment_may_grade() -> None:
    method, _ = bound(outcome="environment")
    assert method.shape(episode(["a", "b"], "Paris")).turns[-1].reward_terms == {"outcome": 1.0}  # 0.5 at either turn
    strict = InformationGain(answer_format={"template": "A: {answer}", "balanced_tags": ["think", "answer"]})
    assert strict.format.read("<think><answer>Paris</answer>") is None
    assert AnswerFormat().read("<think><answer>Paris</answer>") == "Paris"
    assert word_f1("", ["Paris"]) == 0.0


def test_bad_input_is_told() -> None:
    trajectory = episode(["a", "b"])
    with pytest.raises(RewardError, match="bind"):
        InformationGain().shape(trajectory)
    method, model = bound()
    for answers in ([], [""], "Paris", None):
        bad = Trajectory("tests/Any-v0", "lonely", "train", turns=trajectory.turns, privileged={"answers": answers})
        with pytest.raises(RewardError, match="'lonely': information_gain needs the right answers"):
            method.shape(bad)
    bare = Trajectory("tests/Any-v0", "lonely", "train", turns=(Turn("a", "b"),), privileged={"answers": ["x"]})
    with pytest.raises(RewardError, match="'lonely', turn 0 has span"):
        method.shape(bare)
    model._logprob = lambda one, token: math.nan  # type: ignore[method-assign]
    with pytest.raises(RewardError, match="'lonely', turn 0: the answer has 5 tokens"):
        method.shape(trajectory)
    model.score = lambda continuations: []  # type: ignore[method-assign]
    with pytest.raises(RewardError, match="asked for 2 scores"):
        method.shape(trajectory)
    model.encode = lambda text: []  # type: ignore[method-assign]
    with pytest.raises(RewardError, match="no tokens"):
        method.shape(trajectory)
    for kwargs in (
        {"difference": "ratio"},
        {"outcome": "bleu"},
        {"aliases": "all"},
        {"answer_format": {"template": "x"}},
    ):
        with pytest.raises(RewardError, match="information_gain"):
            InformationGain(**kwargs)  # type: ignore[arg-type]
