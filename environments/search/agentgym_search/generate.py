"""Questions of one to three hops over the facts, in disjoint splits, each made from its id alone.

Which split a question is in (design): one thing in five is held out, by a hash of its code; a capital goes with its
country. ``valid_unseen`` asks about held-out things, in wordings that no other split has. The other two share their
wordings, and ask only where every thing, from the first to the answer, is not held out; of their pairs of family and
first thing one in eight, by a hash, is ``valid_seen``.
"""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from agentgym.errors import UnknownNameError, UsageError
from agentgym_search.facts import Facts, load_facts, plain_words
from agentgym_search.index import PassageIndex
from agentgym_search.passages import write_passages
from agentgym_search.question import Hop, Question
from agentgym_search.relations import (
    CAPITALS,
    COUNTRIES,
    RELATIONS,
    WORDINGS,
    Relation,
    Thing,
    keys_of,
    name_thing,
    thing_of,
)

SPLITS = ("train", "valid_seen", "valid_unseen")
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "country_capital": ("capital",),
    "country_currency": ("currency",),
    "country_language": ("language",),
    "capital_country": ("capital_of",),
    "element_discoverer": ("discoverer",),
    "element_year": ("year",),
    "airport_country": ("airport_country",),
    "airport_city": ("airport_city",),
    "element_country_capital": ("discovered_in", "capital"),
    "element_country_currency": ("discovered_in", "currency"),
    "element_country_language": ("discovered_in", "language"),
    "airport_country_capital": ("airport_country", "capital"),
    "airport_country_currency": ("airport_country", "currency"),
    "airport_country_language": ("airport_country", "language"),
    "capital_country_currency": ("capital_of", "currency"),
    "capital_country_language": ("capital_of", "language"),
    "neighbour_capital": ("neighbour", "capital"),
    "airport_neighbour_capital": ("airport_country", "neighbour", "capital"),
    "airport_neighbour_language": ("airport_country", "neighbour", "language"),
    "capital_neighbour_capital": ("capital_of", "neighbour", "capital"),
    "capital_neighbour_currency": ("capital_of", "neighbour", "currency"),
}
_FRAMES = ("What is {x}?", "Name {x}.", "Please find out {x}.", "I should like to know {x}.")
_SEEN_FRAMES = 2
_UNHEARD = WORDINGS - 1  # the wording that only valid_unseen has
_LOCK = threading.RLock()  # many environments of one process start at once, and wait for one to load the facts


@dataclass(frozen=True)
class Step:
    """A relation, what it starts from, and where it leads."""

    relation: Relation
    subject: Thing
    found: Thing


def follow(facts: Facts, family: str, key: str) -> tuple[Step, ...] | None:
    """Return the steps of a question; ``None`` if they lead nowhere, or not to one thing alone."""
    relations = [RELATIONS[name] for name in FAMILIES[family]]
    thing = thing_of(facts, relations[0].sort, key)
    steps = []
    for relation in relations:
        found = relation.follow(facts, thing.key)
        if found is None:
            return None
        steps.append(Step(relation, thing, found))
        thing = found
    return tuple(steps)


def split_of(family: str, steps: Sequence[Step]) -> str:
    """Return the split that a question belongs to, or an empty text if none has it."""
    first = steps[0].subject
    if _is_held_out(first):
        return "valid_unseen"
    if any(_is_held_out(step.found) for step in steps):
        return ""
    return "valid_seen" if _hash(f"{family}|{first.key}") % 8 == 0 else "train"


def starts(family: str, split: str) -> tuple[str, ...]:
    """Return the codes of what the questions of a family and split start from."""
    with _LOCK:
        return _starts_by_split(family)[split]


@functools.cache
def _starts_by_split(family: str) -> dict[str, tuple[str, ...]]:
    facts = load_facts()
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    for key in keys_of(facts, RELATIONS[FAMILIES[family][0]].sort):
        steps = follow(facts, family, key)
        split = split_of(family, steps) if steps else ""
        if steps and split and not _gives_away(facts, steps):
            found[split].append(key)
    return {split: tuple(keys) for split, keys in found.items()}


