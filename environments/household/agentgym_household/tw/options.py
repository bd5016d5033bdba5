"""Which game is meant: a challenge, its options, a split and a number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentgym.errors import UnknownNameError, UsageError

OptionValue = int | bool | str

SPLITS = ("train", "valid_seen", "valid_unseen")
DIFFICULTIES = ("easy", "medium", "hard")
TASKS_LIMIT = 1_000_000
ATTEMPTS_LIMIT = 10
_FORMAT = 1  # raise it when the same options begin to give other games, so that old cache entries are left alone

_FLAG = (False, True)
_ALLOWED: Mapping[str, Mapping[str, Sequence[OptionValue]]] = {
    "custom": {
        "world_size": range(1, 41),
        "nb_objects": range(1, 101),
        "quest_length": range(1, 31),
        "quest_breadth": range(1, 6),
        "nb_parallel_quests": range(1, 6),
        "theme": ("house", "basic"),
    },
    "cooking": {
        "recipe": range(1, 6),
        "take": range(6),
        "go": (1, 6, 9, 12),
        "open": _FLAG,
        "cook": _FLAG,
        "cut": _FLAG,
        "drop": _FLAG,
        "recipe_seed": range(2**31),
    },
    "treasure_hunter": {"level": range(1, 31)},
    "coin_collector": {"level": range(1, 301)},
}
CHALLENGES = tuple(_ALLOWED)

_CUSTOM: Mapping[str, OptionValue] = {"quest_breadth": 1, "nb_parallel_quests": 1, "theme": "house"}
_COOKING: Mapping[str, OptionValue] = {"open": True, "cook": True, "drop": False, "recipe_seed": 0}
_PRESETS: Mapping[str, Mapping[str, Mapping[str, OptionValue]]] = {
    "easy": {
        "custom": {**_CUSTOM, "world_size": 2, "nb_objects": 5, "quest_length": 3},
        "cooking": {**_COOKING, "recipe": 1, "take": 1, "go": 1, "cut": False},
        "treasure_hunter": {"level": 5},
        "coin_collector": {"level": 5},
    },
    "medium": {
        "custom": {**_CUSTOM, "world_size": 5, "nb_objects": 10, "quest_length": 5},
        "cooking": {**_COOKING, "recipe": 2, "take": 2, "go": 6, "cut": True},
        "treasure_hunter": {"level": 16},
        "coin_collector": {"level": 110},
    },
    "hard": {
        "custom": {**_CUSTOM, "world_size": 8, "nb_objects": 20, "quest_length": 8},
        "cooking": {**_COOKING, "recipe": 3, "take": 3, "go": 9, "cut": True, "drop": True},
        "treasure_hunter": {"level": 26},
        "coin_collector": {"level": 220},
    },
}
MAX_TURNS: Mapping[str, int] = {"easy": 30, "medium": 50, "hard": 100}


@dataclass(frozen=True)
class GameOptions:
    """What the generator is asked for, split and seed aside.

    Attributes:
        challenge: One of :data:`CHALLENGES`.
        values: Every option of the challenge with its value, in the order of the challenge's table.
    """

    challenge: str
    values: tuple[tuple[str, OptionValue], ...]

    @property
    def tag(self) -> str:
        """Write the options as part of a task's id, e.g. ``recipe2-take2-go6-open-cook-cut``."""
        words = []
        for name, value in self.values:
            if value is True:
                words.append(name)
            elif isinstance(value, str):
                words.append(value)
            elif value is not False and (name, value) != ("recipe_seed", 0):
                words.append(f"{name.removeprefix('nb_')}{value}")
        return "-".join(words)


