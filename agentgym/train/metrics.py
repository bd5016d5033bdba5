"""Figures of a run: JSON lines that survive a kill, TensorBoard, Weights & Biases."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from agentgym.errors import RecipeError
from agentgym.train.config import Recipe
from agentgym.whole_file import write_whole

METRICS, EVALS, SUPERSEDED = "metrics.jsonl", "evals.jsonl", "superseded.jsonl"
WANDB_ID = "wandb_run_id"


class RunLog:
    """Writes what a run measures.

    Args:
        recipe: The run's.
        resume_step: Go on after this update: later lines, of updates that will be done again, are moved to
            ``superseded.jsonl``. ``None``: a new run.

    Raises:
        RecipeError: W&B is wanted and not installed.
    """

    def __init__(self, recipe: Recipe, resume_step: int | None = None) -> None:
        self.folder = recipe.run_dir
        self.folder.mkdir(parents=True, exist_ok=True)
        before_s = 0.0 if resume_step is None else self._go_back(resume_step)
        self._started_s = time.monotonic() - before_s
        self._metrics = open(self.folder / METRICS, "a", encoding="utf-8")  # noqa: SIM115  # closed in close()
        self._board = _open_tensorboard(self.folder / "tensorboard") if recipe.log.tensorboard else None
        self._wandb = _open_wandb(recipe) if recipe.log.wandb else None

    @property
    def time_s(self) -> float:
        """Seconds that the run has taken, those before it was resumed included."""
        return time.monotonic() - self._started_s

    def write(self, phase: str, step: int, figures: Mapping[str, float | int | str | None]) -> None:
        """Write the figures of one step; texts among them go to the JSON lines only."""
        plain = {name: _finite(value) for name, value in figures.items()}
        self._append(self._metrics, {"phase": phase, "step": step, "time_s": round(self.time_s, 3), **plain})
        numbers = {f"{phase}/{name}": value for name, value in plain.items() if isinstance(value, int | float)}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log({**numbers, f"{phase}/step": step})

    def write_eval(self, figures: Mapping[str, Any]) -> None:
        """Write the figures of one evaluation."""
        with open(self.folder / EVALS, "a", encoding="utf-8") as file:
            self._append(file, {**figures, "time_s": round(self.time_s, 3)})
        success = figures["success"]
        if success and self._board is not None:
            self._board.add_scalar("eval/success", success["mean"], figures["step"])
        if success and self._wandb is not None:
            self._wandb.log({"eval/success": success["mean"], "grpo/step": figures["step"]})

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, file: Any, line: Mapping[str, Any]) -> None:
        file.write(json.dumps(line, allow_nan=False) + "\n")
        file.flush()

    def _go_back(self, step: int) -> float:
        """Keep the lines up to ``step``; return when the last of them was written."""
        last_s = 0.0
        for name in (METRICS, EVALS):
            kept: list[dict[str, Any]] = []
            superseded: list[dict[str, Any]] = []
            for line in read_lines(self.folder / name):
                is_later = line.get("phase") != "warmstart" and line.get("step", 0) > step
                (superseded if is_later else kept).append(line)
                if not is_later:
                    last_s = max(last_s, float(line.get("time_s", 0)))
            if superseded:
                with open(self.folder / SUPERSEDED, "a", encoding="utf-8") as file:
                    file.writelines(json.dumps(line) + "\n" for line in superseded)
            write_whole(self.folder / name, "".join(json.dumps(line) + "\n" for line in kept))
        return last_s


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line that a killed writer tore is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def memory_mb() -> float:
    """Return the resident memory of this process in MB; its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _finite(value: float | int | str | None) -> float | int | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _open_tensorboard(folder: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensorboard's own dependencies
            from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        warnings.warn(
            "TensorBoard is not installed: pip install tensorboard, or set log.tensorboard = false", stacklevel=3
        )
        return None
    return SummaryWriter(str(folder))


def _open_wandb(recipe: Recipe) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise RecipeError("log.wandb = true needs: pip install 'agentgym-core[wandb]'") from error
    # A resumed run goes on in the same run there: W&B knows it by this id alone.
    kept = recipe.run_dir / WANDB_ID
    if not kept.exists():
        kept.write_text(uuid.uuid4().hex[:8], encoding="ascii")
    return wandb.init(
        project=recipe.log.wandb_project,
        id=kept.read_text(encoding="ascii").strip(),
        name=recipe.run.name,
        config=recipe.model_dump(mode="json"),
        dir=str(recipe.run_dir),
        resume="allow",
    )
