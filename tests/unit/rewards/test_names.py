from __future__ import annotations

import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest

from agentgym.rewards.trajectory_reward import TrajectoryReward

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("group", ["rewards", "advantages"])
def test_the_names_of_recipes_are_those_of_files(group: str) -> None:
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][f"agentgym.{group}"]
    assert {"infopo", "verpo"} <= set(entries)
    for name, where in entries.items():
        assert where.split(":")[0].rpartition(".")[2] == name
        found = resolve_name(where)
        assert issubclass(found, TrajectoryReward) if group == "rewards" else callable(found)
