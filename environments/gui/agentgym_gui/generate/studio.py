"""A browser that draws pages side by side on one sheet, and says where their elements are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from agentgym.browser import Browser, BrowserLimits, BrowserSpec, make_browser
from agentgym.browser_sync import SyncBrowserSession

_WRITE = "source => { document.open(); document.write(source); document.close() }"
_MEASURE = """async () => {
  await document.fonts.ready;
  return [...document.querySelectorAll('.screen')].map(screen => {
    const origin = screen.getBoundingClientRect();
    return [...screen.querySelectorAll('[data-gui]')].map(element => {
      const box = element.getBoundingClientRect();
      const on_top = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
      return {number: Number(element.dataset.gui), seen: on_top !== null && element.contains(on_top),
              box: [box.left - origin.left, box.top - origin.top, box.right - origin.left, box.bottom - origin.top]};
    });
  });
}"""
# Nobody waits for a picture here, and on a busy machine one may take its time.
_LIMITS = BrowserLimits(action_s=300.0)


@dataclass(frozen=True)
class Sketch:
    """A page to be drawn: its style sheet, its body, width and height in pixels."""

    css: str
    body: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Drawing:
    """A page as it was drawn.

    Attributes:
        elements: ``number``, ``box`` as ``[x1, y1, x2, y2]`` in pixels, and whether its middle is ``seen``.
        png: The picture.
    """

    elements: Sequence[dict[str, Any]]
    png: bytes


class Studio:
    """One browser, started when the first sheet is drawn.

    Args:
        sheet: Width and height of what is drawn at once, in pixels.
    """

    def __init__(self, sheet: tuple[int, int]) -> None:
        self.sheet = sheet
        self._browser: Browser | None = None
        self._session: SyncBrowserSession | None = None

    def room(self, cell: tuple[int, int]) -> int:
        """Return how many pages of a size fit on a sheet."""
        return (self.sheet[0] // cell[0]) * (self.sheet[1] // cell[1])

    def draw(self, sketches: Sequence[Sketch], cell: tuple[int, int]) -> list[Drawing]:
        """Draw pages, each in a cell of a sheet.

        Raises:
            ValueError: They do not fit.
            SandboxUnavailableError: There is no browser.
        """
        if len(sketches) > self.room(cell):
            raise ValueError(f"{len(sketches)} pages of {cell} do not fit on a sheet of {self.sheet}")
        columns = self.sheet[0] // cell[0]
        corners = [((n % columns) * cell[0], (n // columns) * cell[1]) for n in range(len(sketches))]
        session = self._open()
        session.evaluate(_WRITE, _sheet(sketches, corners))
        found = session.evaluate(_MEASURE)
        with Image.open(io.BytesIO(session.screenshot())) as whole:
            picture = whole.convert("RGB")
        return [
            Drawing(elements, _cut(picture, corner, sketch.size))
            for elements, corner, sketch in zip(found, corners, sketches, strict=True)
        ]

    def close(self) -> None:
        """End the browser."""
        if self._session is not None:
            self._session.close()
        if self._browser is not None:
            self._browser.close_sync()
        self._browser = self._session = None

    def _open(self) -> SyncBrowserSession:
        if self._browser is None:
            self._browser = make_browser("chromium", BrowserSpec(viewport=self.sheet, limits=_LIMITS))
        if self._session is None:
            self._session = self._browser.open_sync()
        return self._session


def _sheet(sketches: Sequence[Sketch], corners: Sequence[tuple[int, int]]) -> str:
    styles = "".join(f"#screen{n}{{{sketch.css}}}" for n, sketch in enumerate(sketches))
    screens = "".join(
        f'<div class="screen" id="screen{n}" style="left:{x}px;top:{y}px;width:{sketch.size[0]}px;'
        f'height:{sketch.size[1]}px">{sketch.body}</div>'
        for n, (sketch, (x, y)) in enumerate(zip(sketches, corners, strict=True))
    )
    return (
        "<!doctype html><html><head><style>*{box-sizing:border-box}body{margin:0;overflow:hidden}"
        f".screen{{position:absolute;overflow:hidden}}{styles}</style></head><body>{screens}</body></html>"
    )


def _cut(picture: Image.Image, corner: tuple[int, int], size: tuple[int, int]) -> bytes:
    cut = io.BytesIO()
    picture.crop((*corner, corner[0] + size[0], corner[1] + size[1])).save(cut, "PNG")
    return cut.getvalue()
