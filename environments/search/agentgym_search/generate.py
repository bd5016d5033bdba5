"""Questions of one to three hops over real or fictional facts, in disjoint splits, each made from its id alone.

Which split a question is in (design): one thing in five is held out, by a hash of its code; a capital goes with its
country. ``valid_unseen`` asks about held-out things, in wordings that no other split has. The other two share their
wordings, and ask only where every thing, from the first to the answer, is not held out; of their pairs of family and
first thing one in eight, by a hash, is ``valid_seen``. Fictional worlds are kept apart by names, too: each split has
its own, and what is said above of a thing is true of its name in all of them.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentgym.errors import UnknownNameError, UsageError
from agentgym.task import DrawnIds
from agentgym_search.facts import Facts, load_facts, plain_words
from agentgym_search.fictions import invent_facts
from agentgym_search.index import PassageIndex
from agentgym_search.passages import write_passages
from agentgym_search.question import Hop, Question
from agentgym_search.relations import (
    CAPITALS,
    RELATIONS,
    WORDINGS,
    Relation,
    Thing,
    hash_text,
    is_held_out,
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
REAL = ""  # name of the world that is not fictional
_FRAMES = ("What is {x}?", "Name {x}.", "Please find out {x}.", "I should like to know {x}.")
_SEEN_FRAMES = 2
_UNHEARD = WORDINGS - 1  # the wording that only valid_unseen has
_WORLDS_KEPT = 64  # at some two megabytes each; making one takes a tenth of a second
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


def split_of(facts: Facts, family: str, steps: Sequence[Step]) -> str:
    """Return the split that a question belongs to, or an empty text if none has it."""
    first = steps[0].subject
    if is_held_out(first.sort, first.key):
        return "valid_unseen"
    if any(is_held_out(step.found.sort, step.found.key) for step in steps):
        return ""
    named = facts.countries[first.key].capital_code if first.sort == CAPITALS else first.key
    return "valid_seen" if hash_text(f"{family}|{named}") % 8 == 0 else "train"


def facts_of(world: str) -> Facts:
    """Return the facts of a world; the last ones used are kept."""
    with _LOCK:
        return _read_world(world)


def starts(family: str, split: str, world: str = REAL) -> tuple[str, ...]:
    """Return the codes of what the questions of a family and split start from in a world."""
    with _LOCK:
        return _find_starts(family, split, world)


@functools.lru_cache(maxsize=_WORLDS_KEPT)
def _read_world(world: str) -> Facts:
    return load_facts() if world == REAL else invent_facts(load_facts(), world)


@functools.lru_cache(maxsize=100 * _WORLDS_KEPT)  # codes alone: a few kilobytes
def _find_starts(family: str, split: str, world: str) -> tuple[str, ...]:
    facts = facts_of(world)
    found = []
    for key in keys_of(facts, RELATIONS[FAMILIES[family][0]].sort):
        steps = follow(facts, family, key)
        if steps and split_of(facts, family, steps) == split and not _gives_away(facts, steps):
            found.append(key)
    return tuple(found)


def make_question(family: str, key: str, wording: int, frame: int, world: str = REAL) -> Question:
    """Return a question whose steps lead somewhere.

    Args:
        family: A key of ``FAMILIES``.
        key: Code of what it starts from.
        wording: Which of the three wordings of each phrase.
        frame: Which of the four sentences around it.
        world: Whose facts are asked about.
    """
    facts = facts_of(world)
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
        passage = fact_index(world).find(relation.title(facts, step.subject.key))
        hops.append(Hop((query, again), passage, f"need {again}", step.found.names[0]))
    text = _FRAMES[frame].format(x=said)
    return Question(f"{family}/{key}/{wording}{frame}", family, text, steps[-1].found.names, tuple(hops))


@functools.lru_cache(maxsize=_WORLDS_KEPT)
def _build_index(world: str) -> PassageIndex:
    return PassageIndex(write_passages(facts_of(world)))


def fact_index(world: str = REAL) -> PassageIndex:
    """Return the index over all facts of a world; the last ones used are kept."""
    with _LOCK:
        return _build_index(world)


class FactLibrary:
    """Generated questions, all about the real world, or each about a fictional one, which no other split has.

    Args:
        families: Names of families; by default all.
        tasks_per_split: Number of questions in a split; where a family has fewer, they come again.
        fictions: Number of fictional worlds of each split; 0: the real world serves all splits.

    Raises:
        UnknownNameError: There is no such family.
        UsageError: None is given, or a number is not from 1 (``fictions``: 0) to 99999999.
    """

    splits: tuple[str, ...] = SPLITS

    def __init__(self, families: Sequence[str] | None = None, tasks_per_split: int = 10_000, fictions: int = 0) -> None:
        given = [families] if isinstance(families, str) else list(FAMILIES if families is None else families)
        for family in given:
            if family not in FAMILIES:
                raise UnknownNameError("family of questions", str(family), FAMILIES)
        if not given:
            raise UsageError(f"families is empty; name some of {', '.join(FAMILIES)}")
        if not 1 <= tasks_per_split < 10**8:
            raise UsageError(f"tasks_per_split must be from 1 to 99999999, got {tasks_per_split}")
        if not 0 <= fictions < 10**8:
            raise UsageError(f"fictions must be from 0 to 99999999, got {fictions}")
        self.families = tuple(family for family in FAMILIES if family in given)
        self._length, self._fictions = tasks_per_split, fictions

    def ids(self, split: str) -> Sequence[str]:
        """Return the ids of a split, drawn when asked for."""
        return QuestionIds(split, self._length, self.families, self._fictions)

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
        family, key, style, *_ = question_id.split("/")
        return make_question(family, key, int(style[0]), int(style[1]), _world_of(question_id))

    def index(self, split: str, question_id: str) -> PassageIndex:
        """Return the index over all facts of the question's world."""
        return fact_index(_world_of(question_id))


