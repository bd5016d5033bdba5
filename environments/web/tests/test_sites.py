"""`agentgym/Site-v0` in a real browser: experts, the contract, random clicks, hostile text, faults."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from agentgym.checks import CHECKS, Probe, check_random
from agentgym.errors import InfrastructureError, UnknownNameError, UsageError
from agentgym_web.sites.site_env import ALL_KINDS, SiteEnv
from agentgym_web.sites.worlds import SPLITS


@pytest.fixture
def env() -> Iterator[SiteEnv]:
    env = SiteEnv()
    yield env
    env.close()


def play_expert(env: SiteEnv, split: str, task_id: str) -> tuple[float, bool, list[str]]:
    env.reset(seed=0, options={"split": split, "task_id": task_id})
    refused: list[str] = []
    while True:
        move = env.expert_move()
        observation, reward, terminated, truncated, info = env.step(env.action_format.render(move))
        if not info["executable"]:
            refused.append(f"{move.command}: {observation[:200]}")
        if terminated or truncated:
            return reward, info["success"], refused


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_expert_wins_every_family_in_every_split(kind: str) -> None:
    env = SiteEnv(kinds=[kind])
    for split in SPLITS:
        reward, success, refused = play_expert(env, split, env.task_set(split)[0].id)
        assert (reward, success, refused) == (1.0, True, []), split
    env.close()


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check is not check_random], ids=lambda one: one.__name__
)
def test_contract(check: object) -> None:
    assert callable(check)
    check(Probe("agentgym/Site-v0", {"tasks_per_split": 60}, episodes=2, random_ceiling=0.0))
    gc.collect()  # the checks leave their environments to the garbage collector


def test_tools_can_be_called_instead_of_commands() -> None:
    env = SiteEnv(kinds=["forum_reply"], action_format="json")
    assert env.task_set("train")[1].validate().solved
    env.close()


def test_random_clicks_win_nothing(env: SiteEnv) -> None:
    chance, outcomes = np.random.default_rng(0), []
    for seed in range(12):
        observation, _ = env.reset(seed=seed)
        for turn in range(12):
            numbers = re.findall(r"\[(\d+)\] (link|button|combobox|textbox)", str(observation))
            number, role = numbers[int(chance.integers(len(numbers)))]
            command = {"textbox": f'type {number} "abc"', "combobox": f"press {number} ArrowDown"}.get(
                role, f"click {number}"
            )
            observation, reward, _, _, info = env.step("stop" if turn == 11 else command)
        outcomes.append(reward)
        assert not info["success"]
    assert sum(outcomes) / len(outcomes) < 0.1


def test_the_expert_finds_back_when_somebody_else_moves() -> None:
    for kind in ("shop_find", "forum_thread", "tracker_relabel"):
        env = SiteEnv(kinds=[kind])
        env.reset(seed=1)
        env.step(env.expert_move().command)
        env.step("back")
        env.step("goto http://nowhere.example/")
        for _ in range(40):
            _, reward, terminated, _, info = env.step(env.expert_move().command)
            if terminated:
                break
        assert (reward, info["success"]) == (1.0, True)
        env.close()


def test_nothing_is_paid_before_stop_and_nothing_for_stopping_at_once(env: SiteEnv) -> None:
    _, info = env.reset(seed=0)
    _, reward, terminated, _, info = env.step("scroll down")
    assert (reward, terminated, info["reward_terms"]) == (0.0, False, {})
    _, reward, terminated, _, info = env.step("stop")
    assert (reward, terminated, info["success"], info["reward_terms"]) == (0.0, True, False, {"outcome": 0.0})


def test_an_unwanted_vote_costs() -> None:
    env = SiteEnv(kinds=["forum_reply"])
    observation, _ = env.reset(seed=0)
    while "Downvote post" not in str(observation):
        observation, *_ = env.step(env.expert_move().command)
    number = re.search(r'\[(\d+)\] button "Downvote post', str(observation))
    assert number
    env.step(f"click {number[1]}")
    for _ in range(20):
        _, reward, terminated, _, info = env.step(env.expert_move().command)
        if terminated:
            break
    assert (reward, info["success"]) == (0.5, False)
    env.close()


def test_a_script_in_the_agents_own_text_stays_text() -> None:
    env = SiteEnv(kinds=["tracker_comment"])
    observation, _ = env.reset(seed=0)
    while "Your comment" not in str(observation):
        observation, *_ = env.step(env.expert_move().command)
    field = re.search(r'\[(\d+)\] textbox "Your comment"', str(observation))
    button = re.search(r'\[(\d+)\] button "Add comment"', str(observation))
    assert field
    assert button
    env.step(f"type {field[1]} \"<script>document.title='owned'</script>')); DROP TABLE ticket; --\"")
    observation, *_ = env.step(f"click {button[1]}")
    assert "<script>document.title='owned'</script>')); DROP TABLE ticket; --" in str(observation)
    assert "title: owned" not in str(observation)
    _, reward, *_ = env.step("stop")
    assert reward == 0.0
    env.close()


def test_the_port_is_nowhere_to_be_seen_and_addresses_work() -> None:
    env = SiteEnv(kinds=["tracker"])
    observation, _ = env.reset(seed=0)
    assert "http://tracker.example/" in str(observation)
    assert "127.0.0.1" not in str(observation)
    observation, _, _, _, info = env.step("goto http://tracker.example/new")
    assert info["executable"]
    assert "Create ticket" in str(observation)
    for outside in ("http://127.0.0.1:1/", "file:///etc/passwd"):
        _, _, _, _, info = env.step(f"goto {outside}")
        assert not info["executable"]
    env.close()


def test_eight_episodes_at_once() -> None:
    envs = [SiteEnv(kinds=[kind]) for kind in ("shop_cart", "forum_vote", "tracker_close", "shop_cancel") * 2]
    gate = threading.Barrier(8)

    def play(number: int) -> bool:
        gate.wait()
        task = envs[number].task_set("train")[number]
        return task.validate().solved

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(play, range(8))) == [True] * 8
    for one in envs:
        one.close()


def test_a_server_that_ends_masks_the_episode(env: SiteEnv) -> None:
    env.reset(seed=0)
    assert env._server is not None
    env._server.close()
    with pytest.raises(InfrastructureError):
        env.step("goto http://shop.example/")


def test_wrong_arguments_say_what_is_there() -> None:
    with pytest.raises(UnknownNameError, match="forum_reply"):
        SiteEnv(kinds=["forum_replies"])
    with pytest.raises(UsageError, match="kinds is empty"):
        SiteEnv(kinds=[])
    with pytest.raises(UsageError, match="WebShop"):
        SiteEnv(items="/nonexistent")
    with pytest.raises(UnknownNameError):
        SiteEnv().task_set("test")
