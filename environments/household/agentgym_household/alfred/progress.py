"""How far a game has come: ALFRED's goal conditions as one number.

ALFRED (Shridhar et al., 2020, arXiv:1912.01734) counts goal conditions beside success. Here they are the potential of a
shaping reward (Ng et al., 1999): what a step adds, a step back takes away, so that going to and fro earns nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentgym_household.alfred.beliefs import Beliefs, kind_of, read_facts
from agentgym_household.alfred.goal import Goal


def measure_progress(goal: Goal, facts: Iterable[Any], names: dict[str, str]) -> float:
    """Return the share of the goal's stages that are reached, below 1 for a game that is not won.

    The stages of one thing are: it is in hand or in its place; it was treated, if it has to be; it is in its place. To
    look at a thing under a lamp has the stages in hand and lit. For two things, each counts half.

    Args:
        goal: What the game asks for.
        facts: Propositions of the engine's state.
        names: Text names by id.
    """
    known = read_facts(facts, names)
    if goal.lamp:
        return 0.5 * (kind_of(known.held) == goal.target)
    targets = {thing for things in known.contents.values() for thing in things} | {known.held}
    shares = sorted((_stages(goal, known, thing) for thing in targets if kind_of(thing) == goal.target), reverse=True)
    return sum(shares[: goal.count]) / goal.count


def _stages(goal: Goal, known: Beliefs, thing: str) -> float:
    treated = not goal.treatment or thing in known.treated[goal.treatment]
    held = thing == known.held
    placed = any(thing in things for place, things in known.contents.items() if kind_of(place) == goal.receptacle)
    stages = [held or (placed and treated), placed and treated, *([treated] if goal.treatment else [])]
    return sum(stages) / len(stages)
