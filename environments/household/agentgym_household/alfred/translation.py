"""A game's PDDL in the planner library's format: translated once, then found on disk."""

from __future__ import annotations

import gc
import gzip
import hashlib
import json
import logging
import os
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fast_downward

from agentgym.machine import cache_dir

_log = logging.getLogger(__name__)
_translating = threading.Lock()
_FORMAT = 1  # of the files; another one is another name


@dataclass(frozen=True)
class Translation:
    """What the engine needs of a translated game; plain data.

    Attributes:
        sas: The task in Fast Downward's format.
        types: Name and names of supertypes of each type.
        parameters: Name and type of each parameter, by action.
        objects: Type of each object.
        init: Name and arguments of each fact of the problem's ``:init``.
    """

    sas: str
    types: list[tuple[str, list[str]]]
    parameters: dict[str, list[tuple[str, str]]]
    objects: dict[str, str]
    init: list[tuple[str, list[str]]]


def find_translation(domain: str, problem: str, folder: Path | None = None) -> Translation:
    """Return the translation of a game, made now (0.1 to 1 s) if no process has made it before.

    An entry is some 20 KB, written under a temporary name and renamed; one that is torn is made again. A folder that
    cannot be written costs time, not the game.
    """
    text = "\0".join((domain, problem, _translator(), str(_FORMAT)))
    entry = (folder or cache_dir("alfred")) / f"{hashlib.sha256(text.encode()).hexdigest()}.json.gz"
    found = _read(entry)
    if found is None:
        found = translate(domain, problem)
        _write(entry, found)
    return found


def translate(domain: str, problem: str) -> Translation:
    """Translate PDDL to SAS. Fast Downward's translator uses ``sys.argv``, ``sys.stdout`` and module globals.

    It makes a million small objects and no cycles worth a collection: without the collector it takes half the time.
    """
    with _translating:
        argv = sys.argv
        collecting = gc.isenabled()
        gc.disable()
        try:
            task, sas = fast_downward.pddl2sas(domain, problem)
        finally:
            sys.argv = argv
            if collecting:
                gc.enable()
    return Translation(
        sas=sas,
        types=[(kind.name, list(kind.supertype_names)) for kind in task.types],
        parameters={action.name: [(p.name, p.type_name) for p in action.parameters] for action in task.actions},
        objects={thing.name: thing.type_name for thing in task.objects},
        init=list(_read_init(task)),
    )


def _read_init(task: Any) -> Iterator[tuple[str, list[str]]]:
    for atom in task.init:
        if isinstance(atom, fast_downward.translate.pddl.conditions.Atom) and atom.predicate != "=":
            yield atom.predicate, list(atom.args)
        elif isinstance(atom, fast_downward.translate.pddl.f_expression.Assign):
            name = str(atom.expression.value)
            if atom.fluent.symbol != "total-cost" and not name.isdigit():
                yield name, list(atom.fluent.args)


@cache
def _translator() -> str:
    return version("fast-downward-textworld")


def _read(entry: Path) -> Translation | None:
    try:
        found = json.loads(gzip.decompress(entry.read_bytes()))
        return Translation(
            sas=found["sas"],
            types=[(name, supertypes) for name, supertypes in found["types"]],
            parameters={action: [(name, kind) for name, kind in own] for action, own in found["parameters"].items()},
            objects=found["objects"],
            init=[(name, args) for name, args in found["init"]],
        )
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, TypeError, KeyError, zlib.error) as error:
        _log.warning("the translated game %s cannot be read (%s) and is made again", entry, error)
        return None


def _write(entry: Path, translation: Translation) -> None:
    packed = gzip.compress(json.dumps(asdict(translation)).encode(), compresslevel=3)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(prefix=".making-", dir=entry.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(packed)
            os.replace(unfinished, entry)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(unfinished)
            raise
    except OSError as error:
        _log.warning("translated games cannot be kept in %s: %s", entry.parent, error)
