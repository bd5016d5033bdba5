"""Weights & Biases, for real and offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgym.train.config import Recipe
from agentgym.train.metrics import RunLog


def test_a_resumed_run_goes_on_in_the_same_run_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    recipe = Recipe.model_validate(
        {
            "run": {"out_dir": str(tmp_path), "name": "r"},
            "env": {"id": "e"},
            "log": {"tensorboard": False, "wandb": True},
        }
    )
    with RunLog(recipe) as log:
        log.write("grpo", 1, {"loss": 0.5, "batch": "a text"})
        log.write_eval({"label": "final", "step": 1, "success": {"mean": 0.25}})
    with RunLog(recipe, resume_step=1) as log:
        log.write("grpo", 2, {"loss": 0.25})
    written = sorted((tmp_path / "r" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(written) == 2, "one file for each time that the run was begun"
    assert len({file.name for file in written}) == 1, "both belong to one run"
    assert b"eval/success" in written[0].read_bytes()
