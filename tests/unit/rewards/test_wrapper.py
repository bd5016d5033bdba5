from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

from agentgym import make, make_vec
from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import TrajectoryReward, with_terms
from agentgym.rewards.wrapper import RewardWrapper
from agentgym.spaces import UnicodeText
from agentgym.trajectory import Trajectory

PLAIN_ID = "tests/Echo-v0"


class EchoEnv(gymnasium.Env[str, str]):
    """A text environment that knows nothing of ours: three words, each paid by its length."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.observation_space, self.action_space = UnicodeText(), UnicodeText()
        self.turn = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.turn = 0
        return (np.zeros(2) if self.broken == "numbers" else "Say a word."), {}

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.turn += 1
        reward = math.nan if self.broken == "nan" else float(len(action))
        info: dict[str, Any] = {"reward_terms": {"length": 0.0}} if self.broken == "sum" else {}
        return f"You said {action}.", reward, False, self.turn == 3, info


class Halved(TrajectoryReward):
    """Pays half of what each turn was paid, and measures the turn's number."""

    causal = True

    def shape(self, trajectory: Trajectory) -> Trajectory:
        turns = [
            with_terms(turn, {name: value / 2 for name, value in turn.reward_terms.items()}, {"number": float(i)})
            for i, turn in enumerate(trajectory.turns)
        ]
        return _with_turns(trajectory, turns)


class Equal(TrajectoryReward):
    """Shares the whole return out equally, which only the end can tell."""

    def shape(self, trajectory: Trajectory) -> Trajectory:
        share = trajectory.episode_return / len(trajectory.turns)
        return _with_turns(trajectory, [with_terms(t, {"share": share}, {"one": 1.0}) for t in trajectory.turns])


class Compared(Equal):
    needs_group = True


def _with_turns(trajectory: Trajectory, turns: list[Any]) -> Trajectory:
    return replace(trajectory, turns=tuple(turns))


@pytest.fixture
def plain_id() -> Iterator[str]:
    gymnasium.register(PLAIN_ID, entry_point=EchoEnv, disable_env_checker=True)
    yield PLAIN_ID
    del gymnasium.registry[PLAIN_ID]


def play(env: gymnasium.Env[Any, Any], actions: list[str]) -> list[tuple[float, dict[str, Any]]]:
    env.reset(seed=7)
    steps = []
    for action in actions:
        _, reward, terminated, truncated, info = env.step(action)
        steps.append((reward, info))
    assert terminated or truncated
    return steps


def test_a_causal_method_is_paid_at_each_step(plain_id: str) -> None:
    steps = play(RewardWrapper(gymnasium.make(plain_id), Halved()), ["a", "bb", "cccc"])
    assert [reward for reward, _ in steps] == [0.5, 1.0, 2.0]
    assert [info["reward_terms"] for _, info in steps] == [{"outcome": 0.5}, {"outcome": 1.0}, {"outcome": 2.0}]
    assert [info["raw_reward_terms"] for _, info in steps] == [{"outcome": 1.0}, {"outcome": 2.0}, {"outcome": 4.0}]
    assert [info["measures"] for _, info in steps] == [{"number": 0.0}, {"number": 1.0}, {"number": 2.0}]


def test_any_other_method_is_paid_at_the_end(plain_id: str) -> None:
    env = RewardWrapper(gymnasium.make(plain_id), Equal())
    steps = play(env, ["a", "bb", "cccc"])
    assert [reward for reward, _ in steps] == pytest.approx([0.0, 0.0, 7.0])
    assert [info["reward_terms"] for _, info in steps[:2]] == [{}, {}]
    assert steps[2][1]["reward_terms"] == pytest.approx({"share": 7.0})
    assert steps[2][1]["measures"] == {"one": 3.0}
    whole = env.trajectory
    assert [turn.reward for turn in whole.turns] == pytest.approx([7 / 3] * 3)
    assert [turn.observation for turn in whole.turns] == ["Say a word.", "You said a.", "You said bb."]
    assert (whole.env_id, whole.seed, whole.ended, whole.success) == (plain_id, 7, "truncated", None)
    assert whole.final_observation == "You said cccc."


def test_an_episode_of_ours_is_written_down_as_the_rollout_does(guess_id: str) -> None:
    env = RewardWrapper(make(guess_id), Halved())
    _, info = env.reset(seed=1, options={"split": "valid", "task_id": "valid/3"})
    for action in ("what?", "5", "3"):
        _, reward, terminated, _, info = env.step(action)
    assert (reward, terminated, info["reward_terms"], info["success"]) == (0.5, True, {"outcome": 0.5}, True)
    whole = env.trajectory
    assert (whole.task_id, whole.split, whole.kind, whole.success) == ("valid/3", "valid", "digit", True)
    assert whole.privileged == {"digit": 3}
    assert [turn.state_key for turn in whole.turns] == ["start", "start", "after 5"]
    assert [turn.executable for turn in whole.turns] == [False, True, True]
    env.reset(seed=1)
    assert env.trajectory.turns == ()


def test_wrappers_can_be_stacked(plain_id: str) -> None:
    env = RewardWrapper(RewardWrapper(gymnasium.make(plain_id), Halved()), Equal())
    steps = play(env, ["a", "bb", "cccc"])
    assert steps[2][0] == pytest.approx(3.5)
    assert steps[2][1]["raw_reward_terms"] == {"outcome": 4.0}
    assert steps[2][1]["measures"] == {"number": 3.0, "one": 3.0}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_under_vector_environments(plain_id: str, mode: str) -> None:
    wrappers = [functools.partial(RewardWrapper, method=Equal())]
    envs = make_vec(plain_id, num_envs=2, vectorization_mode=mode, wrappers=wrappers)
    try:
        envs.reset(seed=[3, 4])
        paid = [envs.step(actions) for actions in (("a", "bbb"), ("a", "bbb"), ("a", "bbb"))]
        assert [step[1].tolist() for step in paid] == [[0, 0], [0, 0], [3.0, 9.0]]
        assert paid[2][4]["reward_terms"]["share"].tolist() == pytest.approx([3.0, 9.0])
        assert [whole.seed for whole in envs.get_attr("trajectory")] == [3, 4]
    finally:
        envs.close()


@pytest.mark.parametrize(
    ("broken", "said"), [("nan", "turn 0.*'outcome' is nan"), ("sum", "add up to 0"), ("numbers", "shows ndarray")]
)
def test_bad_environments_are_told(plain_id: str, broken: str, said: str) -> None:
    env = RewardWrapper(gymnasium.make(plain_id, broken=broken), Equal())
    with pytest.raises(RewardError, match=said):
        play(env, ["a", "b", "c"])


def test_what_cannot_be_asked(plain_id: str) -> None:
    with pytest.raises(RewardError, match=r"\[\[reward\]\]"):
        RewardWrapper(gymnasium.make(plain_id), Compared())
    with pytest.raises(RewardError, match="call reset"):
        _ = RewardWrapper(gymnasium.make(plain_id), Equal()).trajectory
