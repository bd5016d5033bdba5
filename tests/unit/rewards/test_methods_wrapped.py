"""The methods around environments, with agents and environments that know nothing of ours."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from agentgym import make, make_vec
from agentgym.errors import RewardError
from agentgym.rewards.medloc import Medloc
from agentgym.rewards.oni import Oni
from agentgym.rewards.par import Par
from agentgym.rewards.shaping import Shaping
from agentgym.rewards.ssl_tiers import SslTiers
from agentgym.rewards.stock import StockWrapper
from agentgym.rewards.subpo import SubPO
from agentgym.rewards.trajectory_reward import TrajectoryReward
from agentgym.rewards.verpo import Verpo
from agentgym.rewards.wrapper import RewardWrapper
from agentgym.spaces import UnicodeText
from agentgym.trajectory import Turn

PLAIN_ID = "tests/Parrot-v0"


class ParrotEnv(gymnasium.Env[str, str]):
    """A text environment of nobody's: it says each word back, pays its length, and is over at "bye" or after 4."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = UnicodeText(), UnicodeText()
        self.turn = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.turn = 0
        return "Say a word.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turn += 1
        return f"You said {action}.", float(len(action)), action == "bye", self.turn == 4, {}


def length_of(turn: Turn) -> float:
    return float(len(turn.observation))


def nearness(turn: Turn) -> float:
    return turn.reward / 5


METHODS: dict[str, tuple[TrajectoryReward, list[float]]] = {
    # "Say a word." has 11 characters, "You said a." as many, "You said bb." 12
    "shaping": (Shaping(length_of), [1 + 0.0, 2 + 1.0, 3 - 12.0]),
    "subpo": (SubPO("observation", weights={"You said bb.": 3.0}), [1 + 1.0, 2 + 3.0, 3 + 1.0]),
    "subpo-action": (SubPO("action"), [1 + 1.0, 2 + 1.0, 3 + 1.0]),
    "oni": (Oni({"You said bb.": 1.0}, extrinsic_weight=2.0), [2.0, 4.4, 6.0]),
    "ssl_tiers": (SslTiers(nearness), [0.0, 0.0, 6 + 0.5 * 2 / 3]),
    "par": (Par("reward/outcome", [6.0]), [0.0, 0.0, 0.5]),
    "medloc": (Medloc(lambda trajectory: trajectory.episode_return / 10), [0.0, 0.0, 7.0]),
}


@pytest.fixture
def plain_id() -> Iterator[str]:
    gymnasium.register(PLAIN_ID, entry_point=ParrotEnv, disable_env_checker=True)
    yield PLAIN_ID
    del gymnasium.registry[PLAIN_ID]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_on_an_environment_of_nobodys(plain_id: str, name: str) -> None:
    method, expected = METHODS[name]
    env = RewardWrapper(gymnasium.make(plain_id), method)
    for _ in range(2):  # a second episode starts anew
        env.reset(seed=1)
        steps = [env.step(action) for action in ("a", "bb", "bye")]
        assert [reward for _, reward, *_ in steps] == pytest.approx(expected)
        assert steps[-1][2]
        assert [info["raw_reward_terms"] for *_, info in steps] == [{"outcome": float(n)} for n in (1, 2, 3)]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("name", ["subpo", "ssl_tiers"])
def test_under_vector_environments(plain_id: str, name: str, mode: str) -> None:
    method, expected = METHODS[name]
    wrappers = [functools.partial(RewardWrapper, method=method)]
    envs = make_vec(plain_id, num_envs=2, vectorization_mode=mode, wrappers=wrappers)
    try:
        envs.reset(seed=[1, 2])
        rewards = [envs.step((action, action))[1].tolist() for action in ("a", "bb", "bye")]
        assert rewards == [pytest.approx([reward, reward]) for reward in expected]
    finally:
        envs.close()


def test_new_states_of_an_environment_of_ours_pay(guess_id: str) -> None:
    env = RewardWrapper(make(guess_id), SubPO())
    env.reset(seed=1, options={"split": "valid", "task_id": "valid/3"})
    rewards = [env.step(action)[1] for action in ("7", "5", "7", "what?", "3")]
    assert rewards == [1.0, 1.0, 0.0, 0.0, 1.0]  # the last is the outcome; the end has no state of its own
    assert env.trajectory.reward_terms == {"subpo": 2.0, "outcome": 1.0}
    assert env.trajectory.ended == "terminated"
    env.reset(seed=1)
    env.step("7")
    running = env.trajectory
    assert running.ended == "running"
    assert running.final_state_key == "after 7"


def test_states_without_keys_are_told(plain_id: str) -> None:
    env = RewardWrapper(gymnasium.make(plain_id), SubPO())
    env.reset()
    with pytest.raises(RewardError, match=f"{PLAIN_ID}, task '', turn 0 led to a state without state_key"):
        env.step("a")


def test_a_method_of_groups_is_no_wrapper(plain_id: str) -> None:
    with pytest.raises(RewardError, match="Verpo compares the episodes of a group"):
        RewardWrapper(gymnasium.make(plain_id), Verpo())


def test_the_stock_is_shown(plain_id: str) -> None:
    env = StockWrapper(gymnasium.make(plain_id), -7.0, discount=0.5, template="Left: {stock:.1f}")
    observation, info = env.reset(seed=1)
    assert (observation, info["stock"]) == ("Say a word.\nLeft: -7.0", -7.0)
    observation, reward, *_, info = env.step("a")
    assert (observation, reward, info["stock"]) == ("You said a.\nLeft: -12.0", 1.0, -12.0)
    assert env.observation_space.contains(observation)
    observation, info = env.reset(seed=1)
    assert info["stock"] == -7.0


def test_the_stock_around_an_environment_of_ours_keeps_gymnasiums_rules(guess_id: str) -> None:
    check_env(StockWrapper(make(guess_id), 3.0).unwrapped, skip_render_check=True)
    env = StockWrapper(make(guess_id), 3.0)
    observation, _ = env.reset(seed=4)
    assert env.observation_space.contains(observation)
    again, _ = env.reset(seed=4)
    assert again == observation == "Guess.\nStock: 3"
    assert env.spec is not None
    assert [one.name for one in env.spec.additional_wrappers][-1] == "StockWrapper"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_stock_counts_what_a_method_pays_inside_it(plain_id: str, mode: str) -> None:
    wrappers = [functools.partial(RewardWrapper, method=SubPO("action")), functools.partial(StockWrapper, initial=10.0)]
    envs = make_vec(plain_id, num_envs=2, vectorization_mode=mode, wrappers=wrappers)
    try:
        envs.reset(seed=[1, 2])
        envs.step(("a", "bb"))
        observations, *_, infos = envs.step(("a", "c"))
        assert infos["stock"].tolist() == [13.0, 15.0]
        assert [text.splitlines()[-1] for text in observations] == ["Stock: 13", "Stock: 15"]
    finally:
        envs.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"discount": 0.0}, "discount in"),
        ({"initial": float("nan")}, "initial is nan"),
        ({"template": "no number"}, "shows no {stock}"),
        ({"template": "{left}"}, "cannot be filled in"),
    ],
)
def test_stocks_that_cannot_be(plain_id: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RewardError, match=said):
        StockWrapper(gymnasium.make(plain_id), **settings)
