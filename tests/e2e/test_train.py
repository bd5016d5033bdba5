from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from agentgym.errors import InfrastructureError, RecipeError, UnknownNameError
from agentgym.train.checkpoint import find_checkpoint
from agentgym.train.config import Recipe, parse_recipe
from agentgym.train.curriculum import TaskStream, batch_digest, open_task_stream
from agentgym.train.metrics import EVALS, METRICS, read_lines
from agentgym.train.models import check_model_dir
from agentgym.trajectory import read_trajectories

pytestmark = pytest.mark.e2e
ENV_ID = "tests/Drawers-v0"


@pytest.fixture
def drawers(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fixtures"))
    gymnasium.register(ENV_ID, entry_point="drawers_env:DrawersEnv")
    yield ENV_ID
    del gymnasium.registry[ENV_ID]


def recipe(out_dir: Path, **overrides: Any) -> Recipe:
    base = {
        "run": {"out_dir": str(out_dir), "name": "run"},
        "env": {"id": ENV_ID},
        "model": {"tiny": {"hidden": 64, "layers": 1, "vocabulary_episodes": 24}},
        "warmstart": {
            "episodes": 96, "epochs": 10, "tokens_per_batch": 512, "learning_rate": 1e-2, "only_successes": False,
        },
        "grpo": {"updates": 2, "tasks_per_update": 6, "group_size": 8, "learning_rate": 1e-3, "on_policy_every": 5},
        "sampling": {"max_tokens": 8, "context": 256, "kv_cache_mb": 32},
        "eval": {"episodes": 6, "temperature": 1.0},
        "checkpoint": {"every": 5},
    }  # fmt: skip
    return parse_recipe(base, {key.replace("__", "."): value for key, value in overrides.items()})


def test_grpo_learns_what_the_expert_does_not_know(drawers: str, tmp_path: Path) -> None:
    from agentgym.train.run import train

    run_dir = train(recipe(tmp_path, grpo__updates=20))
    lines = read_lines(run_dir / METRICS)
    updates = [line for line in lines if line["phase"] == "grpo"]
    assert [line["step"] for line in updates] == list(range(1, 21))
    assert {line["phase"] for line in lines} == {"warmstart", "grpo"}
    early = sum(line["success/mean"] for line in updates[:3]) / 3
    late = sum(line["success/mean"] for line in updates[-3:]) / 3
    assert late > early + 0.3, f"success went from {early:.2f} to {late:.2f}"
    proofs = [line["step"] for line in updates if line["sync_error"] is not None]
    assert proofs == [1, 5, 10, 15, 20]
    assert max(line["sync_error"] or 0 for line in updates) < 1e-3
    assert max(line["sampler_gap/max"] or 0 for line in updates) < 1e-3
    evals = read_lines(run_dir / EVALS)
    assert [line["label"] for line in evals] == ["warmstart", "final"]
    episodes = [list(read_trajectories(run_dir / "episodes" / f"{line['label']}.jsonl")) for line in evals]
    before, after = ([(t.task_id, t.seed) for t in played] for played in episodes)
    assert before == after
    assert len(before) == 6
    assert {t.split for t in episodes[0]} == {"valid_unseen"}
    check_model_dir(run_dir / "model")
    assert list((run_dir / "tensorboard").iterdir())


def test_the_expert_may_play_by_other_limits(drawers: str, tmp_path: Path) -> None:
    from agentgym.train.run import train

    own = {"warmstart__env_kwargs": {"max_turns": 1}, "model__dtype": "auto", "warmstart__epochs": 1}
    with pytest.raises(RecipeError, match="won none"):  # a drawer is opened in two turns
        train(recipe(tmp_path, warmstart__only_successes=True, grpo__updates=0, eval__episodes=0, **own))


@pytest.mark.parametrize(
    "overrides",
    [
        {"grpo__kl_coef": 0.1, "grpo__old_logprobs": "trainer", "grpo__tis_cap": 2.0, "grpo__epochs": 2},
        {"grpo__importance": "sequence", "grpo__aggregation": "seq_mean_token_mean", "grpo__minibatches": 3},
        {"model__lora": {"rank": 4, "targets": ["q_proj", "v_proj"]}, "grpo__kl_coef": 0.1, "model__dtype": "bfloat16",
         "grpo__on_policy_tolerance": 1e-3},
        {"grpo__dynamic_sampling": True, "grpo__advantage": "dr_grpo", "grpo__aggregation": "constant",
         "grpo__truncated": "mask", "sampling__temperature": 0.7, 
         "sampling__concurrency": 2, "grpo__tasks_per_update": 2},
    ],
    ids=["kl-tis", "gspo", "lora-bf16", "dynamic-dr-grpo"],
)  # fmt: skip
def test_every_kind_of_run_runs(drawers: str, tmp_path: Path, overrides: dict[str, Any]) -> None:
    from agentgym.train.run import train

    run_dir = train(recipe(tmp_path, eval__episodes=0, **overrides))
    updates = [line for line in read_lines(run_dir / METRICS) if line["phase"] == "grpo"]
    assert len(updates) == 2
    assert updates[0]["loss"] is not None
    assert updates[0]["sampler_gap/max"] < (0.05 if "model__dtype" in overrides else 1e-3)
    check_model_dir(run_dir / "model")


def test_the_batch_of_an_update_depends_on_seed_and_number_only(drawers: str, tmp_path: Path) -> None:
    first, second = (open_task_stream(recipe(tmp_path)) for _ in range(2))
    other = open_task_stream(recipe(tmp_path, run__seed=1))
    later = [second.groups(step) for step in (3, 2, 1, 0)][::-1]
    assert [first.groups(step) for step in range(4)] == later
    assert first.groups(0) != other.groups(0)
    for group in first.groups(2):
        assert len({(e.task_id, e.seed, e.group) for e in group}) == 1
    a_pass = [group[0].task_id for step in range(3) for group in first.groups(step)]
    assert len(set(a_pass)) == len(first.task_ids) == 18


def digest_of(stream: TaskStream, step: int) -> str:
    return batch_digest((episode.task_id, episode.seed) for group in stream.groups(step) for episode in group)


def test_a_killed_run_resumes_with_the_batch_that_it_would_have_had(drawers: str, tmp_path: Path) -> None:
    settings = recipe(tmp_path, grpo__updates=400, checkpoint__every=2, eval__episodes=0, env__kwargs={"slow_s": 0.02})
    file = tmp_path / "recipe.json"
    file.write_text(settings.model_dump_json())
    command = [sys.executable, str(Path(__file__).with_name("train_drawers.py")), str(file)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)
    checkpoints = settings.run_dir / "checkpoints"
    try:
        deadline_s = time.monotonic() + 240
        while len(list(checkpoints.glob("step-*"))) < 2:
            assert process.poll() is None, "training ended by itself"
            assert time.monotonic() < deadline_s, "no checkpoint was written"
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    newest = sorted(checkpoints.glob("step-*"))[-1]
    weights = newest / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])  # and the newest checkpoint is torn, too
    found, complaints = find_checkpoint(checkpoints)
    assert found is not None
    assert len(complaints) == 1

    last = found.step + 3
    file.write_text(recipe(
        tmp_path, grpo__updates=last, checkpoint__every=2, eval__episodes=0, env__kwargs={"slow_s": 0.02}
    ).model_dump_json())  # fmt: skip
    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=300, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert "skipped a checkpoint" in resumed.stdout
    assert f"resuming after update {found.step}" in resumed.stdout
    updates = [line for line in read_lines(settings.run_dir / METRICS) if line["phase"] == "grpo"]
    assert [line["step"] for line in updates] == list(range(1, last + 1))
    stream = open_task_stream(settings)
    assert [line["batch"] for line in updates] == [digest_of(stream, step) for step in range(last)]
    assert len({line["batch"] for line in updates}) == last


