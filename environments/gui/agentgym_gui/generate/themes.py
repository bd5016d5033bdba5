"""Looks: colours, fonts and densities, drawn by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FONTS = ("'DejaVu Sans'", "'Liberation Sans'", "'DejaVu Serif'", "'Liberation Serif'", "'Liberation Sans Narrow'")
GENERIC = {"'DejaVu Serif'": "serif", "'Liberation Serif'": "serif"}

# background, surface, text, muted text, border
PALETTES: dict[str, tuple[str, str, str, str, str]] = {
    "paper": ("#ffffff", "#f4f4f2", "#1b1b1b", "#6a6a6a", "#d5d5d0"),
    "night": ("#15181d", "#22272f", "#eceff4", "#98a2b3", "#3a424f"),
    "sand": ("#fbf6ea", "#f1e7d0", "#3a2f1d", "#84755a", "#dccda9"),
    "mist": ("#eef3f8", "#ffffff", "#1d2a3a", "#66788c", "#c6d3e0"),
    "forest": ("#10201a", "#1a3128", "#e6f2ec", "#8fb3a3", "#2d4d40"),
    "contrast": ("#000000", "#000000", "#ffffff", "#ffff66", "#ffffff"),
}
ACCENTS = ("#2563eb", "#b4232a", "#0f7b4f", "#8a3ffc", "#c2570c", "#0e7490")
DENSITIES = {"compact": 0.75, "normal": 1.0, "roomy": 1.3}


@dataclass(frozen=True)
class Theme:
    """How a page looks; ``scale`` multiplies paddings and gaps, ``radius_px`` rounds corners."""

    palette: str
    accent: str
    font: str
    font_px: int
    scale: float
    radius_px: int

    def pad(self, pixels: float) -> int:
        """Return a distance in pixels under the density of this look."""
        return max(1, round(pixels * self.scale))

    @property
    def css(self) -> str:
        """Return the style of a screen, and in it the rules for what is on it."""
        background, surface, text, muted, border = PALETTES[self.palette]
        generic = GENERIC.get(self.font, "sans-serif")
        return (
            f"--bg:{background};--surface:{surface};--text:{text};--muted:{muted};--border:{border};"
            f"--accent:{self.accent};background:var(--bg);color:var(--text);"
            f"font:{self.font_px}px {self.font},{generic};"
            f".b{{border:1px solid var(--border);border-radius:{self.radius_px}px;padding:{self.pad(6)}px "
            f"{self.pad(10)}px;background:var(--surface);display:inline-block}}"
            ".p{background:var(--accent);color:#fff;border-color:var(--accent)}"
            f".i{{display:inline-block;padding:{self.pad(5)}px;border-radius:{self.radius_px}px}}"
            f".row{{display:flex;gap:{self.pad(6)}px;align-items:center}}.m{{color:var(--muted)}}"
            ".bar{background:var(--surface);border-bottom:1px solid var(--border)}"
        )


def draw_theme(chance: np.random.Generator, font_px: tuple[int, int] = (12, 17)) -> Theme:
    """Draw a look; ``font_px`` are the least and the greatest size of letters."""
    return Theme(
        palette=str(chance.choice(list(PALETTES))),
        accent=str(chance.choice(ACCENTS)),
        font=str(chance.choice(FONTS)),
        font_px=int(chance.integers(font_px[0], font_px[1] + 1)),
        scale=DENSITIES[str(chance.choice(list(DENSITIES)))],
        radius_px=int(chance.choice([0, 3, 8, 16])),
    )
