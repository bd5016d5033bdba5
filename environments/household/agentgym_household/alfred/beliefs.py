"""What an expert holds true: everything, read from the world's facts, or what it has read in the game's text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

TOOLS = {"clean": ("sinkbasin",), "heat": ("microwave",), "cool": ("fridge",)}
_ADJECTIVES = {"clean": "isclean", "heat": "ishot", "cool": "iscool"}


def kind_of(name: str) -> str:
    """Return ``"apple"`` for ``"apple 2"``."""
    return name.rsplit(" ", 1)[0].strip()


@dataclass
class Beliefs:
    """A view of the world.

    Attributes:
        receptacles: Names of the places, in the order in which the room lists them.
        contents: What is in each place that was seen into.
        closed: Places known to be closed.
        here: Places within reach.
        held: What the agent carries; empty if nothing.
        treated: Things by treatment, e.g. ``{"clean": {"apple 1"}}``.
        refused: Commands that did not work where they were tried.
    """

    receptacles: list[str] = field(default_factory=list)
    contents: dict[str, list[str]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    here: list[str] = field(default_factory=list)
    held: str = ""
    treated: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in TOOLS})
    refused: set[str] = field(default_factory=set)


def read_facts(facts: Iterable[Any], names: dict[str, str]) -> Beliefs:
    """Return the whole truth.

    Args:
        facts: Propositions of the engine's state.
        names: Text names by id.
    """
    by_name: dict[str, list[tuple[str, ...]]] = {}
    for fact in facts:
        by_name.setdefault(fact.name, []).append(tuple(names[var.name] for var in fact.arguments))
    beliefs = Beliefs()
    at = {place for _, place in by_name.get("atlocation", ())}
    located = sorted(by_name.get("receptacleatlocation", ()))
    beliefs.receptacles = [receptacle for receptacle, _ in located]
    beliefs.here = [receptacle for receptacle, place in located if place in at]
    opened = {receptacle for (receptacle,) in by_name.get("opened", ())}
    beliefs.closed = {receptacle for (receptacle,) in by_name.get("openable", ())} - opened
    beliefs.contents = {receptacle: [] for receptacle in beliefs.receptacles}
    for thing, receptacle in sorted(by_name.get("inreceptacle", ())):
        beliefs.contents.setdefault(receptacle, []).append(thing)
    beliefs.held = next((thing for _, thing in by_name.get("holds", ())), "")
    for treatment, predicate in _ADJECTIVES.items():
        beliefs.treated[treatment] = {thing for (thing,) in by_name.get(predicate, ())}
    return beliefs


_SEEN = re.compile(r"(?:On the|The) ([a-z]+ \d+)(?: is open\. In it)?, you see ([^.]*)\.")
_CLOSED = re.compile(r"The ([a-z]+ \d+) is closed\.")
_FACING = re.compile(r"You are facing the ([^.]*)\.")
_NAME = re.compile(r"[a-z]+ \d+")
_THING = re.compile(r"\ban? ([a-z]+ \d+)")


class Reader:
    """Follows an episode by its text alone, as a player does.

    It reads when its beliefs are asked for, since most episodes are played without the expert.
    """

    def __init__(self, opening: str) -> None:
        self._beliefs = Beliefs(receptacles=_THING.findall(opening.split("Your task is to")[0]))
        self._unread: list[tuple[str, str]] = []

    def note(self, command: str, feedback: str) -> None:
        """Keep what one command led to."""
        self._unread.append((command, feedback))

    @property
    def beliefs(self) -> Beliefs:
        """What is known after all that was noted."""
        for command, feedback in self._unread:
            self._read(command, feedback)
        self._unread.clear()
        return self._beliefs

    def _read(self, command: str, feedback: str) -> None:
        known = self._beliefs
        if feedback.startswith("Nothing happens"):
            known.refused.add(command)
            return
        for receptacle, things in _SEEN.findall(feedback):
            known.contents[receptacle] = _THING.findall(things)
            known.closed.discard(receptacle)
        known.closed.update(_CLOSED.findall(feedback))
        for faced in _FACING.findall(feedback):  # neighbours share a spot, and one does not go from one to the other
            known.here = _NAME.findall(faced)
        self._read_command(command)

    def _read_command(self, command: str) -> None:
        known = self._beliefs
        verb, _, rest = command.partition(" ")
        if command.startswith("go to "):
            known.here = [command[len("go to ") :]]
        elif verb == "close":
            known.closed.add(rest)
        elif verb == "take":
            known.held, _, receptacle = rest.partition(" from ")
            if known.held in known.contents.get(receptacle, ()):
                known.contents[receptacle].remove(known.held)
        elif verb == "move":
            thing, _, receptacle = rest.partition(" to ")
            known.held = ""
            known.contents.setdefault(receptacle, []).append(thing)
        elif verb in TOOLS:
            thing = rest.partition(" with ")[0]
            known.treated[verb].add(thing)
            if verb in ("heat", "cool"):
                known.treated["cool" if verb == "heat" else "heat"].discard(thing)