@dataclass(frozen=True)
class GameSpec:
    """One game: the same spec gives the same bytes in any process.

    Attributes:
        options: What the generator is asked for.
        split: One of :data:`SPLITS`.
        index: Number of the game within its split.
    """

    options: GameOptions
    split: str
    index: int

    @property
    def task_id(self) -> str:
        """Readable id, e.g. ``coin_collector:level110:train:00017``."""
        return f"{self.options.challenge}:{self.options.tag}:{self.split}:{self.index:05d}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds to try in turn. Splits draw from ranges that never meet, and so do tasks."""
        base = SPLITS.index(self.split) * ATTEMPTS_LIMIT * TASKS_LIMIT + self.index
        return tuple(base + attempt * TASKS_LIMIT for attempt in range(ATTEMPTS_LIMIT))

    def request(self) -> dict[str, object]:
        """Say to the generator's process what to make.

        Cooking keeps its own recipes for ``valid_unseen``: foods and preparations that training never shows.
        """
        settings: dict[str, OptionValue] = dict(self.options.values)
        if self.options.challenge == "cooking":
            settings["split"] = "test" if self.split == "valid_unseen" else "train"
        return {"challenge": self.options.challenge, "settings": settings, "seeds": list(self.seeds)}

    def digest(self, engine_version: str) -> str:
        """Name the cache entry: all options, the seeds, and the engine's version."""
        key = json.dumps([_FORMAT, engine_version, self.request()], sort_keys=True)
        return hashlib.sha256(key.encode()).hexdigest()[:32]


def read_challenges(challenge: str | Sequence[str]) -> tuple[str, ...]:
    """Read one name, several, or ``"mixture"`` for all.

    Raises:
        UnknownNameError: There is no such challenge.
    """
    if challenge == "mixture":
        return CHALLENGES
    names = (challenge,) if isinstance(challenge, str) else tuple(challenge)
    for name in names:
        if name not in CHALLENGES:
            raise UnknownNameError("TextWorld challenge", str(name), (*CHALLENGES, "mixture"))
    if not names or len(set(names)) != len(names):
        raise UsageError(f"name each challenge once, and at least one; got {list(names)}")
    return names


def read_options(challenge: str, difficulty: str, given: Mapping[str, OptionValue]) -> GameOptions:
    """Lay the given options over the difficulty's preset, and check every one.

    Args:
        challenge: One of :data:`CHALLENGES`.
        difficulty: One of :data:`DIFFICULTIES`.
        given: Options by name, as ``tw-make`` calls them.

    Raises:
        UnknownNameError: The difficulty or an option does not exist.
        UsageError: A value is out of range, or two do not go together.
    """
    if difficulty not in _PRESETS:
        raise UnknownNameError("difficulty", str(difficulty), DIFFICULTIES)
    allowed = _ALLOWED[challenge]
    merged = dict(_PRESETS[difficulty][challenge])
    for name, value in given.items():
        if name not in allowed:
            raise UnknownNameError(f"option of the {challenge} challenge", str(name), allowed)
        if type(value) is not type(allowed[name][0]) or value not in allowed[name]:
            raise UsageError(f"{challenge} option {name!r} must be {_describe(allowed[name])}, got {value!r}")
        merged[name] = value
    if challenge == "cooking":
        _check_recipe(merged, given)
    elif challenge == "coin_collector":
        _check_rooms(int(merged["level"]))
    return GameOptions(challenge, tuple((name, merged[name]) for name in allowed))


def _check_recipe(merged: dict[str, OptionValue], given: Mapping[str, OptionValue]) -> None:
    if "take" not in given:
        merged["take"] = min(int(merged["take"]), int(merged["recipe"]))
    if int(merged["take"]) > int(merged["recipe"]):
        raise UsageError(f"cooking cannot take {merged['take']} of {merged['recipe']} ingredients: lower 'take'")
    if merged["recipe_seed"] and not merged["take"]:
        raise UsageError("cooking option 'recipe_seed' needs 'take' of at least 1")


def _check_rooms(level: int) -> None:
    rooms = ((level - 1) // 100 + 1) * ((level - 1) % 100 + 1)
    if rooms > 100:
        raise UsageError(
            f"coin_collector level {level} has {rooms} rooms and a z8 game holds 100: "
            "choose a level in 1–100, 101–150 or 201–233"
        )


def _describe(allowed: Sequence[OptionValue]) -> str:
    if isinstance(allowed, range):
        return f"an integer from {allowed[0]} to {allowed[-1]}"
    return "one of " + ", ".join(repr(value) for value in allowed)
