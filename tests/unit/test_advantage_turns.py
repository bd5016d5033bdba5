from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym.errors import UnknownNameError, UsageError
from agentgym.train.advantage import (
    ADVANTAGES,
    across_groups,
    estimate_advantages,
    gae,
    grpo,
    igpo,
    multi_objective,
    reinforce_plus_plus,
    token_rewards,
    turn_level,
    turn_rewards,
)
from agentgym.trajectory import Trajectory, Turn

REWARDS = st.lists(st.floats(-10, 10), min_size=1, max_size=5)


def episode(rewards: Sequence[float], *, tokens: Sequence[int] = (), task: str = "task", ended: str = "") -> Trajectory:
    turns = tuple(
        Turn(
            "see",
            "do",
            token_ids=(1,) * (tokens[i] if tokens else 1),
            reward_terms={"information_gain" if i < len(rewards) - 1 else "outcome": reward},
        )
        for i, reward in enumerate(rewards)
    )
    return Trajectory("tests/Any-v0", task, "train", turns=turns, ended=ended or "terminated")  # type: ignore[arg-type]


def rewards_of(group: Sequence[Trajectory]) -> list[np.ndarray]:
    return [turn_rewards(member) for member in group]


@given(st.lists(REWARDS, min_size=2, max_size=6), st.sampled_from(["igpo", "turn_level", "reinforce_plus_plus"]))
def test_adding_a_constant_to_every_outcome_changes_nothing(episodes: list[list[float]], name: str) -> None:
    raised = [[*rewards[:-1], rewards[-1] + 7.0] for rewards in episodes]
    # the whole return is shifted at every turn; one that stands beside no other of its index does not matter
    found, shifted = (
        np.concatenate(ADVANTAGES[name](group, rewards_of(group)))
        for group in ([episode(r) for r in rewards] for rewards in (episodes, raised))
    )
    assert np.isfinite(found).all()
    assert shifted == pytest.approx(found, abs=1e-3, rel=1e-3)


