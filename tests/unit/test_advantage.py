from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym.errors import UnknownNameError, UsageError
from agentgym.train.advantage import ADVANTAGES, find_advantage, group_returns, grpo, is_tied, rloo, turn_rewards
from agentgym.trajectory import Trajectory, Turn

# The published figures of GRPO (verl: epsilon 1e-6; TRL: 1e-4), Dr.GRPO and RLOO.
VECTORS = [
    ([1, 0, 0, 1], "grpo", {"epsilon": 1e-4}, [0.86587543, -0.86587543, -0.86587543, 0.86587543]),
    ([1, 0, 0, 1], "grpo", {"epsilon": 1e-6}, [0.866023904, -0.866023904, -0.866023904, 0.866023904]),
    ([1, 0, 0, 1], "dr_grpo", {}, [0.5, -0.5, -0.5, 0.5]),
    ([1, 0, 0, 1], "rloo", {}, [0.666666667, -0.666666667, -0.666666667, 0.666666667]),
    ([1, 0, 0, 0], "grpo", {"epsilon": 1e-4}, [1.49970006, -0.49990002, -0.49990002, -0.49990002]),
    ([1, 0, 0, 0], "grpo", {"epsilon": 1e-6}, [1.499997, -0.499999, -0.499999, -0.499999]),
    ([1, 0, 0, 0], "dr_grpo", {}, [0.75, -0.25, -0.25, -0.25]),
    ([1, 0, 0, 0], "rloo", {}, [1.0, -0.333333333, -0.333333333, -0.333333333]),
    ([1, 1, 1, 1], "grpo", {}, [0, 0, 0, 0]),
]


def episode(rewards: Sequence[float], ended: str = "terminated") -> Trajectory:
    turns = tuple(
        Turn("see", "do", token_ids=(1,), reward_terms={"r": reward}, state_key=f"{i}")
        for i, reward in enumerate(rewards)
    )
    return Trajectory("tests/Any-v0", "task", "train", turns=turns, ended=ended)


def estimate(name: str, group: Sequence[Trajectory], **kwargs: float) -> list[np.ndarray]:
    return find_advantage(name)(group, [turn_rewards(member) for member in group], **kwargs)


@pytest.mark.parametrize(("returns", "name", "kwargs", "expected"), VECTORS)
def test_published_vectors(returns: list[float], name: str, kwargs: dict[str, float], expected: list[float]) -> None:
    group = [episode([0.0, value]) for value in returns]
    advantages = estimate(name, group, **kwargs)
    for own, value in zip(advantages, expected, strict=True):
        assert own == pytest.approx([value, value], abs=1e-6)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12), st.sampled_from(sorted(ADVANTAGES)), st.randoms())
def test_advantages_sum_to_zero_and_follow_their_episodes(
    values: list[float], name: str, chance: random.Random
) -> None:
    group = [episode([value]) for value in values]
    flat = np.concatenate(estimate(name, group))
    assert np.isfinite(flat).all()
    assert flat.sum() == pytest.approx(0, abs=1e-6 * max(1.0, np.abs(flat).sum()))
    order = list(range(len(values)))
    chance.shuffle(order)
    shuffled = np.concatenate(estimate(name, [group[i] for i in order]))
    assert shuffled == pytest.approx(flat[order], abs=1e-6, rel=1e-5)


def test_what_cannot_be_scored_is_left_out_of_the_baseline() -> None:
    group = [episode([1.0]), episode([0.0]), episode([5.0, 5.0], ended="infrastructure")]
    advantages = estimate("rloo", group)
    assert [own.tolist() for own in advantages] == [[1.0], [-1.0], [0.0, 0.0]]
    broken = [episode([1.0]), episode([0.0]), episode([math.nan])]
    assert [own.tolist() for own in estimate("rloo", broken)] == [[1.0], [-1.0], [0.0]]


