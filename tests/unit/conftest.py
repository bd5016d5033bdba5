"""The pack of tests/fixtures, installed for one test: found by entry point here, in workers and at the command line.

And the guard of tests that start processes.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
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


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No child, zombie or file descriptor outlives a test."""
    multiprocessing.get_context("spawn").Process(target=int).start()  # starts multiprocessing's own tracker process
    deadline = time.monotonic() + 60
    while multiprocessing.active_children():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert multiprocessing.active_children() == []
    assert len(os.listdir("/proc/self/fd")) <= before
