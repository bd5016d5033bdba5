"""What a run left on disk, read so that a torn line or a missing file costs only itself."""

from __future__ import annotations

import json
import math
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentgym.errors import TrajectoryFileError, UsageError
from agentgym.trajectory import Trajectory, read_trajectories

METRICS, EVALS, EPISODES = "metrics.jsonl", "evals.jsonl", "episodes"
RECIPES = ("recipe.json", "recipe.toml")

Line = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean and the ends of its 95 % interval; an end that is not bounded is ``None``."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class KindSuccess:
    """Success on one family of tasks."""

    success: Estimate
    episodes: int


@dataclass(frozen=True)
class EvalPoint:
    """One line of ``evals.jsonl``.

    Attributes:
        label: Name of the evaluation, and of its file of episodes.
        step: Updates done before it.
        split: Tasks that were played.
        episodes: How many were scored.
        success: Share of successes.
        episode_return: Mean return.
        turns: Mean turns per episode.
        by_kind: Success of each family of tasks.
    """

    label: str
    step: int
    split: str
    episodes: int
    success: Estimate | None
    episode_return: Estimate | None
    turns: float | None
    by_kind: Mapping[str, KindSuccess]


@dataclass(frozen=True)
class RunRecord:
    """A run as far as it got.

    Attributes:
        folder: Its directory.
        recipe: Its settings; empty if they cannot be read.
        warmstart: Lines of the warm start, by step.
        updates: Lines of the reinforcement learning, by step, each step once.
        evals: Evaluations by step, each label once.
        episodes: Trajectories of the first and the last evaluation, by label.
        notes: What is missing or broken, in sentences for the reader.
    """

    folder: Path
    recipe: Mapping[str, Any]
    warmstart: Sequence[Line]
    updates: Sequence[Line]
    evals: Sequence[EvalPoint]
    episodes: Mapping[str, Sequence[Trajectory]]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.setting("run.name") or self.folder.resolve().name)

    @property
    def first(self) -> EvalPoint | None:
        """The evaluation before any update."""
        return self.evals[0] if self.evals and self.evals[0].step == 0 else None

    @property
    def last(self) -> EvalPoint | None:
        """The newest evaluation after an update."""
        return self.evals[-1] if self.evals and self.evals[-1].step > 0 else None

    @property
    def time_s(self) -> float:
        """Seconds from the start to the newest figure."""
        times = [number(line.get("time_s")) for line in (*self.warmstart, *self.updates)]
        return max((t for t in times if t is not None), default=0.0)

    def setting(self, dotted: str) -> Any:
        """Return a value of the recipe, e.g. ``"env.id"``; ``None`` if there is none."""
        value: Any = self.recipe
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


def load_run(run_dir: Path) -> RunRecord:
    """Read a run's directory.

    Raises:
        UsageError: There is no directory, or no figure in it.
    """
    if not run_dir.is_dir():
        raise UsageError(f"there is no run in {run_dir}: give the directory that `agentgym train` wrote")
    notes: list[str] = []
    metrics = _read_lines(run_dir / METRICS, notes)
    points = [point for line in _read_lines(run_dir / EVALS, notes) if (point := _read_eval(line)) is not None]
    if not metrics and not points:
        raise UsageError(
            f"{run_dir} holds no figures yet ({METRICS} is missing or empty): give the directory that `agentgym train` "
            "wrote, or wait until its first step is done"
        )
    evals = sorted({point.label: point for point in points}.values(), key=lambda point: point.step)
    shown = [evals[0].label, evals[-1].label] if evals else []
    return RunRecord(
        folder=run_dir,
        recipe=_read_recipe(run_dir, notes),
        warmstart=_by_step(metrics, "warmstart"),
        updates=_by_step(metrics, "grpo"),
        evals=evals,
        episodes={label: _read_episodes(run_dir / EPISODES, label, notes) for label in dict.fromkeys(shown)},
        notes=tuple(notes),
    )


def number(value: object) -> float | None:
    """Return a finite number, or ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        plain = float(value)
    except OverflowError:  # an integer of JSON has no bounds
        return None
    return plain if math.isfinite(plain) else None


def series(lines: Sequence[Line], name: str) -> Floats:
    """Return one figure of each line, NaN where it is missing."""
    values = (number(line.get(name)) for line in lines)
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def total(lines: Sequence[Line], name: str) -> float:
    """Return the sum of a figure over the lines that have it."""
    return float(np.nansum(series(lines, name))) if lines else 0.0


def _read_lines(path: Path, notes: list[str]) -> list[Line]:
    if not path.exists():
        notes.append(f"{path.name} is not there.")
        return []
    lines: list[Line] = []
    texts = path.read_text(encoding="utf-8", errors="replace").split("\n")
    if texts[-1].strip():
        notes.append(f"The last line of {path.name} is torn (its writer was stopped) and was left out.")
    for place, text in enumerate(texts[:-1], start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict):
            lines.append(line)
        else:
            notes.append(f"Line {place} of {path.name} is no JSON object and was left out.")
    return lines


def _by_step(lines: Sequence[Line], phase: str) -> list[Line]:
    found: dict[int, Line] = {}
    for line in lines:
        step = number(line.get("step"))
        if step is not None and line.get("phase") == phase:
            found[int(step)] = line  # an update that was done again after a resume replaces the first
    return [found[step] for step in sorted(found)]


def _read_eval(line: Line) -> EvalPoint | None:
    step = number(line.get("step"))
    if step is None:
        return None
    kinds = line.get("by_kind")
    by_kind: dict[str, KindSuccess] = {}
    for kind, result in (kinds if isinstance(kinds, dict) else {}).items():
        if not isinstance(result, dict):
            continue
        success = _read_estimate(result.get("success", result))
        if success is not None:
            by_kind[str(kind)] = KindSuccess(success, int(number(result.get("episodes", result.get("n"))) or 0))
    return EvalPoint(
        label=str(line.get("label", f"step-{int(step):06d}")),
        step=int(step),
        split=str(line.get("split", "")),
        episodes=int(number(line.get("episodes")) or 0),
        success=_read_estimate(line.get("success")),
        episode_return=_read_estimate(line.get("return")),
        turns=number(line.get("turns/mean")),
        by_kind=by_kind,
    )


def _read_estimate(plain: object) -> Estimate | None:
    if not isinstance(plain, dict):
        return None
    mean = number(plain.get("mean"))
    return None if mean is None else Estimate(mean, number(plain.get("low")), number(plain.get("high")))


def _read_recipe(run_dir: Path, notes: list[str]) -> Mapping[str, Any]:
    for name in RECIPES:
        path = run_dir / name
        if not path.exists():
            continue
        try:
            text = path.read_text(encoding="utf-8")
            recipe = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            notes.append(f"{name} cannot be read: {error}.")
            continue
        if isinstance(recipe, dict):
            return recipe
        notes.append(f"{name} is no table of settings.")
    notes.append("There is no readable recipe, so this page cannot say how the run was set up.")
    return {}


def _read_episodes(folder: Path, label: str, notes: list[str]) -> list[Trajectory]:
    path = folder / f"{label}.jsonl"
    if path.resolve().parent != folder.resolve():
        notes.append(f"The evaluation named {label!r} names no file of this run, so its episodes are not shown.")
        return []
    read: list[Trajectory] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            read.extend(read_trajectories(path))
        except TrajectoryFileError as error:
            notes.append(f"Episodes of {label!r} are missing from line {len(read) + 1} on: {error}.")
    notes.extend(f"{warning.message}." for warning in caught)
    return read
