"""What a task wants, how far a database is from it, and the errands that lead there."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from agentgym_web.sites.store import Changes, Fact
from agentgym_web.sites.wish import Wish


@dataclass(frozen=True)
class Step:
    """One thing to do on a page, named as a reader of the accessibility tree would name it.

    Attributes:
        act: ``click``, ``fill`` a text field or ``choose`` an entry of a list.
        role: Role of the element, e.g. ``"button"``.
        name: Its accessible name.
        value: Text or entry.
    """

    act: Literal["click", "fill", "choose"]
    role: str
    name: str
    value: str = ""


@dataclass(frozen=True)
class Errand:
    """A way from any page to some facts; the expert walks it again until they are there.

    Attributes:
        steps: What to do, beginning with a link that every page has.
        added: Facts that are new once it is done.
        removed: Facts that are gone once it is done.
    """

    steps: tuple[Step, ...]
    added: tuple[Fact, ...] = ()
    removed: tuple[Fact, ...] = ()

    def is_done(self, changes: Changes) -> bool:
        """Tell whether its facts are there."""
        return Counter(self.added) <= changes.added and Counter(self.removed) <= changes.removed


@dataclass(frozen=True)
class Goal:
    """What a task wants.

    Attributes:
        kind: Family, e.g. ``"forum_reply"``.
        instruction: What the agent is told.
        errands: How to get there.
        added: Facts that are to be new at the end, each as often as it stands here.
        removed: Facts that are to be gone.
        wish: For ``shop_find``, what is to be bought; it is graded instead of the facts.
    """

    kind: str
    instruction: str
    errands: tuple[Errand, ...]
    added: tuple[Fact, ...] = ()
    removed: tuple[Fact, ...] = ()
    wish: Wish | None = None

    def signature(self, world: str) -> int:
        """Return a number that is the same for goals that want the same of the same world, however they are worded."""
        wanted = repr((self.kind, world, sorted(self.added, key=repr), sorted(self.removed, key=repr), self.wish))
        return int.from_bytes(hashlib.sha256(wanted.encode()).digest()[:8], "big")


def score_changes(goal: Goal, changes: Changes) -> float:
    """Return how much of what changed was wanted, and how much of what was wanted changed, in [0, 1].

    Design: the Jaccard index of the wanted and the actual differences between the database at the start and now, as
    multisets of facts. It is 1 if and only if all was done that was asked and nothing else, 0 if nothing was done, and
    every side effect lowers it.
    """
    wanted = Counter({("+", *fact): n for fact, n in Counter(goal.added).items()})
    wanted.update({("-", *fact): n for fact, n in Counter(goal.removed).items()})
    actual = Counter({("+", *fact): n for fact, n in changes.added.items()})
    actual.update({("-", *fact): n for fact, n in changes.removed.items()})
    return (wanted & actual).total() / (wanted | actual).total()
