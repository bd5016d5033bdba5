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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from agentgym.browser import BrowserSpec, make_browser
from agentgym.browser_sync import SyncBrowserSession
from agentgym.errors import InfrastructureError, UnknownNameError, UsageError
from agentgym_gui.generate.page import Page
from agentgym_gui.generate.panels import PANELS, SIDE_PX
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
LEAST_SIDE_PX = 8
IMAGES, SCREENS, ELEMENTS = "screenspotv2_image", "screens", "elements"

_WRITE = "source => { document.open(); document.write(source); document.close() }"
_MEASURE = """async () => {
  await document.fonts.ready;
  return [...document.querySelectorAll('[data-gui]')].map(element => {
    const box = element.getBoundingClientRect();
    const on_top = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
    return {number: Number(element.dataset.gui), box: [box.left, box.top, box.right, box.bottom],
            seen: on_top !== null && element.contains(on_top)};
  });
}"""


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


@dataclass
class _Studio:
    """The browser's sessions, one per size of screen."""

    pages: dict[tuple[int, int], tuple[Any, SyncBrowserSession]] = field(default_factory=dict)

    def page(self, viewport: tuple[int, int]) -> SyncBrowserSession:
        if viewport not in self.pages:
            browser = make_browser("chromium", BrowserSpec(viewport=viewport))
            self.pages[viewport] = browser, browser.open_sync()
        return self.pages[viewport][1]

    def close(self) -> None:
        for browser, page in self.pages.values():
            page.close()
            browser.close_sync()
        self.pages.clear()


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
    studio = _Studio()
    total = 0
    try:
        for platform in spec.platforms:
            rows: list[dict[str, Any]] = []
            for number in tqdm(range(spec.screens), desc=f"{split} {platform}", disable=not progress):
                rows += _screen_rows(root, studio, spec, (split, platform, number))
            _write_json(root / f"screenspot_{platform}_v2.json", rows)
            total += len(rows)
    finally:
        studio.close()
    return total


def _screen_rows(
    root: Path, studio: _Studio, spec: ScreenSpec, key: tuple[str, str, int]
) -> list[dict[str, Any]]:
    name = f"{key[1]}_{key[0]}_{key[2]:06d}"
    done = root / SCREENS / f"{name}.json"
    if done.exists():
        kept: list[dict[str, Any]] = json.loads(done.read_text(encoding="utf-8"))
        return kept
    rows, elements, picture = draw_screen(studio.page, spec, key)
    (root / IMAGES / f"{name}.png").write_bytes(picture)
    _write_json(root / ELEMENTS / f"{name}.json", elements)
    rows = [{"img_filename": f"{name}.png", **row} for row in rows]
    _write_json(done, rows)  # last: what it says is there
    return rows


def draw_screen(
    page_of: Any, spec: ScreenSpec, key: tuple[str, str, int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bytes]:
    """Draw one screen.

    Args:
        page_of: Returns the browser's page for a size of screen.
        spec: What is drawn.
        key: Split, platform and number.

    Returns:
        Rows for targets, all elements, and the picture as PNG.

    Raises:
        InfrastructureError: No element of the page can be seen.
    """
    chance = np.random.default_rng(_seed(spec.seed, key))
    layouts = [layout for layout in LAYOUTS if layout.split == key[0] and layout.platform == key[1]]
    layout = layouts[int(chance.integers(len(layouts)))]
    viewport = VIEWPORTS[key[1]][int(chance.integers(len(VIEWPORTS[key[1]])))]
    small = key[1] == "panel"
    page = Page(chance, draw_theme(chance, (14, 14) if small else (12, 17)), "tap" if key[1] == "mobile" else "click")
    source = page.document(layout.write(page))
    session = page_of(viewport)
    session.evaluate(_WRITE, source)
    elements = [_place(page, found, viewport) for found in session.evaluate(_MEASURE)]
    seen = [element for element in elements if element is not None]
    if not seen:
        raise InfrastructureError(f"the browser shows no target of layout {layout.name!r}, screen {key}")
    picture = session.screenshot()
    chosen = chance.permutation(len(seen))[: spec.targets]
    rows = [_row(seen[int(i)], layout, chance) for i in chosen]
    return rows, seen, picture


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
    wanted = {"seed": spec.seed, "targets": spec.targets, "split": split, "layouts": _layouts_digest()}
    if not path.exists():
        _write_json(path, wanted)
        return
    held = json.loads(path.read_text(encoding="utf-8"))
    if held != wanted:
        raise UsageError(f"{path.parent} holds screens of {held}, not of {wanted}; take another folder")


def _layouts_digest() -> str:
    """Name the version of everything that decides how screens look."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _seed(seed: int, key: Sequence[str | int]) -> int:
    return int.from_bytes(hashlib.sha256(repr((seed, *key)).encode()).digest()[:8], "big")


def _write_json(path: Path, value: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    part.replace(path)
