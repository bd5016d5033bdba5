"""The figures of a report: what was learned, how fast, and whether the training was sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agentgym.report.episodes import visible
from agentgym.report.record import EvalPoint, Floats, Line, RunRecord, number, series, total
from agentgym.report.style import BEFORE, EVAL, GRID, INK, MUTED, PAPER, SAND, SEA, TRAIN, new_figure, put_titles
from agentgym.report.summary import NBSP, duration, percent

_KINDS_SHOWN = 10


@dataclass(frozen=True)
class Panel:
    """One small figure of the section on health."""

    name: str
    title: str
    colour: str = TRAIN
    scale: float = 1.0
    log: bool = False
    from_zero: bool = True


_HEALTH = (
    Panel("entropy", "Entropy (nats per token)"),
    Panel("kl", "KL term (nats per token)"),
    Panel("clip_fraction", "Clipped tokens (share)"),
    Panel("grad_norm", "Gradient norm"),
    Panel("sync_error", "Weight-sync error (nats)", EVAL, log=True),
    Panel("sampler_gap/max", "Largest gap to the sampler (nats)", EVAL, log=True),
    Panel("groups/tied", "Tied groups per update"),
    Panel("invalid/mean", "Invalid actions (share of turns)"),
    Panel("turns/mean", "Turns per episode"),
    Panel("truncated/mean", "Episodes cut off (share)"),
    Panel("infrastructure_failures", "Faults of ours (episodes)", EVAL),
    Panel("memory_mb", "Memory of the trainer (GB)", MUTED, scale=1 / 1000),
)


def smoothing_window(updates: int) -> int:
    """Return over how many updates the curves average; odd."""
    return 1 if updates < 10 else 5 if updates < 60 else 9


def moving_mean(values: Floats, window: int) -> Floats:
    """Return the centred mean of what is there within ``window``; NaN where nothing is."""
    half = window // 2
    found = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return np.array([np.nanmean(part) if np.isfinite(part).any() else np.nan for part in found])


def draw_overview(run: RunRecord, title: str = "", subtitle: str = "") -> Any:
    """Draw success, kinds of tasks, reward, speed and the seconds of an update on one sheet of 9 inches' width."""
    top = 0.60 if title else 0.0
    figure = new_figure(9, 5.9 + top)
    height = 5.9 + top
    grid = figure.add_gridspec(
        2, 6, left=0.062, right=0.975, bottom=0.075 * 5.9 / height, top=1 - (0.52 + top) / height,
        hspace=0.52, wspace=0.95, height_ratios=(1.45, 1),
    )  # fmt: skip
    if title:
        figure.text(0.012, 1 - 0.13 / height, title, fontsize=13, fontweight="bold", va="top")
        figure.text(0.012, 1 - 0.42 / height, subtitle, fontsize=9, color=MUTED, va="top")
    kinds = bool(_kinds(run))
    _draw_success(figure.add_subplot(grid[0, :4] if kinds else grid[0, :]), run)
    if kinds:
        _draw_kinds(figure.add_subplot(grid[0, 4:]), run)
    _draw_reward(figure.add_subplot(grid[1, :2]), run)
    _draw_speed(figure.add_subplot(grid[1, 2:4]), run)
    _draw_seconds(figure.add_subplot(grid[1, 4:]), run)
    return figure


