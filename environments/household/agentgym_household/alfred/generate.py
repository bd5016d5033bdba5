"""Tasks without end: a task is a pure function of its split and index.

Rooms, places, what belongs where, goals and sentences are ALFWorld's; how many things there are and where they lie is
drawn. ``train`` and ``valid_seen`` share rooms but no combination of (type, thing, place, room); ``valid_unseen`` has
rooms that the others never show.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from agentgym_household.alfred.alfworld_data import read_constants, read_domain, read_goals, read_grammar
from agentgym_household.alfred.floorplans import OPENABLE, FloorPlan, read_floor_plan, scenes
from agentgym_household.alfred.goal import TASK_TYPES
from agentgym_household.alfred.likelihood import rate

SPLITS = ("train", "valid_seen", "valid_unseen")
_TREATED = {TASK_TYPES[2]: "Cleanable", TASK_TYPES[3]: "Heatable", TASK_TYPES[4]: "Coolable"}
_TOOLS = {TASK_TYPES[2]: "SinkBasin", TASK_TYPES[3]: "Microwave", TASK_TYPES[4]: "Fridge"}
_SEEN_SHARE = 8  # one combination in so many belongs to valid_seen
_MAX_OF_A_KIND = 3  # ALFRED's MAX_NUM_OF_OBJ_INSTANCES
_LAMP_PLACES = ("Desk", "SideTable", "Dresser", "Shelf", "CoffeeTable", "DiningTable")


@dataclass(frozen=True)
class Recipe:
    """What a generated game is made from.

    Attributes:
        split: Its split.
        index: Its number in the split.
        task_type: One of the six types.
        target: Kind of the thing to handle, e.g. ``"Apple"``.
        parent: Kind of place to bring it to, or of lamp to look under.
        scene: Number of the room.
    """

    split: str
    index: int
    task_type: str
    target: str
    parent: str
    scene: int

    @property
    def task_id(self) -> str:
        """Readable name, as ALFRED names its folders, with split and index."""
        return f"{self.split}/{self.task_type}-{self.target}-None-{self.parent}-{self.scene}/{self.index}"


def draw_recipe(split: str, index: int) -> Recipe:
    """Return the recipe of a split at an index; types take turns, rooms, things and places are drawn."""
    task_type = TASK_TYPES[index % len(TASK_TYPES)]
    chance = random.Random(f"recipe:{split}:{index}")
    rooms = _rooms(split, task_type)
    scene = rooms[chance.randrange(len(rooms))]
    choices = _combinations(split, task_type, scene)
    target, parent = choices[chance.randrange(len(choices))]
    return Recipe(split, index, task_type, target, parent, scene)


@lru_cache(maxsize=32)
def _rooms(split: str, task_type: str) -> tuple[int, ...]:
    return tuple(scene for scene in scenes(split) if _combinations(split, task_type, scene))


@lru_cache(maxsize=2048)
def _combinations(split: str, task_type: str, scene: int) -> tuple[tuple[str, str], ...]:
    """Return the pairs (thing, place) that a room allows for a type, of this split only."""
    plan = read_floor_plan(scene)
    constants = read_constants()
    if task_type == TASK_TYPES[1]:
        has_place = plan.places.intersection(_LAMP_PLACES)
        pairs = [(kind, "DeskLamp") for kind in plan.kinds] if plan.has_lamp and has_place else []
    else:
        containers = constants.VAL_RECEPTACLE_OBJECTS
        pairs = [(kind, place) for place in sorted(plan.places) for kind in plan.kinds if kind in containers[place]]
    if task_type in _TREATED:
        if _TOOLS[task_type] not in plan.places:
            return ()
        able = constants.VAL_ACTION_OBJECTS[_TREATED[task_type]]
        pairs = [(kind, place) for kind, place in pairs if kind in able and place != _TOOLS[task_type]]
    # A thing must have somewhere to lie that is not its goal, or the goal would be true from the start.
    pairs = [pair for pair in pairs if _places_for(plan, *pair)]
    return tuple(pair for pair in pairs if split == "valid_unseen" or _belongs(split, task_type, scene, pair))


def _belongs(split: str, task_type: str, scene: int, pair: tuple[str, str]) -> bool:
    digest = hashlib.sha256(f"{task_type}:{pair[0]}:{pair[1]}:{scene}".encode()).digest()
    return (int.from_bytes(digest[:4], "big") % _SEEN_SHARE == 0) == (split == "valid_seen")


def _places_for(plan: FloorPlan, kind: str, barred: str = "") -> list[tuple[str, int]]:
    """Return the places where a kind of thing may lie, with their weights."""
    containers = read_constants().VAL_RECEPTACLE_OBJECTS
    return [
        (ident, rate(place.lower(), kind.lower()))
        for ident, place in plan.receptacles
        if place != barred and kind in containers[place]
    ]


@dataclass(frozen=True)
class Thing:
    """One thing and where it lies; both as PDDL ids."""

    ident: str
    kind: str
    place: str


def place_things(recipe: Recipe, chance: random.Random) -> list[Thing]:
    """Draw what is in the room and where, so that the goal can be reached and is not yet."""
    plan = read_floor_plan(recipe.scene)
    things = []
    for kind in plan.kinds:
        is_target = kind == recipe.target
        places = _places_for(plan, kind, recipe.parent if is_target else "")
        if not places:
            continue
        least = 2 if is_target and recipe.task_type == TASK_TYPES[5] else 1
        for number in range(chance.randint(least, max(least, _MAX_OF_A_KIND if is_target else 2))):
            place = chance.choices([ident for ident, _ in places], [weight for _, weight in places])[0]
            things.append(Thing(f"{kind}_bar_{number + 1}", kind, place))
    if plan.has_lamp:
        lamp_places = [ident for wanted in _LAMP_PLACES for ident, place in plan.receptacles if place == wanted]
        if lamp_places:
            things.append(Thing("DeskLamp_bar_1", "DeskLamp", chance.choice(lamp_places)))
    return things


def generate_game(recipe: Recipe) -> dict[str, Any]:
    """Make a game in ALFWorld's format, the same bytes in every process."""
    chance = random.Random(f"game:{recipe.split}:{recipe.index}")
    entry = read_goals()[recipe.task_type]
    is_lamp = recipe.task_type == TASK_TYPES[1]
    words = {"obj": recipe.target, "recep": "" if is_lamp else recipe.parent, "toggle": recipe.parent, "mrecep": ""}
    sentence = chance.choice(entry["templates"]).format(**{key: word.lower() for key, word in words.items()})
    goal = entry["pddl"].format(**words).replace("#", "-")
    return {
        "pddl_domain": read_domain(),
        "grammar": read_grammar().replace("UNKNOWN GOAL", sentence),
        "pddl_problem": _write_problem(recipe, place_things(recipe, chance), goal),
        "solvable": True,
    }


