"""Screens that the tests share: drawn once, by the real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgym_gui.generate.render import ScreenSpec

SPEC = ScreenSpec(screens=2, targets=3, platforms=("desktop", "mobile", "web", "panel"))


@pytest.fixture(scope="session")
def screens_dir(chromium: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("screens")


@pytest.fixture(scope="session")
def spec() -> ScreenSpec:
    return SPEC
