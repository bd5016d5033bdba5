from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym.errors import RewardError
from agentgym.rewards.gated import Gated
from agentgym.rewards.overlong import Overlong
from agentgym.train.advantage import dr_grpo, turn_rewards
from agentgym.trajectory import Trajectory, Turn

STEPS = st.lists(st.floats(-1, 1), min_size=1, max_size=5)


def episode(steps: list[float], outcome: float | None, **kwargs: object) -> Trajectory:
    turns = [Turn("see", "do", reward_terms={"step": reward}) for reward in steps]
    if outcome is not None:
        turns[-1] = Turn("see", "do", reward_terms={"step": steps[-1], "outcome": outcome})
    return Trajectory("tests/Any-v0", "lonely", "train", turns=tuple(turns), **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "strict", "total"), [(0.0, False, 0.0), (0.5, False, 0.8), (1.0, False, 1.3), (0.5, True, 0.5)]
)
def test_published_totals(outcome: float, strict: bool, total: float) -> None:
    assert Gated(strict=strict).shape(episode([0.1, 0.1, 0.0, 0.1], outcome)).episode_return == pytest.approx(total)


def test_gates_turn_the_order_of_a_farmer_and_a_worker() -> None:
    group = [episode([0.3] * 4, 0.0), episode([0.1], 0.5)]
    direct = dr_grpo(group, [turn_rewards(t) for t in group])
    assert [own[0] for own in direct] == pytest.approx([0.3, -0.3])
    shaped = Gated()(group)
    gated = dr_grpo(shaped, [turn_rewards(t) for t in shaped])
    assert [own[0] for own in gated] == pytest.approx([-0.3, 0.3])
    assert [t.measures["direct_accumulation"] for t in shaped] == pytest.approx([1.2, 0.6])
    assert [t.measures["raw/step"] for t in shaped] == pytest.approx([1.2, 0.1])


@given(STEPS, st.floats(-2, 2), st.floats(-1, 1))
def test_the_gate_decides_between_all_and_the_outcome_alone(steps: list[float], outcome: float, gate: float) -> None:
    shaped = Gated(gates=[gate]).shape(episode(steps, outcome))
    expected = outcome + (sum(steps) if outcome >= gate else 0.0)
    assert shaped.episode_return == pytest.approx(expected, abs=1e-9)
    assert shaped.measures["direct_accumulation"] == pytest.approx(outcome + sum(steps), abs=1e-9)
    again = Gated(gates=[gate]).shape(shaped)
    assert again.episode_return == pytest.approx(shaped.episode_return, abs=1e-9)


def test_a_constant_may_open_a_gate() -> None:
    low, raised = (Gated().shape(episode([0.2], outcome)) for outcome in (0.4, 0.9))
    assert raised.episode_return - low.episode_return == pytest.approx(0.7)


def test_levels_of_several_terms() -> None:
    terms = {"outcome": 1.0, "format": 0.1, "tool": 0.2, "style": 0.7}
    trajectory = Trajectory("tests/Any-v0", "lonely", "train", turns=(Turn("a", "b", reward_terms=terms),))
    levels = [["format", "tool"], "style"]
    assert Gated(levels, [0.5, 0.25]).shape(trajectory).reward_terms == terms
    assert Gated(levels, [0.5, 0.4]).shape(trajectory).measures["gates_open"] == 1
    with pytest.raises(RewardError, match=r"'lonely' pays \['style'\]"):
        Gated([["format", "tool"]], [0.5]).shape(trajectory)


def test_success_stands_in_for_an_outcome_that_was_never_paid() -> None:
    assert Gated().shape(episode([0.2], None, success=False)).reward_terms == {"outcome": 0.0}
    assert Gated().shape(episode([0.2], None, success=True)).episode_return == pytest.approx(1.2)


def test_bad_input_is_told() -> None:
    with pytest.raises(RewardError, match="'lonely' has no outcome"):
        Gated().shape(episode([0.2], None))
    with pytest.raises(RewardError, match=r"'lonely', turn 1: reward term 'step' is nan"):
        Gated().shape(episode([0.2, math.nan], 1.0))
    for levels, gates in (([], [0.5, 0.5]), (["a", "b"], [0.5]), ([], [math.nan]), (["a", "a"], [0.1, 0.1])):
        with pytest.raises(RewardError, match="gate"):
            Gated(levels, gates)
    fault = episode([math.nan], None, ended="infrastructure")
    assert Gated()([fault]) == [fault]
    empty = Trajectory("tests/Any-v0", "lonely", "train", ended="context", success=False)
    assert Gated()([empty]) == [empty]


# overlong


def sampled(*counts: int) -> Trajectory:
    turns, end = [], 0
    for count in counts:
        turns.append(Turn("a", "b", (1,), (2,) * count, (0.0,) * count, (end + 1, end + 1 + count), {"outcome": 1.0}))
        end += 1 + count
    return Trajectory("tests/Any-v0", "lonely", "train", turns=tuple(turns))


@pytest.mark.parametrize(
    ("tokens", "cost"), [(1, 0), (80, 0), (85, -0.25), (90, -0.5), (100, -1), (101, -1), (400, -1)]
)
def test_overlong_costs_of_the_paper(tokens: int, cost: float) -> None:
    shaped = Overlong(100, 20).shape(sampled(tokens))
    assert shaped.reward_terms == pytest.approx({"outcome": 1.0, "overlong": cost})


def test_overlong_counts_all_turns() -> None:
    shaped = Overlong(100, 20, weight=2.0).shape(sampled(40, 50))
    assert [turn.reward_terms.get("overlong") for turn in shaped.turns] == [None, pytest.approx(-1.0)]


def test_overlong_needs_tokens_and_sense() -> None:
    with pytest.raises(RewardError, match="'lonely', turn 0 has span"):
        Overlong(100, 20).shape(episode([0.1], 1.0))
    for cache in (0, 101):
        with pytest.raises(RewardError, match="cache_tokens"):
            Overlong(100, cache)