def draw_health(run: RunRecord) -> Any | None:
    """Draw one small panel for each figure of health that the run has; ``None`` if it has none."""
    panels = [panel for panel in _HEALTH if np.isfinite(series(run.updates, panel.name)).any()]
    # A figure that is zero throughout and switched off says nothing.
    panels = [p for p in panels if p.name not in ("kl", "infrastructure_failures") or _varies(run, p.name)]
    warm = np.isfinite(series(run.warmstart, "loss")).any()
    places = len(panels) + bool(warm)
    if not places:
        return None
    rows = -(-places // 4)
    figure = new_figure(9, 1.62 * rows + 0.1)
    grid = figure.add_gridspec(
        rows, 4, left=0.045, right=0.99, bottom=0.34 / (1.62 * rows + 0.1), top=1 - 0.32 / (1.62 * rows + 0.1),
        hspace=0.66, wspace=0.26,
    )  # fmt: skip
    cells = iter([grid[place // 4, place % 4] for place in range(places)])
    if warm:
        _draw_line(figure.add_subplot(next(cells)), run.warmstart, Panel("loss", "Warm start: loss per token", SEA))
    for panel in panels:
        axes = figure.add_subplot(next(cells))
        _draw_line(axes, run.updates, panel)
        if panel.name == "sync_error" and (tolerance := number(run.setting("grpo.on_policy_tolerance"))):
            axes.axhline(tolerance, color=EVAL, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate("limit", (1, tolerance), (0, 3), ("axes fraction", "data"), "offset points", color=EVAL,
                          fontsize=7.5, ha="right")  # fmt: skip
            axes.set_ylim(top=tolerance * 6)
    return figure


def _varies(run: RunRecord, name: str) -> bool:
    values = series(run.updates, name)
    return bool((np.abs(values[np.isfinite(values)]) > 1e-9).any())


def _draw_success(axes: Any, run: RunRecord) -> None:
    window = smoothing_window(len(run.updates))
    over = f", mean of {window} updates" if window > 1 else ""
    legend = [(f"— training episodes{over}", TRAIN)] if run.updates else []
    points = [point for point in run.evals if point.success is not None]
    if points:
        legend.append((f"● {visible(points[0].split) or 'evaluation'} tasks, 95{NBSP}% interval", EVAL))
    put_titles(axes, "Success", legend)
    steps, values = series(run.updates, "step"), series(run.updates, "success/mean")
    _draw_band(axes, run.updates, "success", window)
    axes.plot(steps, values, ".", color=TRAIN, markersize=4.6, alpha=0.5, markeredgewidth=0)
    axes.plot(steps, moving_mean(values, window), color=TRAIN)
    _say_if_empty(axes, [values], bool(points))
    axes.set_ylim(0, 1)
    axes.set_yticks(np.arange(0, 1.01, 0.2), [percent(fifth / 5) for fifth in range(6)])
    _name_updates(axes, run)
    for place, point in enumerate(points):
        _mark(axes, point, named=place in (0, len(points) - 1), right=place == len(points) - 1 and point.step > 0)


def _mark(axes: Any, point: EvalPoint, *, named: bool, right: bool) -> None:
    success = point.success
    assert success is not None
    low = success.mean if success.low is None else success.low
    high = success.mean if success.high is None else success.high
    axes.plot([point.step] * 2, [low, high], color=EVAL, linewidth=1.4, zorder=4, clip_on=False)
    axes.plot(point.step, success.mean, "o", color=EVAL, markersize=7, markeredgecolor=PAPER, markeredgewidth=1.2,
              zorder=5, clip_on=False)  # fmt: skip
    if named:
        axes.annotate(
            percent(success.mean), (point.step, success.mean), (-8 if right else 8, 0), "data", "offset points",
            color=EVAL, fontsize=11, fontweight="bold", ha="right" if right else "left", va="center", zorder=6,
            path_effects=_halo(),
        )  # fmt: skip


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground=PAPER)]


def _draw_band(axes: Any, lines: Sequence[Line], name: str, window: int) -> None:
    steps = series(lines, "step")
    low, high = (moving_mean(series(lines, f"{name}/{end}"), window) for end in ("low", "high"))
    if not np.isfinite(low).any() and (spread := _spread(series(lines, f"{name}/mean"), window)):
        middle = moving_mean(series(lines, f"{name}/mean"), window)
        low, high = middle - 1.96 * spread, middle + 1.96 * spread
    axes.fill_between(steps, low, high, color=TRAIN, alpha=0.16, linewidth=0)


def _spread(values: Floats, window: int) -> float:
    """Return the standard deviation of single updates about the smoothed curve; 0 if there are too few."""
    if window == 1 or np.isfinite(values).sum() < 3:
        return 0.0
    gaps = (values - moving_mean(values, window)) / np.sqrt(1 - 1 / window)  # the mean holds the value itself
    return float(np.nanstd(gaps))


def _kinds(run: RunRecord) -> list[str]:
    points = [point for point in (run.first, run.last) if point is not None]
    found: dict[str, int] = {}
    for point in points:
        for kind, result in point.by_kind.items():
            found[kind] = max(found.get(kind, 0), result.episodes)
    return sorted(found, key=lambda kind: (-found[kind], kind))[:_KINDS_SHOWN] if len(found) > 1 else []


def _draw_kinds(axes: Any, run: RunRecord) -> None:
    kinds = _kinds(run)
    first, last = run.first, run.last
    legend = [("○ before", MUTED)] if first else []
    put_titles(axes, "Success by kind of task", [*legend, *([("● after", EVAL)] if last else [])])
    for row, kind in enumerate(kinds):
        ends = [p.by_kind[kind] if p is not None and kind in p.by_kind else None for p in (first, last)]
        tasks = max(end.episodes for end in ends if end is not None)
        name = visible(kind).replace("_", " ").replace("\n", " ").strip() or "(no kind)"
        axes.annotate(
            f"{name if len(name) < 34 else name[:32] + '…'}  n{NBSP}={NBSP}{tasks}", (0, row), (0, 6.5), "data",
            "offset points", fontsize=7.5, color=INK,
        )  # fmt: skip
        axes.plot([0, 1], [row, row], color=GRID, linewidth=0.8, zorder=1)
        before, after = (end.success.mean if end is not None else None for end in ends)
        if before is not None and after is not None:
            axes.plot([before, after], [row, row], color=EVAL, linewidth=2, alpha=0.4, zorder=2, clip_on=False)
        if before is not None:
            axes.plot(before, row, "o", markersize=5.5, color=PAPER, markeredgecolor=BEFORE, markeredgewidth=1.5,
                      zorder=3, clip_on=False)  # fmt: skip
        if after is not None:
            axes.plot(after, row, "o", markersize=6, color=EVAL, markeredgewidth=0, zorder=4, clip_on=False)
    axes.set_ylim(len(kinds) - 0.6, -0.75)
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_xticks([0, 0.5, 1], [percent(share) for share in (0, 0.5, 1)])


def _draw_reward(axes: Any, run: RunRecord) -> None:
    window = smoothing_window(len(run.updates))
    steps, values = series(run.updates, "step"), series(run.updates, "reward/mean")
    measured = np.isfinite(series(run.updates, "reward/low")).any()
    said = f"95{NBSP}% interval" if measured else f"95{NBSP}% of single updates" if window > 1 else ""
    put_titles(axes, "Return per episode", [(f"— mean, band: {said}" if said else "— mean", TRAIN)])
    _draw_band(axes, run.updates, "reward", window)
    axes.plot(steps, values, ".", color=TRAIN, markersize=4, alpha=0.5, markeredgewidth=0)
    axes.plot(steps, moving_mean(values, window), color=TRAIN)
    _say_if_empty(axes, [values])
    _name_updates(axes, run)


def _draw_speed(axes: Any, run: RunRecord) -> None:
    put_titles(axes, "Tokens per second", [("— sampled", TRAIN), ("— trained", SEA)])
    steps = series(run.updates, "step")
    drawn = []
    for phase, colour in (("sample", TRAIN), ("train", SEA)):
        values = series(run.updates, f"tokens_per_s/{phase}")
        values[values == 0] = np.nan  # an update whose groups all tied trained nothing
        axes.plot(steps, values, color=colour, linewidth=1.4)
        axes.plot(steps, values, ".", color=colour, markersize=3, markeredgewidth=0)
        drawn.append(values)
    _fit_top(axes)
    axes.yaxis.set_major_formatter(_thousands)
    _say_if_empty(axes, drawn)
    _name_updates(axes, run)


def _draw_seconds(axes: Any, run: RunRecord) -> None:
    parts = [("sample", "seconds/sample", TRAIN), ("train", "seconds/train", SEA), ("sync", "seconds/sync", SAND)]
    known = sum(total(run.updates, name) for _, name, _ in parts)
    shares = [total(run.updates, name) / known if known else 0.0 for _, name, _ in parts]
    legend = [(f"■ {word} {percent(share)}", colour) for (word, _, colour), share in zip(parts, shares, strict=True)]
    legend = legend if known else []
    put_titles(axes, "Seconds per update", legend)
    steps = series(run.updates, "step")
    base = np.zeros(len(steps))
    for _, name, colour in parts:
        height = np.nan_to_num(series(run.updates, name))
        axes.bar(steps, height, 0.86, bottom=base, color=colour, linewidth=0)
        base = base + height
    _fit_top(axes)
    axes.yaxis.set_major_locator(_locator(5))
    axes.yaxis.set_major_formatter(_thousands)
    _say_if_empty(axes, [base[base > 0]])
    _name_updates(axes, run)


def _draw_line(axes: Any, lines: Sequence[Line], panel: Panel) -> None:
    axes.annotate(panel.title, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=8.2, fontweight="bold")
    steps, values = series(lines, "step"), series(lines, panel.name) * panel.scale
    there = np.isfinite(values)
    if panel.log:
        there &= values > 0
    style = ".-" if there.sum() < 60 else "-"
    axes.plot(steps[there], values[there], style, color=panel.colour, linewidth=1.3, markersize=3.6, markeredgewidth=0)
    if panel.log and there.any():
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(_power_of_ten)
        axes.set_ylim(values[there].min() / 4, values[there].max() * 4)
    elif panel.from_zero:
        _fit_top(axes)
    axes.tick_params(labelsize=7.5)
    _whole_steps(axes)


def _say_if_empty(axes: Any, drawn: Sequence[Floats], has_more: bool = False) -> None:
    if has_more or any(np.isfinite(values).any() for values in drawn):
        return
    axes.set_yticks([])
    axes.text(0.5, 0.5, "nothing measured yet", transform=axes.transAxes, color=MUTED, ha="center", va="center")


def _fit_top(axes: Any) -> None:
    """Start at zero and leave room above the highest point."""
    low, high = axes.dataLim.intervaly
    if np.isfinite(high) and high > 0:
        axes.set_ylim(min(0.0, low), high * 1.12)
    elif np.isfinite(low) and high == low == 0:
        axes.set_ylim(0, 1)


def _name_updates(axes: Any, run: RunRecord) -> None:
    last = max([1, *(int(line["step"]) for line in run.updates), *(point.step for point in run.evals)])
    planned = number(run.setting("grpo.updates"))
    end = max(last, int(planned)) if planned is not None and planned < 10 * last else last
    axes.set_xlim(-0.012 * end if axes.get_ylim() == (0.0, 1.0) else 0.3, end + max(0.6, 0.012 * end))
    axes.set_xlabel("update", labelpad=1)
    _whole_steps(axes)


def _whole_steps(axes: Any) -> None:
    axes.xaxis.set_major_locator(_locator(6, integer=True))


def _locator(ticks: int, *, integer: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(ticks, integer=integer, min_n_ticks=1 if integer else 2)


def _thousands(value: float, _: int) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _power_of_ten(value: float, _: int) -> str:
    exponent = round(math.log10(value)) if value > 0 else 0
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def caption(run: RunRecord) -> str:
    """Say how the curves were drawn."""
    window = smoothing_window(len(run.updates))
    over = f" Lines and bands are centred means over {window} updates." if window > 1 else ""
    return (
        "Dots are single updates. The band of success is the 95 % Wilson interval of an update's training episodes."
        f"{over} Marked points are evaluations with their 95 % intervals. Updates took "
        f"{duration(total(run.updates, 'seconds/step'))} in all."
    )
