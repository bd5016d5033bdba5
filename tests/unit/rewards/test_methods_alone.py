"""What single reward methods promise beyond what all do, and what they refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym.errors import RewardError, UsageError
from agentgym.rewards.dense_split import DenseSplit
from agentgym.rewards.lare import LaRe
from agentgym.rewards.medloc import Medloc
from agentgym.rewards.oni import Oni
from agentgym.rewards.par import Par, par_reward
from agentgym.rewards.rto import rto_token_rewards
from agentgym.rewards.shaping import Shaping
from agentgym.rewards.ssl_tiers import SslTiers
from agentgym.rewards.stock import group_cvar, stock_invariant
from agentgym.rewards.subpo import SubPO, marginal_gains
from agentgym.rewards.verpo import Verpo
from agentgym.rewards.webarbiter import Webarbiter
from agentgym.train.advantage import discounted_returns
from agentgym.train.advantage.branches import phase_advantages, sibling_advantages
from agentgym.trajectory import Trajectory, Turn, write_trajectories

numbers = st.floats(-10, 10)
discounts = st.floats(0.1, 1.0)


def episode(terms: Sequence[dict[str, float]], success: bool | None = None, **kwargs: Any) -> Trajectory:
    turns = tuple(Turn(f"see {i}", "do", reward_terms=own, state_key=f"s{i}") for i, own in enumerate(terms))
    return Trajectory("tests/Any-v0", "task", "train", turns=turns, success=success, **kwargs)


def measured(values: Sequence[float], **kwargs: Any) -> Trajectory:
    turns = tuple(Turn("see", "do", measures={"near": value}) for value in values)
    return Trajectory("tests/Any-v0", "task", "train", turns=turns, **kwargs)


def first_number(turn: Turn) -> float:
    return float(turn.observation)


def discounted(trajectory: Trajectory, discount: float) -> float:
    return float(discounted_returns(np.array([turn.reward for turn in trajectory.turns]), discount)[0])


@given(st.lists(st.lists(numbers, min_size=1, max_size=6), min_size=2, max_size=4), numbers, discounts)
def test_shaping_telescopes_and_leaves_the_order_of_policies(
    paths: list[list[float]], start: float, discount: float
) -> None:
    differences = []
    for path in paths:
        turns = tuple(Turn(repr(v), "do", reward_terms={"r": v}) for v in (start, *path))
        plain = Trajectory("tests/Any-v0", "task", "train", turns=turns, final_observation="7", ended="truncated")
        shaped = Shaping(first_number, discount=discount).shape(plain)
        differences.append(discounted(shaped, discount) - discounted(plain, discount))
    assert differences == pytest.approx([-start] * len(paths), abs=1e-9)


def test_a_named_potential_is_of_the_state_after_its_turn() -> None:
    shaped = Shaping("measure/near", initial=0.25, discount=0.5).shape(measured([0.5, 1.0, 9.0]))
    assert [turn.reward for turn in shaped.turns] == [0.0, 0.0, -1.0]  # the end has potential 0, whatever was measured
    running = Shaping("measure/near", initial=0.25, discount=0.5).shape(measured([0.5, 1.0, 9.0], ended="running"))
    assert [turn.reward for turn in running.turns] == [0.0, 0.0, 3.5]


@given(numbers, st.lists(numbers, min_size=1, max_size=5), st.floats(0.1, 1e6), st.floats(0, 10))
def test_par_is_bounded_and_never_falls(score: float, references: list[float], k: float, more: float) -> None:
    low, high = par_reward(score, references, k), par_reward(score + more, references, k)
    assert 0.0 <= low <= high + 1e-12 <= 1.0 + 2e-12


def test_par_scores_a_file_of_the_reference_policy(tmp_path: Path) -> None:
    path = tmp_path / "reference.jsonl"
    broken = episode([{"score": 50.0}], ended="infrastructure")
    write_trajectories(path, [episode([{"score": 1.0}]), episode([{"score": 3.0}]), broken])
    method = Par("reward/score", path, term="preferred")
    shaped = method.shape(episode([{"score": 0.5}, {"score": 1.5, "outcome": 1.0}]))
    assert shaped.turns[0].reward_terms == {}
    assert shaped.turns[1].reward_terms == pytest.approx({"outcome": 1.0, "preferred": 0.5})
    assert shaped.turns[1].measures == {"raw/score": 1.5, "preferred_score": 2.0}
    with pytest.raises(RewardError, match="tests/Any-v0, task 'other' has no reference rewards"):
        method.shape(replace(episode([{"score": 1.0}]), task_id="other"))


def test_par_compares_with_the_first_references_only() -> None:
    assert Par("reward/score", [1.0] * 10 + [99.0]).shape(episode([{"score": 1.0}])).episode_return == 0.5


def test_ssl_takes_the_nearest_turn_unless_told_otherwise() -> None:
    found = {
        how: SslTiers("measure/near", over_turns=how, weight=3.0).shape(measured([0.3, 0.9, 0.1])).episode_return
        for how in ("max", "mean", "last")
    }
    assert found == pytest.approx({"max": 3.0, "mean": 1.0, "last": 0.0})


def test_the_dense_split_knows_won_from_lost() -> None:
    terms = [{"score": 1.0}, {"move": 0.5}, {"score": 1.0, "outcome": 1.0}]
    counted = replace(episode(terms, True), privileged={"quests": 5})
    won = DenseSplit("score", "quests").shape(counted)
    assert [turn.reward_terms for turn in won.turns] == [{"score": 0.5}, {"move": 0.5}, {"outcome": 1.0, "score": 0.5}]
    assert won.turns[0].measures == {"raw/score": 1.0}
    lost = DenseSplit("score", "quests").shape(replace(counted, success=False))
    assert lost.reward_terms == pytest.approx({"score": 0.4, "move": 0.5, "outcome": 1.0})


items = st.lists(st.sets(st.sampled_from("abcdef")), max_size=6)


@given(items, st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 5)))
def test_gains_are_a_monotone_submodular_functions(steps: list[set[str]], weights: dict[str, float]) -> None:
    gains = marginal_gains(steps, weights)
    covered = set().union(*steps)
    assert math.fsum(gains) == pytest.approx(sum(weights.get(item, 1.0) for item in covered))
    assert min(gains, default=0) >= 0
    for item in "abcdef":  # what is added later gains no more
        late = marginal_gains([*steps, {item}], weights)[-1]
        early = marginal_gains([*steps[:1], {item}], weights)[-1]
        assert late <= early


def test_asking_the_same_again_earns_nothing() -> None:
    turns = tuple(Turn("see", action) for action in ("search cats", "search  cats", "search dogs", ""))
    shaped = SubPO("action").shape(Trajectory("tests/Any-v0", "task", "train", turns=turns))
    assert [turn.reward for turn in shaped.turns] == [1.0, 0.0, 1.0, 0.0]


def test_oni_wears_off_within_an_episode(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"gold!": 1.0}))
    turns = tuple(Turn(text, "dig", reward_terms={"outcome": 1.0}) for text in ("start", "gold!", "mud", "gold!"))
    plain = Trajectory("tests/Any-v0", "task", "train", turns=turns, final_observation="gold!\n")
    shaped = Oni(str(path), exponent=1.0, extrinsic_weight=0.1).shape(plain)
    assert [turn.reward_terms["oni"] for turn in shaped.turns] == pytest.approx([0.4, 0.0, 0.2, 0.4 / 3])
    assert [turn.reward_terms["outcome"] for turn in shaped.turns] == pytest.approx([0.1] * 4)
    assert [turn.measures["oni_label"] for turn in shaped.turns] == [1.0, 0.0, 1.0, 1.0]


def test_verpo_shares_weight_between_tests_that_pass_alike_and_prefers_hard_ones() -> None:
    def ran(hard: float) -> dict[str, float]:
        return {"test/easy": 1.0, "test/easy too": 1.0, "test/hard": hard}

    group = [episode([ran(0.0), ran(1.0) | {"outcome": 1.0}]), episode([{}, ran(0.0)], False)]
    shaped = Verpo(discount=0.5)(group)
    easy, hard = math.exp(-1), math.exp(-1 / 3)
    apart = math.exp(-((2 / 3) ** 2) / 0.08)  # tests further apart than the width hardly share
    both = 2 * easy / (2 + apart)
    assert [turn.reward_terms for turn in shaped[0].turns] == [
        pytest.approx({"verpo": both}),
        pytest.approx({"verpo": both + hard / (1 + 2 * apart), "outcome": 0.25}),
    ]
    assert shaped[1].turns[0].reward_terms == {}
    assert shaped[1].turns[1].reward_terms["outcome"] == 0.0
    apart_groups = Verpo()([replace(one, group=name) for one, name in zip(group, "ab", strict=True)])
    assert apart_groups[1].turns[1].reward_terms["verpo"] != shaped[1].turns[1].reward_terms["verpo"]


@given(numbers, st.lists(numbers, max_size=8), st.floats(0.3, 1.0))
def test_the_stock_and_what_comes_add_up_to_the_same(initial: float, rewards: list[float], discount: float) -> None:
    whole = initial + sum(discount**t * reward for t, reward in enumerate(rewards))
    assert stock_invariant(initial, rewards, discount) == pytest.approx([whole] * (len(rewards) + 1), abs=1e-9)


@given(st.lists(numbers, min_size=1, max_size=9), st.floats(0.01, 1.0))
def test_the_tail_is_never_better_than_the_mean(returns: list[float], share: float) -> None:
    assert min(returns) - 1e-9 <= group_cvar(returns, share) <= np.mean(returns) + 1e-9
    assert group_cvar(returns, 1.0) == pytest.approx(np.mean(returns), abs=1e-9)


def judged(action: str, gold: Any = "B") -> Trajectory:
    return Trajectory("tests/Any-v0", "task", "train", turns=(Turn("see", action),), privileged={"verdict": gold})


@pytest.mark.parametrize(
    ("action", "reward"),
    [
        ("A is shorter. <verdict> B </verdict>", 1.0),
        ("<verdict>A</verdict> No: <verdict>B</verdict>", 1.0),
        ("<verdict>A</verdict>", -1.0),
        ("B", -1.0),
    ],
)
def test_a_judge_is_paid_for_its_last_verdict(action: str, reward: float) -> None:
    assert Webarbiter().shape(judged(action)).reward_terms == {"webarbiter": reward}


@given(st.lists(st.lists(numbers, min_size=1, max_size=3), min_size=1, max_size=5))
def test_siblings_are_compared_with_each_other_only(rewards: list[list[float]]) -> None:
    values, advantages = sibling_advantages(rewards)
    assert np.isfinite(advantages).all()
    assert advantages.sum() == pytest.approx(0, abs=1e-6)
    shifted = sibling_advantages([[reward + 3 for reward in own] for own in rewards])
    assert shifted[0] == pytest.approx(values + 3)
    assert shifted[1] == pytest.approx(advantages, abs=1e-6)


ONE = episode([{"score": 1.0}])
REFUSALS: list[tuple[Callable[[], Any], str]] = [
    (lambda: Shaping("near"), r"'near' is no figure: write 'reward/<term>'"),
    (lambda: Shaping("reward/"), "is no figure"),
    (lambda: Shaping("no_module:thing"), "there is no function 'no_module:thing'"),
    (lambda: Shaping("math:pi"), "is float, not a function"),
    (lambda: Shaping(first_number, discount=0.0), r"discount in \(0, 1\], not 0"),
    (lambda: Shaping("measure/near").shape(ONE), r"tests/Any-v0, task 'task', turn 0 has no measure 'near', only \[\]"),
    (lambda: Shaping(lambda _: math.nan).shape(ONE), "turn 0: .*lambda.* is nan"),
    (lambda: Par("reward/score", []), "no reference rewards"),
    (lambda: Par("reward/score", [1.0], k=0), "k above 0"),
    (lambda: Par("reward/score", [math.nan]).shape(ONE), "reference reward is nan"),
    (lambda: SslTiers("measure/near", edges=(0.5, 0.2), tiers=(0, 1, 2)), "rising edges"),
    (lambda: SslTiers("measure/near", tiers=(0, 1)), "one tier more"),
    (lambda: SslTiers("measure/near").shape(measured([0.1, math.nan])), "turn 1: measure/near is nan"),
    (lambda: DenseSplit("score", 0), "at least 1"),
    (lambda: DenseSplit("score", 3).shape(ONE), "tests/Any-v0, task 'task' was not graded"),
    (lambda: DenseSplit("score", "quests").shape(replace(ONE, success=True)), "privileged 'quests' is no count"),
    (lambda: DenseSplit("score", 1).shape(episode([{"score": 1.0}] * 2, False)), "paid 2 times 'score', of 1"),
    (lambda: SubPO(weights={"a": -1.0}), "weight of 'a' must be finite and not below 0"),
    (lambda: SubPO("everything"), "there is no function 'everything'"),
    (lambda: SubPO().shape(episode([{}], ended="running")), "turn 0 led to a state without state_key"),
    (lambda: Oni({}, exponent=-1.0), "more and more"),
    (lambda: Oni("missing.json"), "cannot read labels"),
    (lambda: Oni(lambda _: math.inf).shape(ONE), "turn 0: label of '' is inf"),
    (lambda: Verpo(width=0.0), "width above 0"),
    (lambda: Verpo()([ONE]), "no turn of the group ran a test"),
    (lambda: Verpo()([episode([{"test/a": 0.5}], True)]), "'test/a' is 0.5, neither passed"),
    (lambda: Verpo()([episode([{"test/a": 1.0}, {"test/b": 1.0}], True)]), "turn 1 ran other tests"),
    (lambda: Verpo()([episode([{"test/a": 1.0}])]), "has no outcome"),
    (lambda: Medloc("reward/score", start=0.9), "start <= highest"),
    (lambda: Medloc("reward/outcome").shape(ONE), "has no outcome"),
    (lambda: Medloc("reward/score").load_state_dict({"bar": 1}), "a bar and results, not"),
    (lambda: LaRe([]), "needs a list of features"),
    (lambda: LaRe("reward/score"), "needs a list of features"),
    (lambda: LaRe([first_number], sampled_turns=0), "at least 1 turn"),
    (lambda: LaRe([first_number], decoder="tree"), "'linear' or 'mlp', not 'tree'"),
    (lambda: LaRe([first_number], hidden=3), "cannot be made with"),
    (lambda: LaRe([first_number], ridge=0.0), "ridge above 0"),
    (lambda: LaRe(["reward/score"]).shape(ONE), "task 'task': lare can pay nothing before it was fitted"),
    (lambda: LaRe(["reward/score"]).fit([ONE]), "has no outcome"),
    (lambda: Webarbiter().shape(judged("A", None)), "task 'task': privileged 'verdict' is None, none of"),
    (lambda: Webarbiter(verdicts="AB"), "at least 2 verdicts"),
    (lambda: Webarbiter(pattern="("), "cannot read the pattern"),
    (lambda: Webarbiter(pattern="A|B"), "has no group"),
    (lambda: rto_token_rewards(np.zeros(0), np.zeros(0), 1.0), "ratio of each kind per token"),
    (lambda: rto_token_rewards(np.zeros(2), np.zeros(3), 1.0), "ratio of each kind per token"),
    (lambda: rto_token_rewards(np.array([0.0, math.nan]), np.zeros(2), 1.0), "token 1 is not finite"),
    (lambda: group_cvar([], 0.5), "no mean"),
    (lambda: group_cvar([1.0], 0.0), "no mean"),
]


@pytest.mark.parametrize("number", range(len(REFUSALS)), ids=lambda number: REFUSALS[number][1])
def test_what_cannot_be_is_told(number: int) -> None:
    attempt, said = REFUSALS[number]
    with pytest.raises(RewardError, match=said):
        attempt()


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (lambda: phase_advantages({"plan": np.array([1.0])}), "phase 'plan' needs at least 2"),
        (lambda: phase_advantages({"plan": np.array([1.0, math.nan])}), "phase 'plan' needs at least 2 finite"),
        (lambda: sibling_advantages([[1.0], []]), "child 1 needs finite rewards"),
    ],
)
def test_branches_that_cannot_be_compared_are_told(attempt: Callable[[], Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        attempt()
