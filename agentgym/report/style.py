"""How figures look: one palette, one type size, SVG that follows the page's light or dark colours."""

from __future__ import annotations

import contextlib
import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

INK, MUTED, GRID, PAPER = "#1c2126", "#69737d", "#e3e7eb", "#ffffff"
TRAIN, EVAL, BEFORE = "#2f6db3", "#c4501b", "#9aa3ad"
SAND, SEA = "#d8a03c", "#3a958c"

# Each colour becomes a CSS variable in SVG, so that the page's dark scheme recolours the same figure.
_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", TRAIN: "train", EVAL: "eval", BEFORE: "before",
    SAND: "sand", SEA: "sea",
}  # fmt: skip
_PNG_DPI = 200  # 9 inches wide are 1800 pixels: twice the 900 of a README
_FONTS = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")  # matplotlib brings the last one
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.parse_math": False,  # names of tasks may hold a dollar sign
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "xtick.major.width": 0.6,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "agentgym",
}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw in the house style, whatever the user's matplotlib is set to."""
    import matplotlib
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())  # matplotlib logs a warning for each font that it is asked for and has not
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        matplotlib.rcParams["font.sans-serif"] = [name for name in _FONTS if name in installed]
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a task may be named in any script
        yield


def new_figure(width_in: float, height_in: float) -> Any:
    """Return an empty figure that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=_PNG_DPI)
    FigureCanvasAgg(figure)
    return figure


def put_titles(axes: Any, title: str, legend: Sequence[tuple[str, str]] = ()) -> None:
    """Write a title over a panel and, under it, what its colours mean, each in its colour."""
    from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea

    lift = 21 if legend else 8
    axes.annotate(title, (0, 1), (0, lift), "axes fraction", "offset points", fontsize=9.5, fontweight="bold")
    if not legend:
        return
    words: list[Any] = [TextArea(text, textprops={"color": colour, "fontsize": 8}) for text, colour in legend]
    row = HPacker(children=words, pad=0, sep=8, align="baseline")
    axes.add_artist(
        AnnotationBbox(
            row, (0, 1), (0, 6), "axes fraction", "offset points", box_alignment=(0, 0), frameon=False, pad=0,
            annotation_clip=False,
        )
    )  # fmt: skip


def save_png(figure: Any, path: Path) -> None:
    """Write a figure on white paper, twice as fine as it is shown."""
    figure.savefig(path, format="png", dpi=_PNG_DPI, facecolor=PAPER, metadata={"Software": None})


def to_svg(figure: Any, name: str, description: str) -> str:
    """Return a figure as an SVG element to put into a page.

    Args:
        figure: The figure.
        name: Prefix that keeps the ids of several figures of one page apart; letters only.
        description: What a screen reader says.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([^;\"<>]*?)'[^;\"<>]*", r"font: \1var(--sans)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head, count=2)
    return f'{head} role="img" aria-label="{html.escape(description)}">{rest}'
