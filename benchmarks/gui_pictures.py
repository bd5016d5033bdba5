"""Pictures of what ``benchmarks/gui_train.py`` did: curves, and answers on screens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from agentgym.rewards.gaussian import Box, Prediction

_SCALE, _COLUMNS = 2, 4


def draw_curves(figures: Mapping[str, Any], path: Path, window: int = 10) -> None:
    """Draw the loss of the warm start, and the share of sampled answers that hit: mean and range of seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    canvas, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.5))
    left.plot([row["screens"] for row in figures["warm"]], [row["loss"] for row in figures["warm"]])
    left.set(xlabel="screens", ylabel="loss of a token", title="warm start")
    for name, runs in figures["rewards"].items():
        hits = np.array([[row["hit"] for row in run["log"]] for run in runs])
        smooth = np.stack([hits[:, max(0, n + 1 - window) : n + 1].mean(1) for n in range(hits.shape[1])], 1)
        (line,) = right.plot(smooth.mean(0), label=f"{name}, {len(runs)} seeds")
        right.fill_between(range(len(smooth[0])), smooth.min(0), smooth.max(0), color=line.get_color(), alpha=0.2)
    right.set(xlabel="update", ylabel=f"hits of sampled answers, mean of {window}", title="GRPO by reward")
    if figures["rewards"]:
        right.legend()
    canvas.tight_layout()
    canvas.savefig(path, dpi=110)
    pyplot.close(canvas)


def draw_answers(
    screens: Sequence[NDArray[np.uint8]],
    asked: Sequence[tuple[str, Box]],
    answers: Sequence[Prediction | None],
    path: Path,
) -> None:
    """Draw targets in green and answers in magenta, each with its instruction; an unreadable answer is left out."""
    side = screens[0].shape[0] * _SCALE
    rows = -(-len(screens) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * side, rows * (side + 16)), "white")
    for number, (pixels, (instruction, box), answer) in enumerate(zip(screens, asked, answers, strict=True)):
        screen = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
        pen = ImageDraw.Draw(screen)
        pen.rectangle([edge * _SCALE for edge in box], outline="lime", width=2)
        if answer is not None and answer.box is not None:
            pen.rectangle([edge * _SCALE for edge in answer.box], outline="magenta", width=2)
        corner = (number % _COLUMNS) * side, (number // _COLUMNS) * (side + 16)
        sheet.paste(screen, corner)
        ImageDraw.Draw(sheet).text((corner[0] + 2, corner[1] + side + 2), instruction, fill="black")
    sheet.save(path)
