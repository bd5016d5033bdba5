"""Where generated screens are kept."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgym.errors import UsageError
from agentgym.machine import cache_dir
from agentgym_gui.generate.render import ScreenSpec, layouts_digest, write_screens


def read_spec(fields: Mapping[str, Any] | None) -> ScreenSpec:
    """Return what is to be drawn, from what a recipe says.

    Raises:
        UsageError: There is no such field, or a value cannot be.
    """
    given = dict(fields or {})
    if "platforms" in given:
        given["platforms"] = tuple(given["platforms"])
    try:
        return ScreenSpec(**given)
    except TypeError as error:
        raise UsageError(f"screens cannot be generated with {sorted(given)}: {error}") from error


def find_screens(split: str, spec: ScreenSpec, root: Path | None = None) -> Path:
    """Return the folder with the screens of a split; those that are missing are drawn first, with a bar.

    Args:
        split: ``train`` or ``test``.
        spec: What is drawn.
        root: Where they are kept; ``$AGENTGYM_CACHE/gui`` by default.

    Raises:
        SandboxUnavailableError: There is no browser to draw with.
    """
    name = hashlib.sha256(repr((spec, layouts_digest())).encode()).hexdigest()[:16]
    folder = (root or cache_dir("gui")) / name / split
    if not (folder / "done").exists():
        write_screens(folder, split, spec, progress=sys.stderr.isatty())
        (folder / "done").touch()
    return folder
