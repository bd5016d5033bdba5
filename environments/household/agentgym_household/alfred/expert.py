"""The scripted expert: the next command from any state, by a plan for the goal's type.

Four styles share the plan. ``"oracle"`` is told the world's facts and goes straight to what it needs. The others read
only the text that a player reads, so that a model can imitate them: ``"searching"`` looks first where such things tend
to be, ``"sweeping"`` goes from place to place as the room lists them, ``"wandering"`` does so in an order of chance.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from agentgym_household.alfred.beliefs import TOOLS, Beliefs, kind_of
from agentgym_household.alfred.goal import Goal
from agentgym_household.alfred.likelihood import order_places, rate

_PLANNED = 8  # places that the first thought names


class Expert:
    """Plans for one game.

    Args:
        goal: What the game asks for.
        style: ``"oracle"``, ``"searching"``, ``"sweeping"`` or ``"wandering"``; what is known is the caller's to give.
        seed: Of the order in which a wandering expert searches.
    """

    def __init__(self, goal: Goal, style: str, seed: int = 0) -> None:
        self.goal = goal
        self.style = style
        self.seed = seed

    def next_command(self, known: Beliefs) -> str:
        """Return the command to say now; ``look`` if nothing is left to try."""
        goal = self.goal
        if goal.lamp:
            return self._look_under_lamp(known)
        places = self._goal_places(known)
        if not places:
            return "look"
        place = places[0]
        if kind_of(known.held) == goal.target:
            if goal.treatment and known.held not in known.treated[goal.treatment]:
                return self._treat(known)
            return _put(known, place)
        if known.held:
            return self._put_away(known)
        return self._fetch(known, spare=place)

    def think(self, known: Beliefs, command: str) -> str:
        """Say in a line what the command rests on: the task, where one stands, what one holds and has in sight."""
        goal = self.goal
        task = goal.treatment or ("light" if goal.lamp else "two" if goal.count == 2 else "put")
        at = next(iter(known.here), "nowhere")
        seen = command.removeprefix("take ").partition(" from ")[0] if command.startswith("take ") else "nothing"
        aim = f"{task} {goal.target} for {goal.receptacle or goal.lamp}"
        thought = f"{aim}, at {at}, hold {known.held or 'nothing'}, see {seen}"
        if known.contents or seen != "nothing" or self.style == "wandering":  # what is left to chance is no plan
            return thought
        return f"{thought}, search {', '.join(self._order(known, goal.target)[:_PLANNED])}"

    def _look_under_lamp(self, known: Beliefs) -> str:
        if kind_of(known.held) != self.goal.target:
            return self._put_away(known) if known.held else self._fetch(known, spare="")
        found = _find(known, self.goal.lamp)
        if not found:
            return self._search(known, self.goal.lamp)
        lamp, place = found[0]
        return f"use {lamp}" if place in known.here else f"go to {place}"

    def _goal_places(self, known: Beliefs) -> list[str]:
        """Return the places that the target may come to, best first."""

        def cost(place: str) -> tuple[int, bool, bool]:
            there = sum(self._is_done(known, thing) for thing in known.contents.get(place, ()))
            return -there, place not in known.here, place in known.closed

        return sorted((p for p in known.receptacles if kind_of(p) == self.goal.receptacle), key=cost)

    def _is_done(self, known: Beliefs, thing: str) -> bool:
        goal = self.goal
        return kind_of(thing) == goal.target and (not goal.treatment or thing in known.treated[goal.treatment])

    def _fetch(self, known: Beliefs, spare: str) -> str:
        """Take a target; those that already lie well in the place ``spare`` stay."""

        def is_free(thing: str, place: str) -> bool:
            return place != spare or not self._is_done(known, thing)

        found = [pair for pair in _find(known, self.goal.target) if is_free(*pair)]
        if not found:
            return self._search(known, self.goal.target)
        treated = known.treated.get(self.goal.treatment, set())
        thing, place = min(found, key=lambda pair: (pair[0] not in treated, pair[1] not in known.here))
        if place not in known.here:
            return f"go to {place}"
        return f"open {place}" if place in known.closed else f"take {thing} from {place}"

    def _treat(self, known: Beliefs) -> str:
        tools = [name for name in known.receptacles if kind_of(name) in TOOLS[self.goal.treatment]]
        if not tools:
            return "look"
        tool = next((name for name in tools if name in known.here), tools[0])
        if tool not in known.here:
            return f"go to {tool}"
        return f"{self.goal.treatment} {known.held} with {tool}"

    def _put_away(self, known: Beliefs) -> str:
        """Get rid of something else that is held: here if it fits, else where it belongs."""
        kind = kind_of(known.held)
        places = [p for p in known.receptacles if rate(kind_of(p), kind)] or known.receptacles
        places = [p for p in places if f"move {known.held} to {p}" not in known.refused] or places
        return _put(known, min(places, key=lambda p: (p not in known.here, p in known.closed)))

    def _search(self, known: Beliefs, kind: str) -> str:
        """Look into the first place that was not seen into yet."""
        order = self._order(known, kind)
        unseen = [place for place in order if place not in known.contents]
        if not unseen:
            known.contents.clear()  # it was overlooked or moved: begin again
            unseen = order
        here = next((place for place in unseen if place in known.here and place in known.closed), None)
        if here is not None:
            return f"open {here}"
        if not unseen:
            return "look"
        return f"{'examine' if unseen[0] in known.here else 'go to'} {unseen[0]}"

    def _order(self, known: Beliefs, kind: str) -> list[str]:
        """Return the places in the order in which this style searches them."""
        if self.style == "wandering":
            return random.Random(self.seed).sample(known.receptacles, len(known.receptacles))
        return list(known.receptacles) if self.style == "sweeping" else order_places(known.receptacles, kind)


def _put(known: Beliefs, place: str) -> str:
    if place not in known.here:
        return f"go to {place}"
    return f"open {place}" if place in known.closed else f"move {known.held} to {place}"


def _find(known: Beliefs, kind: str) -> Sequence[tuple[str, str]]:
    """Return things of a kind with their places, within reach first, then what needs no opening."""
    found = [
        (thing, place)
        for place in known.receptacles
        for thing in known.contents.get(place, ())
        if kind_of(thing) == kind and f"take {thing} from {place}" not in known.refused
    ]
    return sorted(found, key=lambda pair: (pair[1] not in known.here, pair[1] in known.closed))
