"""The 120 AI2-THOR floor plans whose layouts the alfworld wheel ships."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from agentgym_household.alfred.alfworld_data import read_constants

OPENABLE = frozenset({"Fridge", "Cabinet", "Microwave", "Drawer", "Safe"})
# Places that the layouts name without saying how many there are.
_UNCOUNTED = {"CoffeeMachine": 1, "StoveBurner": 4, "Toaster": 1, "GarbageCan": 1, "Shelf": 2, "LaundryHamper": 1}
_UNCOUNTED |= {"Ottoman": 1, "TVStand": 1, "Safe": 1, "Cart": 1, "HandTowelHolder": 1, "TowelHolder": 1}
_UNCOUNTED |= {"ToiletPaperHanger": 1, "SinkBasin": 1, "BathtubBasin": 1, "SideTable": 1, "CounterTop": 1}
_MAX_OF_A_KIND = 8


@dataclass(frozen=True)
class FloorPlan:
    """One room.

    Attributes:
        number: AI2-THOR's number, e.g. 10 for ``FloorPlan10``.
        receptacles: PDDL id and kind of each place, sorted.
        kinds: Kinds of pickupable things that are found here, sorted.
        has_lamp: Whether a desk lamp is.
    """

    number: int
    receptacles: tuple[tuple[str, str], ...]
    kinds: tuple[str, ...]
    has_lamp: bool

    @property
    def places(self) -> frozenset[str]:
        """Kinds of places."""
        return frozenset(kind for _, kind in self.receptacles)


def scenes(split: str) -> tuple[int, ...]:
    """Return the rooms of a split: ALFRED's test rooms for ``valid_unseen``, its training rooms for the others."""
    constants = read_constants()
    return tuple(constants.TEST_SCENE_NUMBERS if split == "valid_unseen" else constants.TRAIN_SCENE_NUMBERS)


@lru_cache(maxsize=128)
def read_floor_plan(number: int) -> FloorPlan:
    """Read a room from the wheel."""
    layouts = files("alfworld") / "gen" / "layouts"
    listed = set(json.loads((layouts / f"FloorPlan{number}-objects.json").read_text(encoding="utf-8")))
    instances = json.loads((layouts / f"FloorPlan{number}-openable.json").read_text(encoding="utf-8"))
    containers = read_constants().VAL_RECEPTACLE_OBJECTS
    receptacles: dict[str, list[str]] = {}
    for name in sorted(instances):
        kind = {"Sink": "SinkBasin", "Bathtub": "BathtubBasin"}.get(name.split("|")[0], name.split("|")[0])
        if kind in containers and len(receptacles.setdefault(kind, [])) < _MAX_OF_A_KIND:
            receptacles[kind].append(_mangle(name))
    for kind, count in _UNCOUNTED.items():
        if kind in listed and kind not in receptacles:
            parent = {"SinkBasin": "Sink", "BathtubBasin": "Bathtub"}.get(kind)
            receptacles[kind] = [
                f"{parent}_bar_{i + 1}_bar_{kind}" if parent else f"{kind}_bar_{i + 1}" for i in range(count)
            ]
    movable = set(read_constants().MOVABLE_RECEPTACLES)
    kinds = {kind for name, held in containers.items() if name not in movable for kind in held} & listed
    return FloorPlan(
        number=number,
        receptacles=tuple(sorted((ident, kind) for kind, idents in receptacles.items() for ident in idents)),
        kinds=tuple(sorted(kind for kind in kinds if kind not in receptacles)),
        has_lamp="DeskLamp" in listed,
    )


def _mangle(name: str) -> str:
    return name.replace("|", "_bar_").replace("+", "_plus_").replace("-", "_minus_").replace(".", "_dot_")