def make_question(family: str, key: str, wording: int, frame: int) -> Question:
    """Return a question whose steps lead somewhere.

    Args:
        family: A key of ``FAMILIES``.
        key: Code of what it starts from.
        wording: Which of the three wordings of each phrase.
        frame: Which of the four sentences around it.
    """
    facts = load_facts()
    steps = follow(facts, family, key)
    if steps is None:
        raise UsageError(f"there is no question {family}/{key}: its steps lead nowhere")
    named = name_thing(facts, steps[0].subject.sort, key)[wording]
    said, hops = named, []
    for number, step in enumerate(steps):
        relation, name = step.relation, named.removeprefix("the ") if number == 0 else step.subject.names[0]
        said = relation.phrases[wording].format(x=said)
        query = name if relation.aspect in name.split() else f"{name} {relation.aspect}"
        again = re.sub(r"^the ", "", relation.phrases[0]).format(x=name)
        passage = fact_index().find(relation.title(facts, step.subject.key))
        hops.append(Hop((query, again), passage, f"{relation.name.replace('_', ' ')} {name}"))
    text = _FRAMES[frame].format(x=said)
    return Question(f"{family}/{key}/{wording}{frame}", family, text, steps[-1].found.names, tuple(hops))


@functools.cache
def _build_index() -> PassageIndex:
    return PassageIndex(write_passages(load_facts()))


def fact_index() -> PassageIndex:
    """Return the index over all facts, built once per process."""
    with _LOCK:
        return _build_index()


class FactLibrary:
    """Generated questions; the same corpus serves all splits.

    Args:
        families: Names of families; by default all.
        tasks_per_split: Number of questions in a split; where a family has fewer, they come again.

    Raises:
        UnknownNameError: There is no such family.
        UsageError: None is given, or the number is not from 1 to 99999999.
    """

    splits: tuple[str, ...] = SPLITS

    def __init__(self, families: Sequence[str] | None = None, tasks_per_split: int = 10_000) -> None:
        given = [families] if isinstance(families, str) else list(FAMILIES if families is None else families)
        for family in given:
            if family not in FAMILIES:
                raise UnknownNameError("family of questions", str(family), FAMILIES)
        if not given:
            raise UsageError(f"families is empty; name some of {', '.join(FAMILIES)}")
        if not 1 <= tasks_per_split < 10**8:
            raise UsageError(f"tasks_per_split must be from 1 to 99999999, got {tasks_per_split}")
        self.families = tuple(family for family in FAMILIES if family in given)
        self._length = tasks_per_split

    def ids(self, split: str) -> Sequence[str]:
        """Return the ids of a split, drawn when asked for."""
        return QuestionIds(split, self._length, self.families)

    def position(self, split: str, question_id: str) -> int:
        """Return where an id stands.

        Raises:
            KeyError: The split has no such id.
        """
        number = question_id.rpartition("/")[2]
        ids = self.ids(split)
        if re.fullmatch(r"[0-9]{1,8}", number) and int(number) < len(ids) and ids[int(number)] == question_id:
            return int(number)
        raise KeyError(question_id)

    def question(self, split: str, question_id: str) -> Question:
        """Return the question with an id that the split has."""
        family, key, style, _ = question_id.split("/")
        return make_question(family, key, int(style[0]), int(style[1]))

    def index(self, split: str) -> PassageIndex:
        """Return the index over all facts."""
        return fact_index()


class QuestionIds(Sequence[str]):
    """Ids ``family/code/wording and frame/number``; families take turns, the rest is drawn by a hash of the number.

    Raises:
        UsageError: None of the families has a question in this split.
    """

    def __init__(self, split: str, length: int, families: Sequence[str]) -> None:
        self._split, self._length = split, length
        self._families = [family for family in families if starts(family, split)]
        if not self._families:
            raise UsageError(f"none of the families {', '.join(families)} has a question in the split {split!r}")

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(self._length))]
        if not -self._length <= position < self._length:
            raise IndexError(position)
        number = position % self._length
        family = self._families[number % len(self._families)]
        keys = starts(family, self._split)
        key = keys[_hash(f"{self._split}|{family}|{number}") % len(keys)]
        chance = _hash(f"{self._split}|{family}|{number}|style")
        unseen = self._split == "valid_unseen"
        wording = _UNHEARD if unseen else chance % _UNHEARD
        frame = chance // WORDINGS % 2 + (_SEEN_FRAMES if unseen else 0)
        return f"{family}/{key}/{wording}{frame}/{number}"


def _is_held_out(thing: Thing) -> bool:
    sort = COUNTRIES if thing.sort == CAPITALS else thing.sort
    return bool(sort) and _hash(f"{sort}|{thing.key}") % 5 == 0


def _gives_away(facts: Facts, steps: Sequence[Step]) -> bool:
    """Tell whether an answer, or what leads to it, stands in the name of what the question starts from."""
    first = steps[0].subject
    asked = {_padded(name) for name in name_thing(facts, first.sort, first.key)}
    return any(_padded(name) in text for step in steps for name in step.found.names for text in asked)


@functools.lru_cache(maxsize=65_536)  # the same countries are reached from thousands of airports
def _padded(name: str) -> str:
    return f" {' '.join(plain_words(name))} "


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
