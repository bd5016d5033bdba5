"""Panels: small screens with a few coloured signs, which a model of a million weights can learn to read."""

from __future__ import annotations

import html

from agentgym_gui.generate import words
from agentgym_gui.generate.icons import draw_icon
from agentgym_gui.generate.page import ICON, TEXT, Element, Page
from agentgym_gui.generate.templates import Template

PANEL_ICONS = ("star", "heart", "play", "pause", "close", "add", "moon", "home")
COLOURS = {
    "red": "#d62828",
    "green": "#2a9d3a",
    "blue": "#2a5fd6",
    "orange": "#f08a1d",
    "purple": "#8e44ad",
    "grey": "#7a7f87",
}
SIDE_PX = 160  # of the viewport, both ways


def _sign(page: Page, place: tuple[int, int], size: tuple[int, int]) -> str:
    """Write one sign at ``place``: an icon on a colour, or a word on a colour."""
    colour = str(page.chance.choice(list(COLOURS)))
    style = (
        f"position:absolute;left:{place[0]}px;top:{place[1]}px;width:{size[0]}px;height:{size[1]}px;color:#fff;"
        f"background:{COLOURS[colour]};border-radius:{page.theme.radius_px}px;display:flex;align-items:center;"
        "justify-content:center;font-weight:bold"
    )
    if page.chance.random() < 0.5:
        (name,) = page.take(PANEL_ICONS, 1)
        phrases = (f"{page.verb} the {colour} {name}", f"find the {name}", f"where is the {colour} {name}")
        mark = page.mark(Element(name, ICON, "icon", phrases))
        return f'<div {mark} style="{style}">{draw_icon(name, min(size) - 8)}</div>'
    (word,) = page.take(words.SIGNS, 1)
    phrases = (f"{page.verb} the {colour} sign {word}", f"find {word}", f"where does it say {word}")
    mark = page.mark(Element(word, TEXT, "sign", phrases))
    return f'<div {mark} style="{style}">{html.escape(word)}</div>'


def _sides(page: Page, widest: int = 56) -> tuple[int, int]:
    return page.number(38, widest), page.number(26, 40)


def _scattered(page: Page) -> str:
    """Write signs anywhere, none over another."""
    taken: list[tuple[int, int, int, int]] = []
    signs = []
    for _ in range(page.number(3, 6)):
        width, height = _sides(page)
        for _ in range(30):
            x, y = page.number(2, SIDE_PX - width - 2), page.number(2, SIDE_PX - height - 2)
            if all(
                x > right or y > bottom or x + width < left or y + height < top for left, top, right, bottom in taken
            ):
                taken.append((x - 2, y - 2, x + width + 2, y + height + 2))
                signs.append(_sign(page, (x, y), (width, height)))
                break
    return "".join(signs)


def _ranged(page: Page) -> str:
    """Write signs in two columns, as a remote control has them."""
    top, gap = page.number(4, 18), page.number(4, 10)
    signs = []
    for _ in range(page.number(2, 3)):
        height = page.number(28, 38)
        for column in range(2):
            if page.chance.random() < 0.85:
                width = page.number(40, 64)
                left = column * SIDE_PX // 2 + (SIDE_PX // 2 - width) // 2
                signs.append(_sign(page, (left, top), (width, height)))
        top += height + gap
    return "".join(signs)


PANELS: tuple[Template, ...] = (
    Template("scattered", "panel", "train", _scattered),
    Template("ranged", "panel", "test", _ranged),
)
