"""Methods by the names, and with the settings, that a recipe can hold."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from agentgym.errors import RewardError, UnknownNameError
from agentgym.rewards.trajectory_reward import TrajectoryReward, make_reward
from agentgym.train.advantage import find_advantage
from agentgym.trajectory import Trajectory, Turn

ROOT = Path(__file__).resolve().parents[3]
RECIPE = """
[[reward]]
name = "dense_split"
kwargs = { source = "score", available = "quests" }
[[reward]]
name = "lare"
kwargs = { features = ["reward/score", "measure/near"], ridge = 0.1 }
[[reward]]
name = "medloc"
kwargs = { grade = "reward/score", window = 8 }
[[reward]]
name = "oni"
kwargs = { labels = { "You have the mug." = 1.0 } }
[[reward]]
name = "par"
kwargs = { scorer = "reward/score", references = { task = [0.5, 1.0] } }
[[reward]]
name = "shaping"
kwargs = { potential = "measure/near", discount = 0.9 }
[[reward]]
name = "ssl_tiers"
kwargs = { proximity = "measure/near" }
[[reward]]
name = "subpo"
kwargs = { covers = "action", weights = { look = 0.0 } }
[[reward]]
name = "verpo"
[[reward]]
name = "infopo"
[[reward]]
name = "webarbiter"
kwargs = { verdicts = ["A", "B", "tie"] }
"""
SECTIONS: list[dict[str, Any]] = tomllib.loads(RECIPE)["reward"]


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points of this checkout, which may not be those that were installed."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = []
    for group in ("agentgym.rewards", "agentgym.advantages"):
        lines += [f"[{group}]", *(f"{name} = {where}" for name, where in groups[group].items())]
    folder = tmp_path / "agentgym_checkout-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: agentgym-checkout\nVersion: 0\n")
    (folder / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section["name"])
def test_a_recipe_makes_each_method(section: dict[str, Any]) -> None:
    method = make_reward(section["name"], **section.get("kwargs", {}))
    assert isinstance(method, TrajectoryReward)
    assert type(method).__module__ == f"agentgym.rewards.{section['name']}"
    with pytest.raises(RewardError, match="cannot be made with .*no_such_setting"):
        make_reward(section["name"], **{**section.get("kwargs", {}), "no_such_setting": 1})


def test_a_recipe_can_name_a_function(tmp_path: Path) -> None:
    (tmp_path / "covers_of_a_user.py").write_text("def actions(turn, after):\n    return [turn.action]\n")
    turns = (Turn("ab", "x"), Turn("abcd", "y"))
    plain = Trajectory("tests/Any-v0", "task", "train", turns=turns)
    method = make_reward("subpo", covers="covers_of_a_user:actions")
    assert method.shape(plain).episode_return == 2.0


def test_unknown_names_are_told() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'infopo'"):
        make_reward("infopoo")
    assert find_advantage("infopo").__module__ == "agentgym.train.advantage.infopo"
    assert find_advantage("verpo").__module__ == "agentgym.train.advantage.verpo"
