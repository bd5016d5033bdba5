"""A user's own games: the tree ``json_2.1.1/{train,valid_seen,valid_unseen}`` of ALFWorld."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from agentgym_household.alfred.engine import read_game
from agentgym_household.alfred.errors import GameFileError
from agentgym_household.alfred.goal import TASK_TYPES

TREE = "json_2.1.1"
GAME = "game.tw-pddl"


def find_data_dir(data_dir: str | Path | None = None) -> Path | None:
    """Return the folder given, else the one that ``ALFWORLD_DATA`` names, else ``None``.

    Raises:
        GameFileError: There is no such folder.
    """
    given = data_dir if data_dir is not None else os.environ.get("ALFWORLD_DATA") or None
    if given is None:
        return None
    folder = Path(given).expanduser()
    if not folder.is_dir():
        origin = "data_dir" if data_dir is not None else "ALFWORLD_DATA"
        raise GameFileError(f"{origin}={str(given)!r} is no folder; it must hold {TREE}/<split>/<task>/<trial>/{GAME}")
    return folder


def find_games(folder: Path, split: str, task_types: Sequence[str] = TASK_TYPES) -> dict[str, Path]:
    """Return the solvable games of a split by id, sorted; ids are ``<split>/<task>/<trial>``.

    As ALFWorld does, this skips tasks with movable receptacles or slices, and games that are not marked solvable.

    Args:
        folder: The folder that holds ``json_2.1.1``, or ``json_2.1.1`` itself.
        split: Name of a folder in it.
        task_types: Types to keep; read from the task folder's name.

    Raises:
        GameFileError: A game cannot be read, or none is left.
    """
    root = folder if folder.name == TREE else folder / TREE
    games: dict[str, Path] = {}
    skipped = {"of another type": 0, "movable or sliced": 0, "not marked solvable": 0}
    for path in sorted((root / split).glob(f"**/{GAME}")):
        name = path.parent.relative_to(root).as_posix()
        if "movable" in name or "Sliced" in name:
            skipped["movable or sliced"] += 1
        elif task_type_of(name) not in task_types:
            skipped["of another type"] += 1
        elif read_game(path).get("solvable") is not True:
            skipped["not marked solvable"] += 1
        else:
            games[name] = path
    if not games:
        why = ", ".join(f"{count} {reason}" for reason, count in skipped.items() if count) or "none was there"
        raise GameFileError(f"no solvable game in {root / split}: looked for <task>/<trial>/{GAME} ({why})")
    return games


def task_type_of(task_id: str) -> str:
    """Return the type that a game's folder is named after; empty if none of the six."""
    folder = next((part for part in task_id.split("/") if part.startswith(TASK_TYPES)), "")
    return next((kind for kind in TASK_TYPES if folder.startswith(f"{kind}-")), "")