def test_a_run_is_not_overwritten_nor_resumed_as_another(drawers: str, tmp_path: Path) -> None:
    from agentgym.train.run import train

    with pytest.raises(RecipeError, match="no run to resume"):
        train(recipe(tmp_path), resume=True)
    train(recipe(tmp_path, grpo__updates=0, eval__episodes=0))
    with pytest.raises(RecipeError, match="--resume"):
        train(recipe(tmp_path))
    with pytest.raises(RecipeError, match=r"run\.seed"):
        train(recipe(tmp_path, run__seed=3), resume=True)


def test_mistakes_are_told_before_anything_is_trained(drawers: str, tmp_path: Path) -> None:
    from agentgym.train.run import train

    for overrides, said in (
        ({"env__id": "agentgym/Nowhere-v0"}, "environment"),
        ({"env__split": "trian"}, "Did you mean 'train'"),
        ({"eval__split": "valid_unsen"}, "Did you mean 'valid_unseen'"),
        ({"grpo__advantage": "grop"}, "Did you mean 'grpo'"),
    ):
        with pytest.raises(UnknownNameError) as caught:
            train(recipe(tmp_path / str(len(said)), **overrides))
        assert said in str(caught.value)


@pytest.mark.parametrize("fault", ["crash", "nan"])
def test_too_many_faults_stop_the_run(drawers: str, tmp_path: Path, fault: str) -> None:
    from agentgym.train.run import train

    train(recipe(tmp_path, grpo__updates=0, eval__episodes=0))
    name = tmp_path / "run" / "warmstart"
    kwargs = {"fault": fault, "max_turns": 3}
    broken = recipe(
        tmp_path, run__name="broken", model__name=str(name), warmstart__episodes=0, env__kwargs=kwargs, eval__episodes=0
    )
    if fault == "crash":
        with pytest.raises(InfrastructureError, match="more than half|burnt down"):
            train(broken)
        return
    run_dir = train(broken)  # a NaN reward masks its episode; most episodes lose and are sound
    updates = [line for line in read_lines(run_dir / METRICS) if line["phase"] == "grpo"]
    assert sum(line["infrastructure_failures"] for line in updates) > 0
    assert all(line["reward/mean"] is not None for line in updates)
