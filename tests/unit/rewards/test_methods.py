"""What every reward method keeps to, whatever it pays."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.errors import RewardError
from agentgym.rewards.dense_split import DenseSplit
from agentgym.rewards.infopo import InfoPO
from agentgym.rewards.lare import LaRe
from agentgym.rewards.medloc import Medloc
from agentgym.rewards.oni import Oni
from agentgym.rewards.par import Par
from agentgym.rewards.shaping import Shaping
from agentgym.rewards.ssl_tiers import SslTiers
from agentgym.rewards.subpo import SubPO
from agentgym.rewards.terms import final_state
from agentgym.rewards.trajectory_reward import Continuation, TrajectoryReward
from agentgym.rewards.verpo import Verpo
from agentgym.rewards.webarbiter import Webarbiter
from agentgym.trajectory import Trajectory, Turn

SAID = ("a mug\na table", "a table", "nothing", "a door")


class CacheModel:
    """A language model over characters that expects what it has read: add-one counts of its context."""

    calls = 0

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def score(self, continuations: Sequence[Continuation]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        self.calls += 1
        return [self._score([*one.context_ids], [*one.ids]) for one in continuations]

    def _score(self, seen: list[int], ids: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
        logprobs = []
        for token in ids:
            logprobs.append(math.log((seen.count(token) + 1) / (len(seen) + 256)))
            seen = [*seen, token]
        return np.array(logprobs)


def lare() -> LaRe:
    method = LaRe(["reward/score", len_of_observation])
    method.fit([episode([0.5, 1.0], 1.0, keys="ab"), episode([0.0], 0.0, keys="a")])
    return method


def infopo() -> InfoPO:
    method = InfoPO()
    method.bind(CacheModel())
    return method


def len_of_observation(turn: Turn) -> float:
    return float(len(turn.observation))


MAKERS: dict[str, Callable[[], TrajectoryReward]] = {
    "dense_split": lambda: DenseSplit("score", 4),
    "infopo": infopo,
    "lare": lare,
    "medloc": lambda: Medloc("reward/outcome"),
    "oni": lambda: Oni({"a table": 1.0}),
    "par": lambda: Par("reward/score", [0.0, 1.0]),
    "shaping": lambda: Shaping(len_of_observation, discount=0.9),
    "shaping-measure": lambda: Shaping("measure/near", initial=0.5),
    "ssl_tiers": lambda: SslTiers("measure/near"),
    "subpo": lambda: SubPO("observation"),
    "subpo-state": SubPO,
    "verpo": Verpo,
    "webarbiter": lambda: Webarbiter(gold="judged", pattern="go (.)", verdicts=["a", "b", "c"]),
}
CAUSAL = ("oni", "shaping", "shaping-measure", "subpo", "subpo-state")


def episode(scores: Sequence[float], outcome: float, keys: str, said: Sequence[int] = (), **kwargs: Any) -> Trajectory:
    """Lay an episode out whole: terms, measures, tests, states and tokens."""
    turns, end = [], 0
    for number, (score, key) in enumerate(zip(scores, keys, strict=True)):
        observation = SAID[said[number] if said else number % len(SAID)]
        prompt, tokens = [*b"<", *observation.encode(), *b">"], [*f"go {key}".encode()]
        terms = {"score": score, "test/easy": 1.0, "test/hard": float(score > 0.5)}
        start, end = end + len(prompt), end + len(prompt) + len(tokens)
        turns.append(
            Turn(
                observation,
                f"go {key}",
                prompt_ids=tuple(prompt),
                token_ids=tuple(tokens),
                span=(start, end),
                reward_terms=terms | ({"outcome": outcome} if number == len(scores) - 1 else {}),
                measures={"near": abs(score) % 1},
                state_key=key,
            )
        )
    start_fields = {
        "final_observation": "a door",
        "final_state_key": "z",
        "success": outcome > 0,
        "privileged": {"judged": "a"},
    } | kwargs
    return Trajectory("tests/Any-v0", "task", "train", group="g", turns=tuple(turns), **start_fields)


@st.composite
def episodes(draw: st.DrawFn) -> Trajectory:
    scores = draw(st.lists(st.floats(-3, 3), min_size=1, max_size=4))
    keys = "".join(draw(st.sampled_from("abc")) for _ in scores)
    said = [draw(st.integers(0, len(SAID) - 1)) for _ in scores]
    return episode(scores, float(draw(st.booleans())), keys, said)


batches = st.lists(episodes(), min_size=1, max_size=5)
named = st.sampled_from(sorted(MAKERS))


def paid(trajectories: Sequence[Trajectory]) -> list[list[dict[str, float]]]:
    return [[dict(turn.reward_terms) for turn in t.turns] for t in trajectories]


def assert_paid_alike(found: Sequence[Trajectory], expected: Sequence[Trajectory]) -> None:
    for own, other in zip(paid(found), paid(expected), strict=True):
        assert [set(turn) for turn in own] == [set(turn) for turn in other]
        for turn, other_turn in zip(own, other, strict=True):
            assert turn == pytest.approx(other_turn, abs=1e-9)


@settings(deadline=None)
@given(batches, named, st.randoms())
def test_permuting_episodes_permutes_what_they_are_paid(
    batch: list[Trajectory], name: str, chance: random.Random
) -> None:
    order = list(range(len(batch)))
    chance.shuffle(order)
    shaped = MAKERS[name]()(batch)
    assert_paid_alike(MAKERS[name]()([batch[i] for i in order]), [shaped[i] for i in order])


@settings(deadline=None)
@given(batches, named)
def test_only_terms_and_measures_change_and_are_finite(batch: list[Trajectory], name: str) -> None:
    shaped = MAKERS[name]()(batch)
    for before, after in zip(batch, shaped, strict=True):
        turns = tuple(
            replace(turn, reward_terms=old.reward_terms, measures=old.measures)
            for turn, old in zip(after.turns, before.turns, strict=True)
        )
        assert replace(after, turns=turns) == before
        for turn, old in zip(after.turns, before.turns, strict=True):
            assert dict(turn.measures) | dict(old.measures) == dict(turn.measures)
            assert all(math.isfinite(value) for value in [*turn.reward_terms.values(), *turn.measures.values()])
            for term in set(old.reward_terms) - set(turn.reward_terms):
                assert turn.measures[f"raw/{term}"] == old.reward_terms[term]
    # Of a single turn there is no next action that could have used its answer.
    assert shaped != batch or (name == "infopo" and all(len(member.turns) == 1 for member in batch))


@settings(deadline=None)
@given(batches, named)
def test_an_episode_that_a_fault_ended_shifts_nothing(batch: list[Trajectory], name: str) -> None:
    broken = replace(episode([9.0, 9.0], 1.0, "ab"), ended="infrastructure", success=None)
    shaped = MAKERS[name]()([broken, *batch])
    assert shaped[0] is broken
    assert_paid_alike(shaped[1:], MAKERS[name]()(batch))


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_an_episode_without_a_turn_and_an_empty_batch_are_left_as_they_are(name: str) -> None:
    empty = episode([], 0.0, "")
    assert MAKERS[name]()([]) == []
    assert MAKERS[name]()([empty]) == [empty]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_what_is_no_number_is_refused(name: str, value: float) -> None:
    good = episode([0.1, 0.2], 1.0, "ab")
    turns = (good.turns[0], replace(good.turns[1], reward_terms={**good.turns[1].reward_terms, "score": value}))
    with pytest.raises(RewardError, match=r"tests/Any-v0, task 'task', turn 1: .*score'? is (nan|inf)"):
        MAKERS[name]()([good, replace(good, turns=turns)])


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_term_is_not_paid_twice(name: str) -> None:
    once = MAKERS[name]()([episode([0.1, 0.2], 1.0, "ab")])
    if name in ("dense_split", "verpo"):
        return  # these replace terms of the same name, and verpo's tests are gone
    with pytest.raises(RewardError, match="is paid already"):
        MAKERS[name]()(once)


@settings(deadline=None)
@given(episodes(), st.sampled_from(CAUSAL))
def test_a_causal_method_pays_a_running_episode_what_it_pays_the_whole(whole: Trajectory, name: str) -> None:
    shaped = MAKERS[name]().shape(whole)
    for length in range(1, len(whole.turns)):
        after = whole.turns[length]
        prefix = replace(
            whole,
            turns=whole.turns[:length],
            final_observation=after.observation,
            final_state_key=after.state_key,
            success=None,
            ended="running",
        )
        assert final_state(prefix).state_key == after.state_key
        assert_paid_alike([MAKERS[name]().shape(prefix)], [replace(shaped, turns=shaped.turns[:length])])


def test_the_causal_methods_are_known() -> None:
    assert {name for name, make in MAKERS.items() if make().causal} == set(CAUSAL)


def test_methods_compose_in_the_order_of_the_recipe() -> None:
    batch = [episode([0.9, 0.2], 1.0, "ab"), episode([0.1, 0.0, 0.3], 0.0, "aba")]
    for name in ("infopo", "verpo", "oni", "subpo", "shaping", "ssl_tiers", "dense_split", "medloc"):
        batch = MAKERS[name]()(batch)
    last = batch[0].turns[-1]
    assert set(last.reward_terms) == {"verpo", "oni", "subpo", "shaping", "ssl", "score", "medloc"}
    assert last.measures["raw/outcome"] == 1.0
    assert [t.success for t in batch] == [True, False]
