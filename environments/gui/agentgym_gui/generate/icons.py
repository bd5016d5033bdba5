"""Icons of our own, drawn on a square of 24 by 24, each with what one does with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Icon:
    """An icon.

    Attributes:
        drawing: What stands inside of the ``<svg>``.
        looks: What it shows, for instructions that describe it.
        purposes: What it is for, for instructions that do not; no two icons share one.
    """

    drawing: str
    looks: str
    purposes: tuple[str, ...]


def _lines(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round"/>'


def _solid(path: str) -> str:
    return f'<path d="{path}" fill="currentColor"/>'


ICONS: dict[str, Icon] = {
    "search": Icon(_lines("M15 10a5 5 0 1 1-10 0 5 5 0 0 1 10 0M14 14l6 6"), "magnifier", ("search", "look it up")),
    "close": Icon(_lines("M5 5l14 14M19 5L5 19"), "cross", ("close this", "dismiss the window")),
    "add": Icon(_lines("M12 4v16M4 12h16"), "plus sign", ("add a new one", "create an entry")),
    "menu": Icon(_lines("M4 6h16M4 12h16M4 18h16"), "three bars", ("open the menu", "show all sections")),
    "back": Icon(_lines("M20 12H5M11 5l-7 7 7 7"), "arrow to the left", ("go back", "return to the last page")),
    "forward": Icon(_lines("M4 12h15M13 5l7 7-7 7"), "arrow to the right", ("go forward", "move on to the next page")),
    "download": Icon(_lines("M12 3v12M6 10l6 6 6-6M4 21h16"), "arrow onto a line", ("download it", "fetch a copy")),
    "upload": Icon(_lines("M12 21V8M6 13l6-6 6 6M4 3h16"), "arrow up to a line", ("upload a file", "send a file up")),
    "delete": Icon(_lines("M4 6h16M9 6V3h6v3M6 6l1 15h10l1-15M10 10v7M14 10v7"), "bin", ("delete it",)),
    "edit": Icon(_lines("M4 20l1-5L16 4l4 4L9 19zM13 7l4 4"), "pencil", ("edit it", "change the text")),
    "save": Icon(_lines("M4 4h13l3 3v13H4zM8 4v5h7V4M8 20v-6h8v6"), "floppy disk", ("save the work",)),
    "star": Icon(
        _solid("M12 2l3 7h7l-5.500 4.500L19 21l-7-4.500L5 21l2.500-7.500L2 9h7z"), "star", ("make favourite",)
    ),
    "heart": Icon(_solid("M12 21C2 13 2 9 2 8a5 5 0 0 1 10-2 5 5 0 0 1 10 2c0 1 0 5-10 13z"), "heart", ("like it",)),
    "play": Icon(_solid("M6 3l15 9-15 9z"), "triangle", ("start playing", "play it")),
    "pause": Icon(_solid("M5 3h5v18H5zM14 3h5v18h-5z"), "two upright bars", ("pause it", "hold for a moment")),
    "stop": Icon(_solid("M4 4h16v16H4z"), "filled square", ("stop it", "end the recording")),
    "home": Icon(_lines("M3 12l9-9 9 9M6 10v11h12V10"), "house", ("go to the start page", "return home")),
    "mail": Icon(_lines("M3 5h18v14H3zM3 6l9 7 9-7"), "envelope", ("read the mail", "write to somebody")),
    "bell": Icon(_lines("M5 17h14c-2-3-1-11-7-12-6 1-5 9-7 12zM10 20a2 2 0 0 0 4 0M12 3v2"), "bell", ("see alerts",)),
    "lock": Icon(_lines("M5 11h14v10H5zM8 11V7a4 4 0 0 1 8 0v4"), "padlock", ("lock it", "make it private")),
    "chart": Icon(_lines("M4 3v18h17M8 17v-5M12 17V7M16 17v-8"), "chart", ("show the statistics",)),
    "clock": Icon(_lines("M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0M12 7v5l4 2"), "clock", ("see the history",)),
    "filter": Icon(_lines("M3 4h18l-7 8v8l-4-2v-6z"), "funnel", ("filter the list", "narrow the list down")),
    "share": Icon(_lines("M7 12l10-6M7 12l10 6M5 12h1M18 5h1M18 19h1"), "branching lines", ("share it",)),
    "person": Icon(_lines("M16 8a4 4 0 1 1-8 0 4 4 0 0 1 8 0M4 21c1-9 15-9 16 0"), "person", ("open the profile",)),
    "moon": Icon(_solid("M15 2a10 10 0 1 0 7 14A9 9 0 0 1 15 2z"), "moon", ("switch to dark colours",)),
}


def draw_icon(name: str, size_px: int) -> str:
    """Return an icon as inline SVG in the colour of the text around it."""
    return (
        f'<svg width="{size_px}" height="{size_px}" viewBox="0 0 24 24" style="display:block">'
        f"{ICONS[name].drawing}</svg>"
    )
