from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

from agentgym.rewards.trajectory_reward import REWARDS_GROUP, TrajectoryReward

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMES = PROJECT["entry-points"][REWARDS_GROUP]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_named_method_is_there(name: str) -> None:
    module, _, attribute = NAMES[name].partition(":")
    assert issubclass(getattr(importlib.import_module(module), attribute), TrajectoryReward)
