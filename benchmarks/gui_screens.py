"""The screens of ``benchmarks/gui_train.py``: drawn by the gui pack's generator, and composed anew of their signs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agentgym_gui.generate.panels import SIDE_PX
from agentgym_gui.generate.render import IMAGES, ScreenSpec, write_screens


@dataclass(frozen=True)
class Target:
    """One question: the number of its screen, what is asked, the box in pixels, and ``text`` or ``icon``."""

    screen: int
    instruction: str
    box: tuple[float, float, float, float]
    kind: str
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Screens:
    """Screens (N, H, W, 3) and what is asked of them."""

    images: NDArray[np.uint8]
    targets: list[Target]


def load_screens(folder: Path, split: str, count: int) -> Screens:
    """Draw the screens that are not there yet, and read them."""
    write_screens(folder / split, split, ScreenSpec(screens=count, targets=6, platforms=("panel",)))
    rows = json.loads((folder / split / "screenspot_panel_v2.json").read_text())
    names = sorted({row["img_filename"] for row in rows})
    images = np.stack([np.asarray(Image.open(folder / split / IMAGES / name)) for name in names])
    phrases = {
        (name, tuple(element["box"])): tuple(element["phrases"])
        for name in names
        for element in json.loads((folder / split / "elements" / name).with_suffix(".json").read_text())
    }
    targets = []
    for row in rows:
        x, y, w, h = row["bbox"]
        box = (x, y, x + w, y + h)
        name = row["img_filename"]
        targets.append(Target(names.index(name), row["instruction"], box, row["data_type"], phrases[name, box]))
    return Screens(images, targets)


@dataclass(frozen=True)
class Sign:
    """A sign cut out of a screen: what it shows, on what colour, and how it is asked for."""

    pixels: NDArray[np.uint8]
    colour: str
    name: str
    phrases: tuple[str, ...]


Placed = tuple[Sign, tuple[int, int, int, int]]
"""A sign and its box in pixels."""


def cut_signs(data: Screens) -> list[Sign]:
    """Cut all signs out of their screens."""
    signs = []
    for target in data.targets:
        left, top, right, bottom = (round(side) for side in target.box)
        *_, colour, name = target.phrases[0].replace(" sign ", " ").split()
        signs.append(Sign(data.images[target.screen, top:bottom, left:right], colour, name, target.phrases))
    return signs


def compose(
    signs: list[Sign], paper: NDArray[np.uint8], chance: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Placed]]:
    """Put signs of different names at new places of an empty screen, so that no screen is met twice.

    Returns:
        The screen (H, W, 3), and its signs.
    """
    screen = np.tile(paper, (SIDE_PX, SIDE_PX, 1))
    free = np.ones((SIDE_PX, SIDE_PX), dtype=bool)
    placed: dict[str, Placed] = {}
    for number in chance.integers(len(signs), size=int(chance.integers(3, 7))):
        sign = signs[int(number)]
        height, width = sign.pixels.shape[:2]
        for _ in range(0 if sign.name in placed else 10):
            left, top = (int(chance.integers(2, SIDE_PX - side - 1)) for side in (width, height))
            there = np.s_[top : top + height, left : left + width]
            if free[there].all():
                screen[there], free[there] = sign.pixels, False
                placed[sign.name] = sign, (left, top, left + width, top + height)
                break
    return screen, list(placed.values())
