"""What a game asks for, read from its PDDL goal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from agentgym_household.alfred.errors import GameFileError
from agentgym_household.alfred.trust import parse_problem

TASK_TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
_TREATMENTS = {"isclean": "clean", "ishot": "heat", "iscool": "cool"}
_BY_TREATMENT = {"clean": TASK_TYPES[2], "heat": TASK_TYPES[3], "cool": TASK_TYPES[4]}


@dataclass(frozen=True)
class Goal:
    """The goal of a game; kinds of things as they read in the game's text, e.g. ``"saltshaker"``.

    Attributes:
        task_type: One of :data:`TASK_TYPES`.
        target: Kind of the thing to handle.
        receptacle: Kind of the place that it must come to; empty for ``look_at_obj_in_light``.
        treatment: ``"clean"``, ``"heat"``, ``"cool"`` or empty.
        lamp: Kind of lamp to look under; empty otherwise.
        count: How many targets must be in one receptacle.
    """

    task_type: str
    target: str
    receptacle: str = ""
    treatment: str = ""
    lamp: str = ""
    count: int = 1


@lru_cache(maxsize=512)
def read_goal(problem: str) -> Goal:
    """Read the goal of a ``pddl_problem``.

    Raises:
        GameFileError: It is none of ALFWorld's six types.
    """
    parts = [part for part in parse_problem(problem) if isinstance(part, list) and part[:1] == [":goal"]]
    text = re.sub(r"\s+", " ", _flatten(parts[0])).lower() if parts else ""
    kinds = dict(re.findall(r"\( objecttype (\?\w+) (\w+?)type \)", text))
    receptacles = re.findall(r"\( receptacletype \?\w+ (\w+?)type \)", text)
    lamps = re.findall(r"\( istoggled (\?\w+) \)", text)
    targets = [kind for var, kind in kinds.items() if var not in lamps]
    treatments = [name for predicate, name in _TREATMENTS.items() if f"( {predicate} " in text]
    if "issliced" not in text and len(set(targets)) == 1 and len(treatments) <= 1:
        if len(lamps) == 1 and lamps[0] in kinds and "( holds " in text:
            return Goal(TASK_TYPES[1], targets[0], lamp=kinds[lamps[0]])
        if len(set(receptacles)) == 1 and not lamps:
            treatment = "".join(treatments)
            count = 2 if "not ( =" in text else 1
            kind = TASK_TYPES[5] if count == 2 else _BY_TREATMENT.get(treatment, TASK_TYPES[0])
            return Goal(kind, targets[0], receptacles[0], treatment, count=count)
    raise GameFileError(f"the goal is none of ALFWorld's six task types: {text[:200] or 'there is none'}")


def _flatten(part: object) -> str:
    return "( " + " ".join(_flatten(item) for item in part) + " )" if isinstance(part, list) else str(part)
