"""Reward methods in real training runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from agentgym.train.config import Recipe, parse_recipe
from agentgym.train.metrics import EVALS, METRICS, read_lines

pytestmark = pytest.mark.e2e
ENV_ID = "tests/Polish-v0"


@pytest.fixture
def polish(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fixtures"))
    gymnasium.register(ENV_ID, entry_point="polish_env:PolishEnv")
    yield ENV_ID
    del gymnasium.registry[ENV_ID]


def recipe(out_dir: Path, name: str, **overrides: Any) -> Recipe:
    base = {
        "run": {"out_dir": str(out_dir), "name": name},
        "env": {"id": ENV_ID},
        "model": {"tiny": {"hidden": 64, "layers": 1, "vocabulary_episodes": 24}},
        "grpo": {"updates": 12, "tasks_per_update": 6, "group_size": 8, "learning_rate": 1e-3, "on_policy_every": 0},
        "sampling": {"max_tokens": 8, "context": 256, "kv_cache_mb": 32},
        "eval": {"episodes": 48, "temperature": 1.0},
        "checkpoint": {"every": 2},
        "log": {"tensorboard": False},
    }
    return parse_recipe(base, {key.replace("__", "."): value for key, value in overrides.items()})


def warm_start(out_dir: Path) -> dict[str, Any]:
    """Train the model that all runs of a test start from."""
    from agentgym.train.run import train

    warmstart = {
        "episodes": 96, "epochs": 10, "tokens_per_batch": 512, "learning_rate": 1e-2, "only_successes": False,
    }  # fmt: skip
    train(recipe(out_dir, "warm", warmstart=warmstart, grpo__updates=0, eval__episodes=0))
    return {"model__name": str(out_dir / "warm" / "warmstart")}


def updates_of(run_dir: Path) -> list[dict[str, Any]]:
    return [line for line in read_lines(run_dir / METRICS) if line["phase"] == "grpo"]


def mean(lines: list[dict[str, Any]], name: str) -> float:
    return float(sum(line.get(name, 0.0) for line in lines)) / len(lines)


def test_a_step_reward_is_farmed_unless_it_is_gated(polish: str, tmp_path: Path) -> None:
    from agentgym.train.run import train

    start = warm_start(tmp_path)
    direct = updates_of(train(recipe(tmp_path, "direct", **start)))
    gated = updates_of(train(recipe(tmp_path, "gated", reward=[{"name": "gated"}], **start)))

    assert direct[0]["batch"] == gated[0]["batch"]
    assert 0.1 < direct[0]["success/mean"] < 0.6
    assert 0.1 < gated[0]["success/mean"] < 0.6
    # What was paid rises in both runs; only one of them does the task.
    assert mean(direct[-3:], "reward/mean") > direct[0]["reward/mean"] + 0.3
    assert mean(direct[-3:], "success/mean") < direct[0]["success/mean"] - 0.1
    assert mean(direct[-3:], "reward/polished") > direct[0]["reward/polished"] + 0.3
    assert mean(gated[-3:], "reward/mean") > gated[0]["reward/mean"] + 0.3
    assert mean(gated[-3:], "success/mean") > gated[0]["success/mean"] + 0.3
    assert all(line.get("reward/polished", 0.0) == 0 for line in gated)  # nobody polishes and wins
    assert mean(gated[-3:], "measure/raw/polished") < gated[0]["measure/raw/polished"]
    evals = [line["success"]["mean"] for line in read_lines(tmp_path / "gated" / EVALS)]
    assert evals[-1] > evals[0]


def test_a_method_that_learns_goes_on_where_it_was(polish: str, tmp_path: Path) -> None:
    from agentgym.train.run import train

    rewards = {"reward": [{"name": "progress", "kwargs": {"beta": 0.0}}], "eval__episodes": 0}
    start = {**warm_start(tmp_path), **rewards}
    whole = updates_of(train(recipe(tmp_path, "whole", grpo__updates=4, **start)))
    train(recipe(tmp_path, "parts", grpo__updates=2, **start))
    parts = updates_of(train(recipe(tmp_path, "parts", grpo__updates=4, **start), resume=True))
    assert [line["fit/progress/fitted_episodes"] for line in whole] == [48.0, 96.0, 144.0, 192.0]
    for own, resumed in zip(whole, parts, strict=True):
        for name in ("batch", "fit/progress/fitted_episodes"):
            assert resumed[name] == own[name], (name, own["step"])
    assert "fit/progress/loss" in parts[2], "what it had learned was there to be tried on the new batch"
    assert all(line["seconds/reward"] > 0 for line in whole)


def test_information_gain_looks_into_the_learner(polish: str, tmp_path: Path) -> None:
    from agentgym.train.run import train

    method = {"outcome": "environment", "answer_format": {"template": "{answer}"}}
    rewards = {"reward": [{"name": "information_gain", "kwargs": method}], "grpo__advantage": "igpo"}
    start = {**warm_start(tmp_path), **rewards}
    lines = updates_of(train(recipe(tmp_path, "run", grpo__updates=2, eval__episodes=0, **start)))
    for line in lines:
        assert line["reward/information_gain"] < 0  # who has polished has lost the answer
        at_first = line["measure/answer_logprob"] - line["reward/information_gain"]
        assert -3 < at_first < 0  # one of three things to do
        assert line["reward/outcome"] == line["success/mean"]
        assert line["grad_norm"] > 0
    assert lines[0]["sync_error"] < 1e-3


@pytest.mark.parametrize("advantage", ["reinforce_plus_plus", "turn_level", "multi_objective"])
def test_every_estimator_trains(polish: str, tmp_path: Path, advantage: str) -> None:
    from agentgym.train.run import train

    start = warm_start(tmp_path)
    run_dir = train(recipe(tmp_path, "run", grpo__updates=1, grpo__advantage=advantage, eval__episodes=0, **start))
    (line,) = updates_of(run_dir)
    assert line["loss"] is not None
    assert line["grad_norm"] > 0
