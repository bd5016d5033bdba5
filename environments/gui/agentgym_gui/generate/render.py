"""Draws pages in a boxed browser, asks it where their elements are, and writes a folder as ScreenSpot-v2 has it.

On disk, under the folder of a split: ``screenspot_<platform>_v2.json``, rows with ``img_filename``, ``bbox``
(``[x, y, width, height]`` in pixels), ``instruction``, ``data_type`` and ``data_source``; the images in
``screenspotv2_image/``. Ours alone: ``elements/<image>.json`` with every element of a screen, and ``screens/``, one
file of rows per screen, from which an interrupted run goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from agentgym.errors import InfrastructureError, UnknownNameError, UsageError
from agentgym_gui.generate.page import Page
from agentgym_gui.generate.panels import PANELS, SIDE_PX
from agentgym_gui.generate.studio import Sketch, Studio
from agentgym_gui.generate.templates import TEMPLATES, Template
from agentgym_gui.generate.themes import draw_theme

LAYOUTS: tuple[Template, ...] = (*TEMPLATES, *PANELS)
VIEWPORTS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "desktop": ((1280, 800), (1440, 900), (1024, 768)),
    "mobile": ((390, 844), (360, 740), (412, 915)),
    "web": ((1280, 720), (1024, 768), (1366, 768)),
    "panel": ((SIDE_PX, SIDE_PX),),
}
PLATFORMS = ("desktop", "mobile", "web")
LARGEST = (1440, 915)  # holds every size
Key = tuple[str, str, int]  # split, platform, number
LEAST_SIDE_PX = 8
IMAGES, SCREENS, ELEMENTS = "screenspotv2_image", "screens", "elements"


@dataclass(frozen=True)
class ScreenSpec:
    """What is drawn.

    Attributes:
        screens: Screens of each platform.
        seed: Same seed, same instructions and boxes; with the same browser and fonts the same pictures, to the byte.
        platforms: ``desktop``, ``mobile``, ``web``, ``panel``.
        targets: Most targets of one screen.
    """

    screens: int = 20
    seed: int = 0
    platforms: tuple[str, ...] = PLATFORMS
    targets: int = 4

    def __post_init__(self) -> None:
        for platform in self.platforms:
            if platform not in VIEWPORTS:
                raise UnknownNameError("platform", str(platform), VIEWPORTS)
        if not self.platforms or self.screens < 1 or self.targets < 1 or self.seed < 0:
            raise UsageError(f"screens need a platform, numbers from 1 and a seed from 0, got {self}")


@dataclass(frozen=True)
class Screen:
    """A drawn screen: rows of its targets, all its elements, its picture as PNG."""

    rows: list[dict[str, Any]]
    elements: list[dict[str, Any]]
    png: bytes


def write_screens(
    folder: str | os.PathLike[str], split: str, spec: ScreenSpec | None = None, *, progress: bool = True
) -> int:
    """Draw the screens of a split into ``folder``; those that are there already are kept.

    Args:
        folder: The split's own; see the module for what is in it.
        split: ``train`` or ``test``, which share no layout.
        spec: What is drawn.
        progress: Show a bar.

    Returns:
        The number of targets.

    Raises:
        UnknownNameError: There is no such split.
        UsageError: The folder holds screens of another spec.
        SandboxUnavailableError: There is no browser.
        InfrastructureError: The browser drew a page without a target.
    """
    spec = spec or ScreenSpec()
    if split not in ("train", "test"):
        raise UnknownNameError("split", split, ("train", "test"))
    root = Path(folder)
    for part in (IMAGES, SCREENS, ELEMENTS):
        (root / part).mkdir(parents=True, exist_ok=True)
    _claim(root / "spec.json", spec, split)
    studio = Studio(LARGEST)
    total = 0
    try:
        for platform in spec.platforms:
            rows: list[dict[str, Any]] = []
            sheet = studio.room(_cell(platform))
            with tqdm(total=spec.screens, desc=f"{split} {platform}", disable=not progress) as bar:
                for start in range(0, spec.screens, sheet):
                    numbers = range(start, min(start + sheet, spec.screens))
                    rows += _screen_rows(root, studio, spec, [(split, platform, number) for number in numbers])
                    bar.update(len(numbers))
            _write_json(root / f"screenspot_{platform}_v2.json", rows)
            total += len(rows)
    finally:
        studio.close()
    return total


def _screen_rows(root: Path, studio: Studio, spec: ScreenSpec, keys: Sequence[Key]) -> list[dict[str, Any]]:
    """Return the rows of some screens, which are drawn if one is missing."""
    files = [root / SCREENS / f"{_name(key)}.json" for key in keys]
    if not all(file.exists() for file in files):
        for key, file, screen in zip(keys, files, draw_screens(studio, spec, keys), strict=True):
            (root / IMAGES / f"{_name(key)}.png").write_bytes(screen.png)
            _write_json(root / ELEMENTS / f"{_name(key)}.json", screen.elements)
            _write_json(file, [{"img_filename": f"{_name(key)}.png", **row} for row in screen.rows])  # last
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]


def draw_screens(studio: Studio, spec: ScreenSpec, keys: Sequence[Key]) -> list[Screen]:
    """Draw screens of one platform that fit on a sheet.

    Raises:
        InfrastructureError: No element of a page can be seen.
    """
    pages = []
    for key in keys:
        chance = np.random.default_rng(_seed(spec.seed, key))
        split, platform, _ = key
        layouts = [layout for layout in LAYOUTS if layout.split == split and layout.platform == platform]
        layout = layouts[int(chance.integers(len(layouts)))]
        size = VIEWPORTS[platform][int(chance.integers(len(VIEWPORTS[platform])))]
        theme = draw_theme(chance, (14, 14) if platform == "panel" else (12, 17))
        page = Page(chance, theme, "tap" if platform == "mobile" else "click")
        pages.append((page, layout, Sketch(theme.css, layout.write(page), size)))
    drawings = studio.draw([sketch for _, _, sketch in pages], _cell(keys[0][1]))
    screens = []
    for key, (page, layout, sketch), drawing in zip(keys, pages, drawings, strict=True):
        placed = [_place(page, one, sketch.size) for one in drawing.elements]
        seen = [element for element in placed if element is not None]
        if not seen:
            raise InfrastructureError(f"the browser shows no target of layout {layout.name!r}, screen {key}")
        chosen = page.chance.permutation(len(seen))[: spec.targets]
        screens.append(Screen([_row(seen[int(i)], layout, page.chance) for i in chosen], seen, drawing.png))
    return screens


def _place(page: Page, found: Mapping[str, Any], viewport: tuple[int, int]) -> dict[str, Any] | None:
    """Return an element with its box in whole pixels, ``None`` if it cannot be seen whole."""
    left, top, right, bottom = (round(float(side)) for side in found["box"])
    whole = left >= 0 and top >= 0 and right <= viewport[0] and bottom <= viewport[1]
    if not (found["seen"] and whole and min(right - left, bottom - top) >= LEAST_SIDE_PX):
        return None
    element = page.elements[int(found["number"])]
    return {
        "name": element.name,
        "data_type": element.data_type,
        "role": element.role,
        "phrases": list(element.phrases),
        "box": [left, top, right, bottom],
    }


def _row(element: Mapping[str, Any], layout: Template, chance: np.random.Generator) -> dict[str, Any]:
    left, top, right, bottom = element["box"]
    return {
        "bbox": [left, top, right - left, bottom - top],
        "instruction": str(chance.choice(np.array(element["phrases"], dtype=object))),
        "data_type": element["data_type"],
        "data_source": layout.name,
    }


def _claim(path: Path, spec: ScreenSpec, split: str) -> None:
    """Write down what a folder holds, or see that it holds that.

    The number of screens may differ: screens depend on their own number alone.
    """
    wanted = {"seed": spec.seed, "targets": spec.targets, "split": split, "layouts": layouts_digest()}
    if not path.exists():
        _write_json(path, wanted)
        return
    held = json.loads(path.read_text(encoding="utf-8"))
    if held != wanted:
        raise UsageError(f"{path.parent} holds screens of {held}, not of {wanted}; take another folder")


def _cell(platform: str) -> tuple[int, int]:
    """Return the smallest size that holds every screen of a platform."""
    return max(w for w, _ in VIEWPORTS[platform]), max(h for _, h in VIEWPORTS[platform])


def _name(key: Key) -> str:
    return f"{key[1]}_{key[0]}_{key[2]:06d}"


def layouts_digest() -> str:
    """Return the name of this version of everything that decides how screens look."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _seed(seed: int, key: Key) -> int:
    return int.from_bytes(hashlib.sha256(repr((seed, *key)).encode()).digest()[:8], "big")


def _write_json(path: Path, value: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    part.replace(path)
