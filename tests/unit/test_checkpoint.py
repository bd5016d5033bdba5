from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agentgym.errors import ModelError
from agentgym.train.batch import make_sequence, weigh
from agentgym.train.checkpoint import find_checkpoint, open_checkpoint, restore, save_checkpoint, writing_directory
from agentgym.train.config import LoraSection, Recipe, TinySection, parse_recipe
from agentgym.train.learner import Learner, LearnerConfig
from agentgym.train.metrics import EVALS, METRICS, SUPERSEDED, RunLog, read_lines
from agentgym.train.micro_batch import MicroBatch, collate
from agentgym.train.models import build_tiny, check_model_dir
from agentgym.trajectory import Trajectory, Turn

RECIPE = parse_recipe({"env": {"id": "tests/Any-v0"}})
TURNS = (Turn("see", "do", (10, 11, 12), (13, 14), (-1.0, -2.0), (3, 5)),)
SEQUENCE = make_sequence(Trajectory("tests/Any-v0", "task", "train", turns=TURNS), torch.ones(1).double().numpy())
BATCH = collate(weigh([SEQUENCE], "token_mean"))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60)]
    return build_tiny(words, tmp_path_factory.mktemp("models") / "tiny", TinySection(hidden=64, layers=1))


def advance(learner: Learner, steps: int = 1) -> list[float]:
    def loss_of(batch: MicroBatch) -> torch.Tensor:
        return -(learner.logprobs(batch) * batch.weights).sum()

    return [learner.step([BATCH], loss_of).loss for _ in range(steps)]


@pytest.mark.parametrize("lora", [None, LoraSection(rank=2, targets=["q_proj", "down_proj"])])
def test_a_restored_learner_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, model_dir: Path, lora: LoraSection | None
) -> None:
    config = LearnerConfig(learning_rate=1e-2, lora=lora)
    learner = Learner(model_dir, config)
    advance(learner, 3)
    saved = save_checkpoint(tmp_path, 3, learner, RECIPE, keep=2)
    torch.manual_seed(5)
    expected = advance(learner, 3)

    found, complaints = find_checkpoint(tmp_path)
    assert (found, complaints) == (saved, [])
    assert found is not None
    again = Learner(model_dir if lora else found.model_dir, config)
    restore(again, found)
    assert advance(again, 3) == pytest.approx(expected, rel=1e-5)
    check_model_dir(found.model_dir)
    merged = Learner(found.model_dir, LearnerConfig(learning_rate=1e-2))
    restored = Learner(model_dir if lora else found.model_dir, config)
    restore(restored, found)
    with torch.no_grad():
        assert merged.logprobs(BATCH).tolist() == pytest.approx(restored.logprobs(BATCH).tolist(), abs=1e-5)


def test_random_states_come_back(tmp_path: Path, model_dir: Path) -> None:
    learner = Learner(model_dir, LearnerConfig(learning_rate=1e-2))
    saved = save_checkpoint(tmp_path, 1, learner, RECIPE, keep=1)
    expected = torch.rand(3)
    restore(learner, saved)
    assert torch.rand(3).equal(expected)


def test_only_the_newest_stay(tmp_path: Path, model_dir: Path) -> None:
    learner = Learner(model_dir, LearnerConfig(learning_rate=1e-2))
    for step in (5, 10, 15):
        save_checkpoint(tmp_path, step, learner, RECIPE, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000010", "step-000015"]


def break_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("{")


def lose_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def truncate_weights(path: Path) -> None:
    file = path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    file = path / "optimizer.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def lose_weights(path: Path) -> None:
    (path / "model" / "model.safetensors").unlink()


@pytest.mark.parametrize("damage", [break_manifest, lose_manifest, truncate_weights, flip_a_bit, lose_weights])
def test_damaged_checkpoints_are_skipped_and_named(
    tmp_path: Path, model_dir: Path, damage: Callable[[Path], None]
) -> None:
    learner = Learner(model_dir, LearnerConfig(learning_rate=1e-2))
    for step in (1, 2):
        save_checkpoint(tmp_path, step, learner, RECIPE, keep=3)
    damage(tmp_path / "step-000002")
    with pytest.raises(ModelError, match="step-000002"):
        open_checkpoint(tmp_path / "step-000002")
    found, complaints = find_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(complaints) == 1
    assert "step-000002" in complaints[0]


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "nothing") == (None, [])


def test_what_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "whole"
    with writing_directory(target) as unfinished:
        (unfinished / "file").write_text("old")

    def fail() -> None:
        with writing_directory(target) as unfinished:
            (unfinished / "file").write_text("new")
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        fail()
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_adapters_of_another_rank_are_refused(tmp_path: Path, model_dir: Path) -> None:
    def learner(rank: int) -> Learner:
        return Learner(model_dir, LearnerConfig(learning_rate=1e-2, lora=LoraSection(rank=rank, targets=["q_proj"])))

    first = learner(2)
    advance(first)
    saved = save_checkpoint(tmp_path, 1, first, RECIPE, keep=1)
    with pytest.raises(ModelError, match="recipe"):
        restore(learner(4), saved)


def test_a_resumed_log_moves_what_will_be_done_again(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {"run": {"out_dir": str(tmp_path), "name": "r"}, "env": {"id": "e"}, "log": {"tensorboard": False}}
    )
    with RunLog(recipe) as log:
        log.write("warmstart", 7, {"loss": 1.0})
        for step in (1, 2, 3):
            log.write("grpo", step, {"loss": float("nan") if step == 2 else 0.5})
        for step in (0, 3):
            log.write_eval({"label": str(step), "step": step, "success": None})
    folder = tmp_path / "r"
    with open(folder / METRICS, "a") as file:
        file.write('{"phase": "grpo", "st')  # torn by a kill
    with RunLog(recipe, resume_step=2) as log:
        log.write("grpo", 3, {"loss": 0.25})
    lines = read_lines(folder / METRICS)
    assert [(line["phase"], line["step"], line["loss"]) for line in lines] == [
        ("warmstart", 7, 1.0),
        ("grpo", 1, 0.5),
        ("grpo", 2, None),
        ("grpo", 3, 0.25),
    ]
    assert [line["step"] for line in read_lines(folder / EVALS)] == [0]
    assert [line["step"] for line in read_lines(folder / SUPERSEDED)] == [3, 3]
    assert json.loads((folder / METRICS).read_text().splitlines()[-1])["time_s"] >= lines[0]["time_s"]