def _world_of(question_id: str) -> str:
    return "/".join(question_id.split("/")[3:-1])


class QuestionIds(DrawnIds):
    """Ids ``family/code/wording and frame/number``, and before the number a fictional world, if there are any.

    Worlds take turns, and within each the families; the rest is drawn by a hash of the number.

    Raises:
        UsageError: None of the families has a question in this split.
    """

    def __init__(self, split: str, length: int, families: Sequence[str], fictions: int = 0) -> None:
        super().__init__(length)
        self._split, self._given, self._fictions = split, tuple(families), fictions
        self._families_in(f"{split}-0" if fictions else REAL)

    def draw(self, position: int) -> str:
        """Return the id at a position."""
        number = position
        turn, place = divmod(number, max(1, self._fictions))
        world = f"{self._split}-{place}" if self._fictions else REAL
        families = self._families_in(world)
        family = families[turn % len(families)]
        keys = starts(family, self._split, world)
        key = keys[hash_text(f"{self._split}|{family}|{number}") % len(keys)]
        chance = hash_text(f"{self._split}|{family}|{number}|style")
        unseen = self._split == "valid_unseen"
        wording = _UNHEARD if unseen else chance % _UNHEARD
        frame = chance // WORDINGS % 2 + (_SEEN_FRAMES if unseen else 0)
        return "/".join([family, key, f"{wording}{frame}", *([world] if world else []), str(number)])

    def _families_in(self, world: str) -> list[str]:
        families = [family for family in self._given if starts(family, self._split, world)]
        if not families:
            where = f"the split {self._split!r}" + (f", world {world!r}" if world else "")
            raise UsageError(f"none of the families {', '.join(self._given)} has a question in {where}")
        return families


def _gives_away(facts: Facts, steps: Sequence[Step]) -> bool:
    """Tell whether an answer, or what leads to it, stands in the name of what the question starts from."""
    first = steps[0].subject
    asked = {_padded(name) for name in name_thing(facts, first.sort, first.key)}
    return any(_padded(name) in text for step in steps for name in step.found.names for text in asked)


@functools.lru_cache(maxsize=65_536)  # the same countries are reached from thousands of airports
def _padded(name: str) -> str:
    return f" {' '.join(plain_words(name))} "
