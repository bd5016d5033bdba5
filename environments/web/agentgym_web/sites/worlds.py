"""Worlds and tasks of all sites: what can be drawn, and which split it belongs to.

The rule of the splits (design): ``train`` and ``valid_seen`` have the same worlds, entities and wordings, but no goal
in common: a goal belongs to ``valid_seen`` if a hash of what it wants, however it is worded, falls into one bucket of
ten. ``valid_unseen`` has worlds of its own, with other goods, brands, members, topics, components and labels, and
wordings that no other split has.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from agentgym.errors import UsageError
from agentgym.task import DrawnIds
from agentgym_web.sites.forum_pages import FORUM
from agentgym_web.sites.forum_tasks import WORDINGS as FORUM_WORDINGS
from agentgym_web.sites.forum_tasks import draw_forum_goal
from agentgym_web.sites.forum_world import build_forum
from agentgym_web.sites.goal import Goal
from agentgym_web.sites.server import Site
from agentgym_web.sites.shop_catalogue import build_shop, make_items
from agentgym_web.sites.shop_pages import SHOP
from agentgym_web.sites.shop_tasks import WORDINGS as SHOP_WORDINGS
from agentgym_web.sites.shop_tasks import draw_shop_goal
from agentgym_web.sites.store import open_memory
from agentgym_web.sites.tracker_pages import TRACKER
from agentgym_web.sites.tracker_tasks import WORDINGS as TRACKER_WORDINGS
from agentgym_web.sites.tracker_tasks import draw_tracker_goal
from agentgym_web.sites.tracker_world import build_tracker
from agentgym_web.sites.webshop_files import read_webshop

SPLITS = ("train", "valid_seen", "valid_unseen")
SITES: dict[str, Site] = {"shop": SHOP, "forum": FORUM, "tracker": TRACKER}
KINDS: dict[str, tuple[str, ...]] = {
    "shop": ("shop_find", *SHOP_WORDINGS),
    "forum": tuple(FORUM_WORDINGS),
    "tracker": tuple(TRACKER_WORDINGS),
}
#: Families that make sense of WebShop's own files, which have no ratings.
WEBSHOP_KINDS = ("shop_find", "shop_cart", "shop_order", "shop_cancel")
WORLDS_PER_SITE = {"shop": 8, "forum": 24, "tracker": 24}
SEEN_BUCKETS = 10
MAX_DRAWS = 1000
ORDERS_BEFORE = 6


@dataclass(frozen=True)
class World:
    """Names a world.

    Attributes:
        site: ``"shop"``, ``"forum"`` or ``"tracker"``.
        group: ``"seen"`` or ``"unseen"``.
        number: Which of them.
        items: Folder of WebShop's files to sell instead of generated goods; empty: generated.
    """

    site: str
    group: str
    number: int
    items: str = ""


@dataclass(frozen=True)
class Challenge:
    """A task, ready to be played: its goal, and the world that it is set in."""

    world: World
    goal: Goal


class TaskIds(DrawnIds):
    """Ids of generated tasks, made when asked for; families take turns.

    Args:
        split: Split.
        length: How many tasks it has.
        kinds: Families.
    """

    def __init__(self, split: str, length: int, kinds: Sequence[str]) -> None:
        super().__init__(length)
        self._split, self._kinds = split, list(kinds)

    def draw(self, position: int) -> str:
        """Return the id at a position."""
        number, turn = divmod(position, len(self._kinds))
        return f"{self._split}/{self._kinds[turn]}/{number}"

    def position(self, task_id: str) -> int:
        """Return where an id stands.

        Raises:
            KeyError: It is no id of this split.
        """
        _, kind, number = (*task_id.split("/"), "", "", "")[:3]
        if kind in self._kinds and number.isdecimal() and len(number) < 10:
            position = int(number) * len(self._kinds) + self._kinds.index(kind)
            if position < self._length and self[position] == task_id:
                return position
        raise KeyError(task_id)


@lru_cache(maxsize=128)
def snapshot_world(world: World) -> bytes:
    """Return a world's database, built once in a process as long as there is room."""
    rows = _build(world)
    snapshot = rows.serialize()
    rows.close()
    return snapshot


def _build(world: World) -> sqlite3.Connection:
    chance = random.Random(f"{world.site}/{world.group}/{world.number}")
    if world.site == "forum":
        return build_forum(world.group, chance)
    if world.site == "tracker":
        return build_tracker(world.group, chance)
    if not world.items:
        return build_shop(make_items(world.group, chance), "you", ORDERS_BEFORE, chance)
    items, spoken = read_webshop(Path(world.items), world.group)
    rows = build_shop(items, "you", ORDERS_BEFORE, chance)
    rows.executemany("INSERT INTO spoken VALUES (?, ?, ?, ?)", spoken)
    rows.commit()
    return rows


def site_of(kind: str) -> str:
    """Return the site of a family."""
    return kind.partition("_")[0]


def draw_challenge(split: str, kind: str, number: int, items: str = "") -> Challenge:
    """Return the task of a split, a family and a number; always the same one.

    Raises:
        UsageError: The user's files have no task of this family and split.
    """
    site, group = site_of(kind), "unseen" if split == "valid_unseen" else "seen"
    for attempt in range(MAX_DRAWS):
        chance = random.Random(f"{split}/{kind}/{number}/{attempt}")
        world = World(site, group, 0 if items else chance.randrange(WORLDS_PER_SITE[site]), items)
        rows = open_memory()
        rows.deserialize(snapshot_world(world))
        goal = _draw(site, kind, rows, group, chance)
        rows.close()
        if goal is None:
            continue
        if group == "seen" and (goal.signature(repr(world)) % SEEN_BUCKETS == 0) != (split == "valid_seen"):
            continue
        return Challenge(world, goal)
    raise UsageError(f"no task of kind {kind!r} and split {split!r} was found in {MAX_DRAWS} draws")


def _draw(site: str, kind: str, rows: sqlite3.Connection, group: str, chance: random.Random) -> Goal | None:
    if site == "shop":
        return draw_shop_goal(kind, rows, group, chance)
    if site == "forum":
        return draw_forum_goal(kind, rows, group, chance)
    return draw_tracker_goal(kind, rows, group, chance)
