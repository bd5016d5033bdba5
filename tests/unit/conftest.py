"""The pack of tests/fixtures, installed for one test: found by entry point here, in workers and at the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

PACK = Path(__file__).parents[1] / "fixtures" / "corridor_pack"


@pytest.fixture
def corridor(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.syspath_prepend(str(PACK))
    monkeypatch.setenv("PYTHONPATH", str(PACK))
    env_id = "agentgym/Corridor-v0"
    gymnasium.register(env_id, entry_point="agentgym_corridor:CorridorEnv")
    yield env_id
    del gymnasium.registry[env_id]
