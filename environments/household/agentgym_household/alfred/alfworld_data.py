"""What the alfworld wheel ships, read without its side effects."""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
from functools import lru_cache
from importlib.resources import files
from types import ModuleType
from typing import Any

_ENVIRONMENT_LOCK = threading.RLock()  # games start in many threads at once, and the variable is the process's


def import_alfworld(name: str) -> ModuleType:
    """Import a module of alfworld.

    Its first import makes a folder and sets ``ALFWORLD_DATA``; both are prevented here, since that variable is where
    a user says that her own games are.
    """
    with _ENVIRONMENT_LOCK:
        before = os.environ.get("ALFWORLD_DATA")
        os.environ["ALFWORLD_DATA"] = tempfile.gettempdir()
        try:
            return importlib.import_module(name)
        finally:
            if before is None:
                del os.environ["ALFWORLD_DATA"]
            else:
                os.environ["ALFWORLD_DATA"] = before


@lru_cache(maxsize=1)
def read_domain() -> str:
    """Return the PDDL domain of the wheel."""
    import_alfworld("alfworld")
    return (files("alfworld") / "data" / "alfred.pddl").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def read_grammar() -> str:
    """Return the text grammar of the wheel, with ``UNKNOWN GOAL`` where the task goes."""
    import_alfworld("alfworld")
    return (files("alfworld") / "data" / "alfred.twl2").read_text(encoding="utf-8")


def read_constants() -> Any:
    """Return ``alfworld.gen.constants``: object types, what contains what, scene numbers."""
    return import_alfworld("alfworld.gen.constants")


def read_goals() -> dict[str, dict[str, Any]]:
    """Return ``alfworld.gen.goal_library.gdict``: PDDL and sentence templates of each goal."""
    goals: dict[str, dict[str, Any]] = import_alfworld("alfworld.gen.goal_library").gdict
    return goals
