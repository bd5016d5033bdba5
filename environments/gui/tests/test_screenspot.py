"""``ScreenSpot-v0`` on generated screens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agentgym
from agentgym.actions import Move
from agentgym.checks import check_env
from agentgym.errors import InfrastructureError, UnknownNameError, UsageError
from agentgym.rewards.gaussian import Gaussian
from agentgym.rewards.wrapper import RewardWrapper
from agentgym.rollout import Episode, Rollout
from agentgym.trajectory import Trajectory
from agentgym_gui.accuracy import accuracy_by_kind, mean_of_cells, report
from agentgym_gui.generate.render import ScreenSpec
from agentgym_gui.screenspot import COLUMNS, ScreenSpotEnv
from agentgym_policies.expert import ExpertPolicy


@pytest.fixture(scope="session")
def given(screens_dir: Path, spec: ScreenSpec) -> dict[str, Any]:
    fields = {"screens": spec.screens, "targets": spec.targets, "platforms": list(spec.platforms)}
    return {"generate": fields, "cache_dir": str(screens_dir)}


def test_it_keeps_the_contract(given: dict[str, Any]) -> None:
    failed = [result for result in check_env("agentgym/ScreenSpot-v0", episodes=3, **given) if not result.passed]
    assert failed == []


@pytest.mark.parametrize(
    "settings",
    [
        {"expert": "box"},
        {"frame": "thousand", "expert": "box"},
        {"frame": "unit"},
        {"most_side_px": 200, "expert": "box"},
        {"action_format": "json"},
        {"action_format": "tag", "frame": "thousand"},
        {"observe": "elements", "frame": "thousand"},
        {"edges": "half_open"},
    ],
    ids=str,
)
def test_the_expert_hits_every_target_in_every_format(given: dict[str, Any], settings: dict[str, Any]) -> None:
    env = ScreenSpotEnv(**given, **settings)
    for split in ("train", "test"):
        tasks = env.task_set(split)
        assert len(tasks) > 8
        for task in tasks:
            assert task.validate().episode_return == 1.0, task.id


def test_the_picture_is_shown_and_the_box_is_not(given: dict[str, Any]) -> None:
    env = ScreenSpotEnv(**given)
    observation, info = env.reset(seed=0)
    assert isinstance(observation, dict)
    assert observation["image"].dtype == np.uint8
    width, height = info["privileged"]["size"]
    assert observation["image"].shape == (height, width, 3)
    assert f"{width} wide" in observation["text"]
    box = info["privileged"]["box"]
    assert str(box) not in observation["text"]


def test_a_miss_is_paid_nothing_and_ends_it(given: dict[str, Any]) -> None:
    env = ScreenSpotEnv(**given)
    _, info = env.reset(seed=0)
    x1, y1, x2, y2 = info["privileged"]["box"]
    corner = "(0, 0)" if x1 > 0 or y1 > 0 else "({}, {})".format(*info["privileged"]["size"])
    _, reward, terminated, _, info = env.step(corner)
    assert (reward, terminated, info["success"]) == (0.0, True, False)
    assert info["measures"]["hit"] == 0.0
    assert x2 > x1
    assert y2 > y1


def test_an_answer_that_cannot_be_read_costs_the_only_turn(given: dict[str, Any]) -> None:
    env = ScreenSpotEnv(**given)
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step("over there")
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert info["measures"] == {"hit": 0.0}
    assert info["invalid_action"]
    assert info["success"] is False
    assert isinstance(observation, dict)
    assert "Write a point" in observation["text"]


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_tool_call_with_a_number_that_no_float_holds_is_an_observation(given: dict[str, Any], digits: int) -> None:
    env = ScreenSpotEnv(**given, action_format="json")
    env.reset(seed=0)
    _, _, _, _, info = env.step(f'{{"name": "point", "arguments": {{"x": {"9" * digits}, "y": 3}}}}')
    assert info["invalid_action"]


def test_a_box_is_measured_in_pixels_of_the_whole_screen(given: dict[str, Any]) -> None:
    env = ScreenSpotEnv(**given, frame="thousand", most_side_px=100, expert="box")
    _, info = env.reset(seed=3)
    box = info["privileged"]["box"]
    _, _, _, _, info = env.step(env.action_format.render(env.expert_move()))
    found = info["measures"]
    assert found["answer/width"] == pytest.approx(box[2] - box[0], abs=2)
    assert found["answer/x"] == pytest.approx((box[0] + box[2]) / 2, abs=2)


def test_zoom_shows_a_part_and_answers_stay_in_the_whole(given: dict[str, Any]) -> None:
    env = ScreenSpotEnv(**given, zoom=True)
    before, info = env.reset(seed=1)
    x1, y1, x2, y2 = info["privileged"]["box"]
    seen, reward, over, _, info = env.step(f"zoom [{x1}, {y1}, {x2}, {y2}]")
    assert not over
    assert reward == 0.0
    assert not info["invalid_action"]
    assert isinstance(before, dict)
    assert isinstance(seen, dict)
    assert seen["image"].shape == before["image"].shape
    assert not np.array_equal(seen["image"], before["image"])
    assert "zoom" in env.system_prompt
    _, reward, over, _, _ = env.step(env.expert_move().command)
    assert (reward, over) == (1.0, True)


def test_zoom_is_refused_where_it_is_not_allowed(given: dict[str, Any]) -> None:
    env = ScreenSpotEnv(**given, max_turns=3)
    env.reset(seed=1)
    _, _, _, _, info = env.step("zoom [1, 1, 50, 50]")
    assert info["invalid_action"]
    _, _, _, _, info = env.step(env.action_format.render(Move(command="zoom (3, 3)")))
    assert info["invalid_action"]


def test_elements_are_listed_and_one_of_them_is_asked_for(given: dict[str, Any]) -> None:
    env = ScreenSpotEnv(**given, observe="elements", expert="box")
    observation, _ = env.reset(seed=2)
    assert isinstance(observation, str)
    columns, *elements, _ = observation.splitlines()
    assert columns == COLUMNS
    move = env.expert_move()
    assert f"{move.thought}: {move.command}" in elements


def test_elements_of_a_benchmark_are_not_invented(tmp_path: Path, given: dict[str, Any]) -> None:
    source = ScreenSpotEnv(**given).task_set("test")[0].data["sample"].image.parent.parent
    for part in ("screenspot_web_v2.json", "screenspotv2_image"):
        (tmp_path / part).symlink_to(source / part)
    with pytest.raises(UsageError, match="generated screens only"):
        ScreenSpotEnv(data_dir=tmp_path, observe="elements").reset(seed=0)


def test_a_screenshot_that_is_gone_is_our_fault(tmp_path: Path, given: dict[str, Any]) -> None:
    source = ScreenSpotEnv(**given).task_set("test")[0].data["sample"].image.parent.parent
    (tmp_path / "screenspot_web_v2.json").symlink_to(source / "screenspot_web_v2.json")
    (tmp_path / "screenspotv2_image").mkdir()
    with pytest.raises(InfrastructureError, match="cannot be read"):
        ScreenSpotEnv(data_dir=tmp_path).reset(seed=0)


def test_the_variable_names_a_benchmark(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    folder = ScreenSpotEnv(**given).task_set("test")[0].data["sample"].image.parent.parent
    monkeypatch.setenv("AGENTGYM_SCREENSPOT", str(folder))
    env = ScreenSpotEnv()
    assert env.split == "test"
    assert len(env.task_set("test")) == len(ScreenSpotEnv(data_dir="generated", **given).task_set("test"))
    with pytest.raises(UnknownNameError):
        env.task_set("train")


@pytest.mark.parametrize("setting", [{"frame": "percent"}, {"observe": "sound"}, {"edges": "open"}, {"expert": "x"}])
def test_names_that_do_not_exist(setting: dict[str, str]) -> None:
    with pytest.raises(UnknownNameError):
        ScreenSpotEnv(**setting)


def test_the_gaussian_wraps_it(given: dict[str, Any]) -> None:
    env = RewardWrapper(agentgym.make("agentgym/ScreenSpot-v0", expert="box", **given), Gaussian())
    inner = env.unwrapped
    assert isinstance(inner, ScreenSpotEnv)
    env.reset(seed=4)
    _, reward, _, _, info = env.step(inner.expert_move().command)
    assert reward == pytest.approx(2.0, abs=1e-6)
    assert info["measures"]["hit"] == 1.0
    assert info["raw_reward_terms"] == {"outcome": 1.0}


def test_a_rollout_keeps_what_was_answered_and_the_gaussian_pays_it(given: dict[str, Any]) -> None:
    rollout = Rollout(lambda: ScreenSpotEnv(**given, expert="box"), ExpertPolicy(), concurrency=2)
    episodes = [Episode("agentgym/ScreenSpot-v0", seed=seed, split="test") for seed in range(6)]
    try:
        played = asyncio.run(rollout.play(episodes))
    finally:
        rollout.close()
    shaped = Gaussian()(played)
    assert [trajectory.episode_return for trajectory in shaped] == pytest.approx([2.0] * 6, abs=1e-6)
    assert [trajectory.measures["hit"] for trajectory in shaped] == [1.0] * 6


def test_accuracy_is_by_platform_and_by_type() -> None:
    kinds = [("desktop/text", True), ("desktop/text", False), ("desktop/icon", False), ("web/text", True)]
    played = [Trajectory("e", "t", "test", kind=kind, success=hit) for kind, hit in kinds]
    lost = Trajectory("e", "t", "test", kind="web/icon", ended="infrastructure")
    cells = accuracy_by_kind([*played, lost])
    found = {kind: (cell.hits, cell.count) for kind, cell in cells.items()}
    assert found == {
        "desktop": (1, 3), "desktop/icon": (0, 1), "desktop/text": (1, 2), "icon": (0, 1), "text": (2, 3),
        "web": (1, 1), "web/text": (1, 1), "all": (2, 4),
    }  # fmt: skip
    assert mean_of_cells(cells) == pytest.approx((0.5 + 0 + 1) / 3)
    assert "| all | 50.0% | 2 | 4 |" in report(played)
    with pytest.raises(UsageError):
        accuracy_by_kind([lost])
