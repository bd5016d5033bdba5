"""InfoPO's reward and advantage, and VeRPO's advantage."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym.errors import RewardError, UsageError
from agentgym.rewards.infopo import InfoPO
from agentgym.rewards.trajectory_reward import Continuation
from agentgym.train.advantage import grpo, turn_rewards
from agentgym.train.advantage.infopo import infopo
from agentgym.train.advantage.verpo import verpo
from agentgym.trajectory import Trajectory, Turn

WORDS = ["<", ">", "where", "take", "red", "blue", "drawer", "none", "found"]


class CopyModel:
    """A language model over words that half expects each word to repeat one of the last three, else any word."""

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, text: str) -> list[int]:
        return [WORDS.index(word) for word in text.split()]

    def score(self, continuations: Sequence[Continuation]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        self.calls += 1
        return [np.array([self._score(one, i) for i in range(len(one.ids))]) for one in continuations]

    def _score(self, one: Continuation, place: int) -> float:
        near = [*one.context_ids, *one.ids[:place]][-4:-1]  # the template's ">" stands between
        return math.log(0.5 * near.count(one.ids[place]) / 3 + 0.5 / len(WORDS))


def talk(*said: tuple[str, str], **kwargs: Any) -> Trajectory:
    model, turns = CopyModel(), []
    for observation, action in said:
        prompt = (0, *model.encode(observation), 1)
        turns.append(Turn(observation, action, prompt_ids=prompt, token_ids=tuple(model.encode(action))))
    return Trajectory("tests/Talk-v0", "mug", "train", turns=tuple(turns), **kwargs)


def bound(model: CopyModel | None = None, **kwargs: Any) -> InfoPO:
    method = InfoPO(placeholder="none found", **kwargs)
    method.bind(model or CopyModel())
    return method


ASKED = talk(("drawer", "where"), ("blue drawer", "blue"), ("found", "take"))


def test_the_action_that_asked_is_paid_what_the_answer_changed_in_the_next() -> None:
    shaped = bound().shape(ASKED)
    informed, not_informed = 0.5 / 3 + 0.5 / 9, 0.5 / 9
    assert shaped.turns[0].reward_terms == pytest.approx({"infopo": math.log(informed / not_informed)})
    assert shaped.turns[1].reward_terms == pytest.approx({"infopo": 0.0})
    assert shaped.turns[2].reward_terms == {}


def test_an_answer_that_says_what_the_placeholder_says_is_worth_nothing() -> None:
    shaped = bound().shape(talk(("drawer", "where"), ("none found none", "none found"), ("", "take")))
    assert [turn.reward_terms.get("infopo") for turn in shaped.turns] == [0.0, 0.0, None]


def test_the_placeholder_is_as_long_as_what_it_stands_for() -> None:
    asked: list[Continuation] = []

    class Watched(CopyModel):
        def score(self, continuations: Sequence[Continuation]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
            asked.extend(continuations)
            return super().score(continuations)

    bound(Watched()).shape(talk(("drawer", "where"), ("red blue red", "red"), ("blue", "take")))
    contexts = [" ".join(WORDS[i] for i in one.context_ids) for one in asked]
    assert contexts == [
        "< drawer > where < red blue red >",
        "< drawer > where < none found none >",
        "< drawer > where < red blue red > red < blue >",
        "< drawer > where < red blue red > red < none >",
    ]


def test_a_batch_is_one_call_of_the_model() -> None:
    model = CopyModel()
    broken = replace(ASKED, ended="infrastructure")
    shaped = bound(model)([ASKED, broken, ASKED])
    assert model.calls == 1
    assert shaped[1] is broken
    assert shaped[0] == shaped[2] == bound().shape(ASKED)


class Short(CopyModel):
    def score(self, continuations: Sequence[Continuation]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        return super().score(continuations)[:-1]


class Cut(CopyModel):
    def score(self, continuations: Sequence[Continuation]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        return [own[1:] for own in super().score(continuations)]


class Lost(CopyModel):
    def score(self, continuations: Sequence[Continuation]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        return [own * math.nan for own in super().score(continuations)]


def other_tokens() -> Trajectory:
    return replace(ASKED, turns=(ASKED.turns[0], replace(ASKED.turns[1], prompt_ids=(0, 7, 1))))


def no_tokens() -> Trajectory:
    return replace(ASKED, turns=(ASKED.turns[0], replace(ASKED.turns[1], token_ids=())))


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (lambda: InfoPO()([ASKED]), "bind"),
        (lambda: InfoPO(placeholder=" "), "placeholder that says something"),
        (lambda: bound().shape(no_tokens()), "tests/Talk-v0, task 'mug', turn 1 has no token ids"),
        (lambda: bound().shape(other_tokens()), "tests/Talk-v0, task 'mug', turn 1: the observation's tokens are not"),
        (lambda: bound(Short()).shape(ASKED), "scored 3 of 4 continuations"),
        (lambda: bound(Cut()).shape(ASKED), r"scored \(0,\) tokens of a continuation of 1"),
        (lambda: bound(Lost()).shape(ASKED), "turn 0: reward term 'infopo' is nan"),
    ],
)
def test_what_infopo_refuses(attempt: Callable[[], Any], said: str) -> None:
    with pytest.raises(RewardError, match=said):
        attempt()


def graded(gains: Sequence[float], outcome: float, term: str = "infopo", **kwargs: Any) -> Trajectory:
    turns = [Turn("see", "do", reward_terms={term: gain}) for gain in gains]
    return Trajectory(
        "tests/Any-v0", "t", "train", turns=(*turns, Turn("see", "do", reward_terms={"outcome": outcome})), **kwargs
    )


def estimate(estimator: Callable[..., Any], group: Sequence[Trajectory], **kwargs: Any) -> list[list[float]]:
    return [own.tolist() for own in estimator(group, [turn_rewards(member) for member in group], **kwargs)]


def test_information_decides_where_outcomes_tie_and_nowhere_else() -> None:
    tied = estimate(infopo, [graded([0.4, 0.1], 1.0), graded([0.1], 1.0)], epsilon=0.0)
    assert tied[0] == pytest.approx([0.25 * 2 / math.sqrt(3), -0.25 / math.sqrt(3), 0.0])
    assert tied[1] == pytest.approx([-0.25 / math.sqrt(3), 0.0])
    apart = [graded([0.4, 0.1], 1.0), graded([0.1], 0.0)]
    plain = grpo(apart, [np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0])])
    for own, outcome in zip(estimate(infopo, apart), plain, strict=True):
        assert own == pytest.approx(outcome.tolist(), abs=1e-5)


groups = st.lists(
    st.tuples(st.lists(st.floats(-5, 5), max_size=4), st.sampled_from([0.0, 0.5, 1.0])), min_size=2, max_size=6
)


@given(groups, st.sampled_from(["infopo", "verpo"]), st.randoms())
def test_advantages_follow_their_episodes_and_are_centred(
    drawn: list[tuple[list[float], float]], name: str, chance: random.Random
) -> None:
    estimator = {"infopo": infopo, "verpo": verpo}[name]
    group = [graded([0.5, *gains], outcome, name) for gains, outcome in drawn]
    advantages = estimate(estimator, group)
    assert np.isfinite(np.concatenate(advantages)).all()
    # The last turn has the episode's part alone, and what is left is the turns' part.
    whole = [own[-1] for own in advantages]
    assert sum(whole) == pytest.approx(0, abs=1e-6)
    assert sum(sum(own) - len(own) * own[-1] for own in advantages) == pytest.approx(0, abs=1e-6)
    order = list(range(len(group)))
    chance.shuffle(order)
    for own, index in zip(estimate(estimator, [group[i] for i in order]), order, strict=True):
        assert own == pytest.approx(advantages[index], abs=1e-9)


@pytest.mark.parametrize(("estimator", "name"), [(infopo, "infopo"), (verpo, "verpo")])
def test_advantages_leave_out_what_cannot_be_scored(estimator: Callable[..., Any], name: str) -> None:
    group = [graded([0.4, 0.1], 1.0, name), graded([0.3], 0.0, name)]
    broken = graded([9.0], 1.0, name, ended="infrastructure")
    assert estimate(estimator, [*group, broken]) == [*estimate(estimator, group), [0.0, 0.0]]
    assert estimate(estimator, [group[0], broken]) == [[0.0, 0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(UsageError, match="at least 2"):
        estimate(estimator, group[:1])
    with pytest.raises(RewardError, match=f"the advantage '{name}' needs the reward method of the same name"):
        estimate(estimator, [graded([0.1], 1.0, "other")] * 2)
