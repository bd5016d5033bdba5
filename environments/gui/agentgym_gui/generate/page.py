"""A page in the making: it hands out labels and icons, none twice, and remembers what can be asked for."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from agentgym_gui.generate.icons import ICONS, draw_icon
from agentgym_gui.generate.themes import Theme

TEXT, ICON = "text", "icon"


@dataclass(frozen=True)
class Element:
    """Something on a page that an instruction can ask for.

    Attributes:
        name: Its label, or the name of its icon; no other element of the page has it.
        data_type: ``text`` or ``icon``, as ScreenSpot calls them.
        role: What sort of widget it is: ``button``, ``tab``, ``link``, ``row``, ``icon`` …
        phrases: Instructions that mean this element and no other.
    """

    name: str
    data_type: str
    role: str
    phrases: tuple[str, ...]


@dataclass
class Page:
    """A page that a template writes.

    Args:
        chance: Where every choice comes from.
        theme: How it looks.
        verb: ``click`` or, for fingers, ``tap``.
    """

    chance: np.random.Generator
    theme: Theme
    verb: str = "click"
    elements: list[Element] = field(default_factory=list)

    def take(self, pool: Sequence[str], count: int) -> list[str]:
        """Draw so many words that the page does not have yet.

        Raises:
            ValueError: The pool has too few.
        """
        used = {element.name.lower() for element in self.elements}
        free = [word for word in pool if word.lower() not in used]
        return [str(word) for word in self.chance.choice(np.array(free, dtype=object), size=count, replace=False)]

    def mark(self, element: Element) -> str:
        """Remember an element and return the attribute that its tag must have.

        Raises:
            ValueError: The page has one of this name or with this instruction already.
        """
        for known in self.elements:
            same = {phrase.lower() for phrase in known.phrases} & {phrase.lower() for phrase in element.phrases}
            if known.name.lower() == element.name.lower() or same:
                raise ValueError(f"{element.name!r} would stand twice on the page")
        self.elements.append(element)
        return f'data-gui="{len(self.elements) - 1}"'

    def text(self, label: str, role: str, css: str = "b", style: str = "") -> str:
        """Return a widget with a label."""
        phrases = [f'{self.verb} "{label}"', f"{self.verb} the {label} {role}", f"{label}", f"choose {label}"]
        if role in ("row", "tab", "entry", "link"):
            phrases.append(f"open {label}")
        mark = self.mark(Element(label, TEXT, role, tuple(phrases)))
        return f'<div {mark} class="{css}" style="{style}">{html.escape(label)}</div>'

    def icon(self, name: str, size_px: int, css: str = "i", style: str = "") -> str:
        """Return a widget that is an icon."""
        icon = ICONS[name]
        looks = (f"{self.verb} the {icon.looks}", f"{self.verb} the icon with a {icon.looks}")
        mark = self.mark(Element(name, ICON, "icon", (*looks, *icon.purposes)))
        return f'<div {mark} class="{css}" style="{style}">{draw_icon(name, size_px)}</div>'

    def icons(self, count: int, size_px: int, css: str = "i", style: str = "") -> str:
        """Return so many icons that the page does not have yet."""
        names = self.take([*ICONS], count)
        return "".join(self.icon(name, size_px, css, style) for name in names)

    def number(self, least: int, most: int) -> int:
        """Draw a number, both ends included."""
        return int(self.chance.integers(least, most + 1))
