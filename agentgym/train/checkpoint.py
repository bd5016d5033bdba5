"""Checkpoints: written whole or not at all, checked byte for byte before they are read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym.errors import ModelError
from agentgym.train.config import Recipe
from agentgym.train.learner import Learner

MANIFEST = "manifest.json"
REWARDS = "rewards.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole.

    Attributes:
        path: Its directory.
        step: Updates that are done.
    """

    path: Path
    step: int

    @property
    def model_dir(self) -> Path:
        """Hugging Face directory of the model as it was, adapters merged."""
        return self.path / "model"


def save_checkpoint(
    folder: Path, step: int, learner: Learner, recipe: Recipe, keep: int, rewards: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Write ``step-…`` into a folder and delete all but the newest ``keep``.

    The files are written and synced under another name, then renamed, so a process killed at any moment leaves the
    checkpoints before it as they were.

    Args:
        folder: Holds the checkpoints of a run.
        step: Updates that are done.
        learner: Model and optimizer.
        recipe: The run's.
        keep: How many stay, at least 1.
        rewards: State of the reward methods.
    """
    import torch
    from safetensors.torch import save_file

    target = folder / f"step-{step:06d}"
    with writing_directory(target) as unfinished:
        learner.save_model(unfinished / "model")
        torch.save(learner.optimizer.state_dict(), unfinished / "optimizer.pt")
        if adapters := learner.adapter_state():
            save_file(
                {name: tensor.contiguous() for name, tensor in adapters.items()}, unfinished / "adapters.safetensors"
            )
        torch.save(_random_states(), unfinished / "random.pt")
        if rewards:
            torch.save(dict(rewards), unfinished / REWARDS)
        (unfinished / "recipe.json").write_text(recipe.model_dump_json(indent=2), encoding="utf-8")
        files = {str(file.relative_to(unfinished)): _sha256(file) for file in _files(unfinished)}
        manifest = {"step": step, "files": files}
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    whole = sorted(folder.glob("step-*"))
    for old in whole[: -max(1, keep)]:
        shutil.rmtree(old)
    return Checkpoint(target, step)


def find_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest whole checkpoint, and a message for each newer one that is not."""
    complaints: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return open_checkpoint(path), complaints
        except ModelError as error:
            complaints.append(f"skipped a checkpoint: {error}")
    return None, complaints


def open_checkpoint(path: Path) -> Checkpoint:
    """Check that every file of a checkpoint is what was written.

    Raises:
        ModelError: One is missing or differs.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        step, files = int(manifest["step"]), dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} has no readable {MANIFEST}: {error}") from error
    for name, digest in files.items():
        file = path / name
        if not file.is_file():
            raise ModelError(f"{path} is half-written: {name} is missing")
        if _sha256(file) != digest:
            raise ModelError(f"{path} is corrupt: {name} is not what was written")
    return Checkpoint(path, step)


def restore(learner: Learner, checkpoint: Checkpoint) -> None:
    """Take optimizer, adapters and random states back; the learner was opened on the right model directory.

    Raises:
        ModelError: They do not fit the learner.
    """
    import torch
    from safetensors.torch import load_file

    try:
        learner.optimizer.load_state_dict(torch.load(checkpoint.path / "optimizer.pt", weights_only=True))
    except (ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"the optimizer in {checkpoint.path} does not fit the model; resume with the run's own recipe ({error})"
        ) from error
    if learner.config.lora is not None:
        learner.load_adapter_state(load_file(checkpoint.path / "adapters.safetensors"))
    _set_random_states(torch.load(checkpoint.path / "random.pt", weights_only=True))


def read_reward_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the state of the reward methods; empty if none keeps any."""
    import torch

    file = checkpoint.path / REWARDS
    return dict(torch.load(file, weights_only=True)) if file.exists() else {}


@contextlib.contextmanager
def writing_directory(target: Path) -> Iterator[Path]:
    """Give a directory to write into that becomes ``target`` when all of it is on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left_over in target.parent.glob(f".{target.name}.*"):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished = target.parent / f".{target.name}.{os.getpid()}"
    unfinished.mkdir()
    try:
        yield unfinished
        for path in [*unfinished.rglob("*"), unfinished]:
            _sync(path)
        if target.exists():
            shutil.rmtree(target)
        unfinished.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _random_states() -> dict[str, Any]:
    import torch

    return {"python": random.getstate(), "torch": torch.random.get_rng_state()}


def _set_random_states(states: dict[str, Any]) -> None:
    import torch

    version, values, gauss = states["python"]
    random.setstate((version, tuple(values), gauss))
    torch.random.set_rng_state(states["torch"])
