"""Where a person would look first for a thing."""

from __future__ import annotations

from collections.abc import Sequence

from agentgym_household.alfred.alfworld_data import read_constants
from agentgym_household.alfred.beliefs import kind_of

# How likely a thing that may be in such a place is seen there. Open surfaces first, since things that are used lie
# about; drawers and cabinets are many and mostly empty.
_PRIOR = {
    "countertop": 6, "diningtable": 6, "desk": 6, "bed": 5, "sofa": 5, "coffeetable": 5, "sidetable": 5, "dresser": 5,
    "armchair": 4, "fridge": 4, "sinkbasin": 4, "shelf": 3, "cart": 3, "ottoman": 3, "toilet": 3, "stoveburner": 3,
    "bathtubbasin": 3, "handtowelholder": 3, "towelholder": 3, "toiletpaperhanger": 3, "garbagecan": 2, "microwave": 2,
    "coffeemachine": 2, "tvstand": 2, "cabinet": 1, "drawer": 1, "safe": 1, "laundryhamper": 1, "toaster": 1,
}  # fmt: skip
_LAMP_PLACES = {"desk": 9, "sidetable": 8, "dresser": 7, "shelf": 6, "coffeetable": 5, "diningtable": 5}


def rate(receptacle_kind: str, thing_kind: str) -> int:
    """Return how likely a kind of thing is in a kind of place; 0 if it does not belong there."""
    if thing_kind.endswith("lamp"):
        return _LAMP_PLACES.get(receptacle_kind, 0)
    return _PRIOR.get(receptacle_kind, 1) if (receptacle_kind, thing_kind) in _belonging() else 0


def order_places(receptacles: Sequence[str], thing_kind: str) -> list[str]:
    """Return the places in the order in which to search them, likelier ones first, ties as the room lists them."""
    return sorted(receptacles, key=lambda name: -rate(kind_of(name), thing_kind))


_pairs: set[tuple[str, str]] = set()


def _belonging() -> set[tuple[str, str]]:
    if not _pairs:
        table = read_constants().VAL_RECEPTACLE_OBJECTS
        _pairs.update((place.lower(), thing.lower()) for place, things in table.items() for thing in things)
    return _pairs
