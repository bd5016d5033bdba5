"""The reward term `progress` of household tasks."""

from __future__ import annotations

import pytest

from agentgym.actions import Move
from agentgym.errors import UsageError
from agentgym_household.alfred.beliefs import kind_of
from agentgym_household.alfred.goal import TASK_TYPES
from agentgym_household.household import HouseholdEnv


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_progress_rises_to_its_weight(kind: str) -> None:
    env = HouseholdEnv(data_dir="generated", task_types=[kind], progress_reward=0.6)
    for seed in range(3):
        env.reset(seed=seed)
        paid, ended, info = [], False, {}
        while not ended:
            _, reward, terminated, truncated, info = env.step(env.expert_move().command)
            assert reward == pytest.approx(sum(info["reward_terms"].values()))
            paid.append(info["reward_terms"]["progress"])
            ended = terminated or truncated
        assert info["success"]
        assert sum(paid) == pytest.approx(0.6)
        assert min(paid) >= 0, "the expert never goes back"
        assert sum(step > 0 for step in paid) >= 2
    env.close()


def test_a_step_back_takes_away_what_the_step_had_paid() -> None:
    env = HouseholdEnv(data_dir="generated", task_types=["pick_heat_then_place_in_recep"], progress_reward=1.0)
    env.reset(seed=1)
    assert env._goal is not None
    paid = []
    command = ""
    while not command.startswith("take "):
        command = env.expert_move().command
        paid.append(env.step(command)[1])
    assert kind_of(command.removeprefix("take ").partition(" from ")[0]) == env._goal.target
    thing, _, place = command.removeprefix("take ").partition(" from ")
    for back_and_forth in (f"move {thing} to {place}", command) * 3:
        _, reward, _, _, info = env.step(back_and_forth)
        assert info["executable"]
        paid.append(reward)
    assert paid[-6:] == pytest.approx([-1 / 3, 1 / 3] * 3)
    assert sum(paid) == pytest.approx(1 / 3), "going to and fro earns nothing"
    env.close()


def test_without_a_weight_the_outcome_alone_is_paid() -> None:
    env = HouseholdEnv(data_dir="generated")
    env.reset(seed=0)
    _, _, _, _, info = env.step(Move(command="look").command)
    assert info["reward_terms"] == {"outcome": 0.0}
    env.close()
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="progress_reward"):
            HouseholdEnv(progress_reward=bad)