def test_ties_are_ties_in_spite_of_rounding() -> None:
    group = [episode([0.1] * 3), episode([0.3]), episode([0.1, 0.2])]
    assert len({member.episode_return for member in group}) > 1
    assert all((own == 0).all() for own in estimate("grpo", group))
    assert is_tied(group_returns(group, [turn_rewards(member) for member in group]))
    assert is_tied(np.array([1.0, math.nan, math.nan]))
    assert not is_tied(np.array([1.0, 0.0, math.nan]))


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        grpo([episode([1.0])], [np.array([1.0])])


def test_rewards_must_be_one_per_turn() -> None:
    with pytest.raises(UsageError, match="2 turns"):
        rloo([episode([1.0, 2.0])] * 2, [np.array([1.0])] * 2)


def test_an_episode_of_no_turns_has_a_return_of_nothing() -> None:
    assert [own.tolist() for own in estimate("dr_grpo", [episode([]), episode([2.0])])] == [[], [1.0]]


def test_invalid_actions_may_cost() -> None:
    turns = (Turn("see", "x", invalid_action=True), Turn("see", "y", reward_terms={"r": 1.0}))
    trajectory = Trajectory("tests/Any-v0", "task", "train", turns=turns)
    assert turn_rewards(trajectory, invalid_action_penalty=0.1).tolist() == [-0.1, 1.0]


def test_unknown_names_are_told() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'grpo'"):
        find_advantage("grpp")


# Figures of the method's authors (and of their released code where it differs from the paper).
WALKS = [("ABC", [0, 0, 10.0]), ("ABD", [0, 0, 0.0])]
GIGPO_VECTORS = [
    (WALKS, {"deviation": False}, [[9.5125, 9.75, 5.0], [-9.5125, -9.75, -5.0]]),
    (WALKS, {}, [[1.414213352, 1.414213357, 0.707106681], [-1.414213352, -1.414213357, -0.707106681]]),
    (WALKS, {"across_steps": True}, [[1.619977, 1.619977, 0.912871], [-1.619977, -1.619977, -0.912871]]),
    (
        [("AAB", [0, 0, 1.0]), ("AB", [0, 1.0])],
        {"deviation": False, "discount": 0.5},
        [[-0.166666667, 0.083333333, 0.0], [0.083333333, 0.0]],
    ),
]


def walk(states: str, rewards: Sequence[float]) -> Trajectory:
    turns = tuple(
        Turn("see", "do", reward_terms={"r": reward}, state_key=state)
        for state, reward in zip(states, rewards, strict=True)
    )
    return Trajectory("tests/Any-v0", "task", "train", turns=turns)


@pytest.mark.parametrize(("walks", "kwargs", "expected"), GIGPO_VECTORS)
def test_gigpo_vectors(
    walks: list[tuple[str, list[float]]], kwargs: dict[str, float], expected: list[list[float]]
) -> None:
    advantages = estimate("gigpo", [walk(*one) for one in walks], **kwargs)
    for own, values in zip(advantages, expected, strict=True):
        assert own == pytest.approx(values, abs=1e-5)


def test_gigpo_without_weight_is_grpo() -> None:
    group = [walk("AB", [0, 1.0]), walk("ABCD", [0, 0, 0, 0.0]), walk("A", [1.0])]
    for own, plain in zip(estimate("gigpo", group, step_weight=0.0), estimate("grpo", group), strict=True):
        assert own == pytest.approx(plain)


def test_gigpo_needs_states() -> None:
    bare = Trajectory("tests/Any-v0", "lonely", "train", turns=(Turn("see", "do"),))
    with pytest.raises(UsageError, match=r"turn 0 of 'lonely' \(tests/Any-v0\) has no state_key"):
        estimate("gigpo", [bare, bare])


def test_gigpo_leaves_out_what_cannot_be_scored() -> None:
    group = [walk("AB", [0, 1.0]), walk("AC", [0, 0.0])]
    broken = episode([5.0, 5.0], ended="infrastructure")
    with_broken = estimate("gigpo", [*group, broken])
    for own, alone in zip(with_broken, estimate("gigpo", group), strict=False):
        assert own == pytest.approx(alone)
    assert with_broken[2] == pytest.approx([0, 0])
