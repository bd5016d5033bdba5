"""What a run came to, in words and numbers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from agentgym.errors import UsageError
from agentgym.evaluate import compare, summarize
from agentgym.report.record import EvalPoint, RunRecord, number, series, total
from agentgym.stats import Interval

NBSP = "\u00a0"
MINUS = "\u2212"


@dataclass(frozen=True)
class Headline:
    """The result of a run.

    Attributes:
        sentence: The result in one sentence.
        setting: What was trained, on what, how long, in sentences.
        gain: Success after minus before on the same tasks, as a share; ``None`` without both evaluations.
        notes: What keeps the result from being whole.
    """

    sentence: str
    setting: str
    gain: Interval | None
    notes: tuple[str, ...]


def summarize_run(run: RunRecord) -> Headline:
    """Put a run's result into words."""
    notes: list[str] = []
    gain = _paired_gain(run, notes)
    planned = number(run.setting("grpo.updates"))
    if planned is not None and len(run.updates) < planned:
        notes.append(f"The run is not finished: {len(run.updates)} of {int(planned)} updates are done.")
    if not run.updates:
        notes.append("No reinforcement-learning update has been done yet.")
    if run.first is None:
        notes.append("There is no evaluation from before the first update.")
    if run.updates and run.last is None:
        notes.append("There is no evaluation after an update yet, so there is no gain to tell.")
    elif run.last is not None and run.last.label != "final":
        notes.append(f"There is no final evaluation yet; the newest one, after update {run.last.step}, stands for it.")
    return Headline(_result(run, gain), _setting(run), gain, tuple(notes))


def rerun_command(run: RunRecord) -> str:
    """Return a shell command that does the run again under another name."""
    source = run.folder / "recipe.json"
    if not source.exists():
        source = run.folder / "recipe.toml"
    if not source.exists():
        return ""
    return shlex.join(["agentgym", "train", str(source), "--set", f"run.name={run.name}-again"])


def tasks_named(run: RunRecord, point: EvalPoint) -> str:
    """Return ``held-out`` or, if the evaluation played the training split, ``training``."""
    return "training" if point.split and point.split == run.setting("env.split") else "held-out"


def percent(share: float | None) -> str:
    """Return a share as a whole percentage."""
    return "–" if share is None else f"{100 * share:.0f}{NBSP}%"


def points(share: float) -> str:
    """Return a difference of shares as signed percentage points."""
    rounded = round(100 * share, 1)
    return f"{'+' if rounded > 0 else MINUS if rounded < 0 else ''}{abs(rounded):g}"


def interval_said(gain: Interval) -> str:
    """Return the interval of a difference in points; without a spread between tasks there is none to tell."""
    if gain.low == gain.high:
        return "all tasks changed alike" if gain.estimate else "no task changed"
    return f"95{NBSP}% interval {points(gain.low)} to {points(gain.high)}"


def duration(seconds: float) -> str:
    """Return a time as a reader says it, e.g. ``14 min 3 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}{NBSP}s" if seconds < 10 else f"{whole}{NBSP}s"
    if whole < 3600:
        return f"{whole // 60}{NBSP}min {whole % 60}{NBSP}s"
    return f"{whole // 3600}{NBSP}h {whole % 3600 // 60}{NBSP}min"


def count(value: float) -> str:
    """Return a number with thin spaces between thousands, or in millions."""
    if value >= 1e6:
        return f"{value / 1e6:.2f}{NBSP}million"
    return f"{value:,.0f}".replace(",", "\u202f")


def facts(run: RunRecord) -> Mapping[str, str]:
    """Return the run's size: name of a figure to its value."""
    lines = run.updates
    found = {
        "updates": count(len(lines)),
        "training episodes": count(total(lines, "episodes")),
        "tokens sampled": count(total(lines, "tokens/sampled")),
        "wall clock": duration(run.time_s),
    }
    rate = total(lines, "tokens/sampled") / max(total(lines, "seconds/sample"), 1e-9)
    if total(lines, "seconds/sample"):
        found["tokens/s sampled"] = count(rate)
    if failures := total(lines, "infrastructure_failures"):
        found["episodes lost to faults of ours"] = count(failures)
    errors = series(lines, "sync_error")
    if (errors == errors).any():
        found["largest sync error"] = f"{errors[errors == errors].max():.1e}{NBSP}nats"
    return found


def _paired_gain(run: RunRecord, notes: list[str]) -> Interval | None:
    if run.first is None or run.last is None:
        return None
    before, after = (run.episodes.get(point.label, ()) for point in (run.first, run.last))
    if not before or not after:
        notes.append("The paired difference needs the episodes of both evaluations, and they are not there.")
        return None
    try:
        return compare(summarize(before), summarize(after))
    except UsageError as error:
        notes.append(f"The paired difference cannot be told: {error}.")
        return None


def _result(run: RunRecord, gain: Interval | None) -> str:
    first, last = run.first, run.last
    if first is None or first.success is None:
        if last is not None and last.success is not None:
            return f"Success on {last.episodes} {tasks_named(run, last)} tasks is {percent(last.success.mean)}."
        return "There is no evaluation yet."
    if last is None or last.success is None:
        return (
            f"Before any update, success on {first.episodes} {tasks_named(run, first)} tasks is "
            f"{percent(first.success.mean)}."
        )
    before, after = percent(first.success.mean), percent(last.success.mean)
    where = f"Success on {last.episodes} {tasks_named(run, last)} tasks"
    updates = f"{last.step} update{'s' if last.step != 1 else ''}"
    if gain is None:
        return f"{where}: {before} before, {after} after {updates}."
    interval = f"{points(gain.estimate)} points, {interval_said(gain)}"
    if not gain.excludes_zero:
        return f"{where} did not change clearly: {before} before, {after} after {updates} ({interval})."
    verb = "rose" if gain.estimate > 0 else "fell"
    return f"{where} {verb} from {before} to {after} in {updates} ({interval})."


def _setting(run: RunRecord) -> str:
    model = run.setting("model.name")
    if model == "tiny":
        width, layers = run.setting("model.tiny.hidden"), run.setting("model.tiny.layers")
        shape = f" ({layers} layers, {width} wide)" if width and layers else ""
        model = f"A tiny language model made from scratch{shape}"
    elif model:
        model = f"The language model {model}"
    parts = [str(model or "A language model"), "was"]
    demonstrations = run.setting("warmstart.episodes")
    if demonstrations:
        parts.append(f"warm-started on {demonstrations} expert episodes{', then' if run.updates else ''}")
    if run.updates:
        tuned = " through LoRA adapters" if run.setting("model.lora") else ""
        parts.append(f"trained{tuned} with {str(run.setting('grpo.advantage') or 'grpo').upper()}")
    elif not demonstrations:
        parts.append("not trained yet")
    if run.setting("env.id"):
        parts.append(f"on {run.setting('env.id')}")
    tasks, group = run.setting("grpo.tasks_per_update"), run.setting("grpo.group_size")
    if tasks and group and run.updates:
        parts.append(f"({tasks} tasks × {group} episodes an update)")
    parts.append(f"in {duration(run.time_s)}, evaluations included.")
    if run.setting("run.seed") is not None:
        parts.append(f"Seed {run.setting('run.seed')}.")
    return " ".join(parts)