def _write_problem(recipe: Recipe, things: list[Thing], goal: str) -> str:
    plan = read_floor_plan(recipe.scene)
    locations = {ident: f"loc_bar_{number + 1}" for number, (ident, _) in enumerate(plan.receptacles)}
    receptacle_kinds = sorted(plan.places | {"SinkBasin", "Microwave", "Fridge"})
    thing_kinds = sorted({thing.kind for thing in things} | {"Knife", "ButterKnife"})
    objects = ["agent1 - agent", "loc_bar_0 - location"]
    objects += [f"{kind}Type - otype" for kind in thing_kinds]
    objects += [f"{kind}Type - rtype" for kind in receptacle_kinds]
    objects += [f"{thing.ident} - object" for thing in things]
    objects += [f"{ident} - receptacle" for ident, _ in plan.receptacles]
    objects += [f"{location} - location" for location in locations.values()]
    init = ["atLocation agent1 loc_bar_0"]
    for ident, kind in plan.receptacles:
        init += [f"receptacleType {ident} {kind}Type", f"receptacleAtLocation {ident} {locations[ident]}"]
        init += [f"openable {ident}"] * (kind in OPENABLE)
    containers: Mapping[str, set[str]] = read_constants().VAL_RECEPTACLE_OBJECTS
    init += [f"canContain {p}Type {k}Type" for p in sorted(plan.places) for k in thing_kinds if k in containers[p]]
    for thing in things:
        init += [f"objectType {thing.ident} {thing.kind}Type", f"inReceptacle {thing.ident} {thing.place}"]
        init += [f"objectAtLocation {thing.ident} {locations[thing.place]}"]
        init += [f"{ability} {thing.ident}" for ability in _abilities(thing.kind)]
    declared, facts = "\n".join(objects), "\n".join(f"({fact})" for fact in init)
    # The goal of ALFWorld's library closes the definition.
    head = f"(define (problem generated)\n(:domain alfred)\n(:objects\n{declared}\n)\n(:init\n{facts}\n)\n"
    return head + goal.strip() + "\n"


def _abilities(kind: str) -> list[str]:
    if kind == "DeskLamp":
        return ["toggleable"]
    able = read_constants().VAL_ACTION_OBJECTS
    names = ("Cleanable", "Heatable", "Coolable", "Sliceable")
    return ["pickupable", *(name.lower() for name in names if kind in able[name])]