@given(st.lists(REWARDS, min_size=2, max_size=6), st.permutations(range(6)))
def test_permuting_episodes_permutes_advantages(episodes: list[list[float]], order: list[int]) -> None:
    order = [i for i in order if i < len(episodes)]
    for name in ("igpo", "turn_level", "reinforce_plus_plus", "multi_objective"):
        group = [episode(rewards) for rewards in episodes]
        found = ADVANTAGES[name](group, rewards_of(group))
        moved = [group[i] for i in order]
        for i, own in zip(order, ADVANTAGES[name](moved, rewards_of(moved)), strict=True):
            assert own == pytest.approx(found[i], abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("name", sorted(set(ADVANTAGES) - {"gigpo"}))  # which has its own test, with states
def test_what_cannot_be_scored_has_no_part(name: str) -> None:
    group = [episode([0.5, 1.0]), episode([0.0, 0.0])]
    broken = episode([9.0, 9.0, 9.0], ended="infrastructure")
    nan = Trajectory("tests/Any-v0", "task", "train", turns=broken.turns)
    alone = ADVANTAGES[name](group, rewards_of(group))
    for extra, paid in ((broken, turn_rewards(broken)), (nan, np.array([1.0, math.nan, 0.0]))):
        found = ADVANTAGES[name]([*group, extra], [*rewards_of(group), paid])
        assert found[2].tolist() == [0, 0, 0]
        for own, before in zip(found[:2], alone, strict=True):
            assert own == pytest.approx(before)


# REINFORCE++


def test_reinforce_plus_plus_whitens_over_tokens_of_all_groups() -> None:
    batch = [episode([1.0, 2.0], tokens=[3, 1], task="a"), episode([4.0], tokens=[2], task="b")]
    per_token = np.array([3.0, 3.0, 3.0, 2.0, 4.0, 4.0])
    white = (per_token - per_token.mean()) / np.sqrt(per_token.var(ddof=1) + 1e-8)
    found = reinforce_plus_plus(batch, rewards_of(batch))
    assert found[0] == pytest.approx(white[[0, 3]])
    assert found[1] == pytest.approx(white[[4]])


def test_reinforce_plus_plus_may_take_the_group_off_first() -> None:
    hard = [episode([0.0], task="hard"), episode([1.0], task="hard")]
    easy = [episode([9.0], task="easy"), episode([10.0], task="easy")]
    batch = [*hard, *easy]
    plain = [own[0] for own in reinforce_plus_plus(batch, rewards_of(batch))]
    assert plain[1] < 0 < plain[2]  # a win at what is hard counts less than a loss at what is easy
    own = [own[0] for own in reinforce_plus_plus(batch, rewards_of(batch), group_baseline=True)]
    assert own == pytest.approx([-0.866025, 0.866025, -0.866025, 0.866025], abs=1e-5)


def test_reinforce_plus_plus_needs_tokens() -> None:
    bare = Trajectory("tests/Any-v0", "lonely", "train", turns=(Turn("see", "do", reward_terms={"r": 1.0}),))
    with pytest.raises(UsageError, match="turn 0 of 'lonely'"):
        reinforce_plus_plus([bare, bare], [np.array([1.0]), np.array([0.0])])


def test_estimators_get_one_group_or_all() -> None:
    groups = [[episode([1.0]), episode([0.0])], [episode([9.0]), episode([9.0])]]
    sizes = []

    def note(members: Sequence[Trajectory], rewards: Sequence[np.ndarray]) -> list[np.ndarray]:
        sizes.append(len(members))
        return list(rewards)

    paired = [(group, rewards_of(group)) for group in groups]
    by_group = estimate_advantages(lambda members, rewards: note(members, rewards), paired, {})
    at_once = estimate_advantages(across_groups(note), paired, {})
    assert sizes == [2, 2, 4]
    assert by_group == at_once == [[[1.0], [0.0]], [[9.0], [9.0]]]
    found = estimate_advantages(reinforce_plus_plus, paired, {"discount": 0.5})
    assert found[1][0] > 0 > found[0][0]


# by turn


def test_the_two_orders_differ() -> None:
    group = [episode([0.1, 1.0]), episode([0.3, 0.0])]
    first = igpo(group, rewards_of(group))
    assert [own[0] for own in first] == pytest.approx([-1 + 1, 1 - 1], abs=1e-3)  # standardised alike, then added
    second = turn_level(group, rewards_of(group))
    assert [own[0] for own in second] == pytest.approx([0.707, -0.707], abs=1e-3)  # 1.1 against 0.3


def test_igpo_needs_gains_and_known_pools() -> None:
    bare = Trajectory("tests/Any-v0", "lonely", "train", turns=(Turn("a", "b"), Turn("c", "d")))
    with pytest.raises(UsageError, match=r"turn 0 of 'lonely' \(tests/Any-v0\) has no term 'information_gain'"):
        igpo([bare, bare], [np.zeros(2)] * 2)
    with pytest.raises(UsageError, match="not 'both'"):
        igpo([bare, bare], [np.zeros(2)] * 2, pools="both")  # type: ignore[arg-type]


def test_late_turns_that_few_reach_are_not_blown_up() -> None:
    short = [episode([0.0, value]) for value in (0.0, 1.0, 0.0, 1.0)]
    long = [episode([0.0, 0.0, 1.0 + 1e-6 * i]) for i in range(2)]
    group = [*short, *long]
    found = turn_level(group, rewards_of(group))
    assert found[4][2] == pytest.approx(found[5][2], abs=1e-4)  # a millionth is no difference
    alone = turn_level(group, rewards_of(group), least_share=0.0, epsilon=0.0)
    assert alone[5][2] - alone[4][2] == pytest.approx(math.sqrt(2))
    with pytest.raises(UsageError, match="from 0 to 1"):
        turn_level(group, rewards_of(group), least_share=2.0)


# several objectives


def of_terms(**terms: float) -> Trajectory:
    return Trajectory("tests/Any-v0", "task", "train", turns=(Turn("a", "b", reward_terms=terms),))


def test_each_objective_counts_alike() -> None:
    group = [of_terms(big=100.0, small=0.0), of_terms(big=0.0, small=0.01)]
    assert [own[0] for own in grpo(group, rewards_of(group))] == pytest.approx([0.707, -0.707], abs=1e-3)
    assert [own[0] for own in multi_objective(group, rewards_of(group), epsilon=0.0)] == pytest.approx([0, 0])
    weighed = multi_objective(group, rewards_of(group), epsilon=0.0, weights={"small": 3.0})
    assert [own[0] for own in weighed] == pytest.approx([-math.sqrt(2), math.sqrt(2)])
    with pytest.raises(UnknownNameError, match="Did you mean 'small'"):
        multi_objective(group, rewards_of(group), weights={"smal": 1.0})


def test_the_penalty_of_invalid_actions_is_an_objective() -> None:
    group = [of_terms(outcome=1.0), of_terms(outcome=1.0)]
    found = multi_objective(group, [np.array([0.9]), np.array([1.0])], epsilon=0.0)
    assert [own[0] for own in found] == pytest.approx([-0.7071, 0.7071], abs=1e-4)


# actor and critic


def test_gae_of_the_literature() -> None:
    assert gae([0, 0, 1], [0.5, 0.6, 0.8], 1.0, 0.95) == pytest.approx([0.4705, 0.39, 0.2])
    assert gae([], []).tolist() == []


@given(REWARDS, st.floats(0, 1), st.randoms())
def test_gae_between_its_ends(rewards: list[float], discount: float, chance: object) -> None:
    values = [chance.uniform(-5, 5) for _ in rewards]  # type: ignore[attr-defined]
    last = chance.uniform(-5, 5)  # type: ignore[attr-defined]
    returns, following = [], last
    for reward in reversed(rewards):
        following = reward + discount * following
        returns.insert(0, following)
    full = gae(rewards, values, discount, 1.0, last_value=last)
    assert full == pytest.approx(np.array(returns) - values, abs=1e-9)
    one_step = gae(rewards, values, discount, 0.0, last_value=last)
    expected = np.array(rewards) + discount * np.array([*values[1:], last]) - values
    assert one_step == pytest.approx(expected, abs=1e-9)


def test_bad_shapes_are_told() -> None:
    with pytest.raises(UsageError, match="shapes"):
        gae([1.0], [1.0, 2.0])
    with pytest.raises(UsageError, match="not finite"):
        gae([1.0], [math.nan])
    for spans in ([(0, 2), (1, 3)], [(0, 0), (1, 2)], [(0, 1), (2, 9)]):
        with pytest.raises(UsageError, match="does not follow"):
            token_rewards(spans, [1.0, 1.0], [0.0] * 4)
    with pytest.raises(UsageError, match="need as many rewards"):
        token_rewards([(0, 1)], [], [0.0])
