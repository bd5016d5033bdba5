"""The scripted expert of the sites: it reads the page that an agent reads, and knows the errands of the goal."""

from __future__ import annotations

import json
import re
from typing import Any

from agentgym.actions import Move
from agentgym_web.sites.goal import Errand, Goal, Step
from agentgym_web.sites.store import Changes

_ELEMENT = re.compile(r'\s*\[(\d+)\] (\S+) ("(?:[^"\\]|\\.)*")')
STOP = Move("stop", "stop", {"answer": ""})


class SiteExpert:
    """Runs one errand after the other until the database is as it should be, then stops.

    If somebody else moved in between, it walks the errand again from a link that every page has.

    Args:
        goal: What is wanted.
        home: Address of the site's first page, as the agent knows it.
    """

    def __init__(self, goal: Goal, home: str) -> None:
        self._goal = goal
        self._home = home
        self._errand: Errand | None = None
        self._done_steps = 0
        self._said: Move | None = None

    def choose(self, page: str, changes: Changes, *, finished: bool) -> Move:
        """Return the next move.

        Args:
            page: What the page shows, as in an observation.
            changes: What has changed in the database.
            finished: Nothing is left to be done.
        """
        errand = next((one for one in self._goal.errands if not one.is_done(changes)), None)
        if finished or errand is None:
            return STOP
        if errand is not self._errand or self._done_steps >= len(errand.steps):
            self._errand, self._done_steps = errand, 0
        step = errand.steps[self._done_steps]
        number = find_element(page, step)
        if number is None:
            self._done_steps, step = 0, errand.steps[0]
            number = find_element(page, step)
        move = _write_move("goto", url=self._home) if number is None else _write_step(step, number)
        self._said = None if number is None else move
        return move

    def note(self, move: Move) -> None:
        """Take note of the move that was made."""
        said = self._said is not None and (
            move.command == self._said.command or (move.tool, dict(move.arguments)) == _call_of(self._said)
        )
        self._done_steps = self._done_steps + 1 if said else 0


def _call_of(move: Move) -> tuple[str, dict[str, Any]]:
    return move.tool, dict(move.arguments)


def find_element(page: str, step: Step) -> int | None:
    """Return the number of the first element with a step's role and name."""
    name = json.dumps(step.name, ensure_ascii=False)  # other people's names may be escaped, and then are no JSON
    for line in page.split("\n"):
        found = _ELEMENT.match(line)
        if found and found[2] == step.role and found[3] == name:
            return int(found[1])
    return None


def _write_step(step: Step, number: int) -> Move:
    if step.act == "click":
        return _write_move("click", target=number)
    if step.act == "fill":
        return _write_move("type", target=number, text=step.value)
    return _write_move("select", target=number, label=step.value)


def _write_move(verb: str, **arguments: Any) -> Move:
    """Write a move both as a command and as a call of a tool."""
    words = [
        json.dumps(value, ensure_ascii=False) if name in ("text", "label") else str(value)
        for name, value in arguments.items()
    ]
    return Move(" ".join((verb, *words)), verb, arguments)
