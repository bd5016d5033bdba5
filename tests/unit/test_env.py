from __future__ import annotations

import json
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium_contract

import agentgym
from agentgym.errors import InvalidRewardError, ResetNeededError, UnknownNameError, UsageError


@pytest.mark.filterwarnings("ignore:.*render modes.*")
@pytest.mark.parametrize("action_format", ["plain", "tag", "json"])
def test_passes_gymnasiums_own_check(guess_id: str, action_format: str) -> None:
    check_gymnasium_contract(agentgym.make(guess_id, action_format=action_format).unwrapped)


def test_plain_gymnasium_plays_it(guess_id: str) -> None:
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(guess_id))
    observation, info = env.reset(seed=3, options={"split": "valid", "task_id": "valid/4"})
    assert (observation, info["task"]) == ("Guess.", {"id": "valid/4", "split": "valid", "kind": "digit"})
    assert env.step("7")[0] == "Too high."
    observation, reward, terminated, truncated, info = env.step("4")
    assert (observation, reward, terminated, truncated) == ("Right.", 1.0, True, False)
    assert info["success"] is True
    assert info["reward_terms"] == {"outcome": 1.0}
    assert info["episode"]["l"] == 2


def test_seed_draws_the_task(guess_id: str) -> None:
    env = agentgym.make(guess_id)
    drawn = [env.reset(seed=seed)[1]["task"]["id"] for seed in range(20)]
    assert drawn == [env.reset(seed=seed)[1]["task"]["id"] for seed in range(20)]
    assert len(set(drawn)) > 3


@pytest.mark.parametrize("action", ["", "7\n8", "\ud800", "a" * 10_000_000, 7, None, "é" * 9000])
def test_bad_actions_are_observations_and_cost_a_turn(guess_id: str, action: Any) -> None:
    env = agentgym.make(guess_id, max_turns=1).unwrapped
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(action)
    assert isinstance(observation, str)
    assert observation in env.observation_space
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["invalid_action"] is True
    assert info["executable"] is False
    assert info["state_key"] == "start"
    assert info["success"] is False
    json.dumps(info)


def test_step_outside_an_episode_says_what_to_do(guess_id: str) -> None:
    env = agentgym.make(guess_id, max_turns=1).unwrapped
    with pytest.raises(ResetNeededError, match=r"has not begun: call reset\(\)"):
        env.step("1")
    env.reset(seed=0)
    env.step("x")
    with pytest.raises(gymnasium.error.ResetNeeded, match="is over"):
        env.step("1")


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_is_our_fault(guess_id: str, reward: float) -> None:
    env = agentgym.make(guess_id, reward=reward)
    env.reset(options={"task_id": "train/3"})
    with pytest.raises(InvalidRewardError, match=r"reward term 'outcome' of task 'train/3' is (nan|inf)"):
        env.step("3")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "tran"}, "unknown split 'tran'. Did you mean 'train'"),
        ({"task_id": "train/99"}, "unknown task of split 'train' 'train/99'"),
        ({"task": 3}, "unknown reset option 'task'. Did you mean 'task_id'"),
    ],
)
def test_reset_refuses_what_is_not_there(guess_id: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(UnknownNameError, match=says):
        agentgym.make(guess_id).reset(options=options)


def test_making_refuses_what_is_not_there(guess_id: str) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'agentgym/Household-v0'"):
        agentgym.make("agentgym/Househld-v0")
    with pytest.raises(UsageError, match="colour"):
        agentgym.make(guess_id, colour="red")
    with pytest.raises(UsageError, match="max_turns"):
        agentgym.make(guess_id, max_turns=0)


def test_tasks_validate_themselves(guess_id: str) -> None:
    tasks = agentgym.make(guess_id).unwrapped.task_set("valid")  # type: ignore[attr-defined]  # to mypy, any Env
    assert all(task.validate().solved for task in tasks)
    assert tasks.get("valid/3") in tasks
    assert "train/3" not in tasks
    assert [task.id for task in tasks[2:4]] == ["valid/2", "valid/3"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_text_survives_vector_environments(mode: str) -> None:
    envs = agentgym.make_vec("agentgym/Household-v0", num_envs=2, vectorization_mode=mode)
    observations, _ = envs.reset(seed=1)
    assert all("Your task is to" in observation for observation in observations)
    envs.close()
