"""Generated questions: one answer each, disjoint splits, the same in every process."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator

import pytest

from agentgym.errors import UnknownNameError, UsageError
from agentgym_search.facts import Facts, load_facts
from agentgym_search.generate import (
    FAMILIES,
    REAL,
    SPLITS,
    FactLibrary,
    fact_index,
    facts_of,
    follow,
    make_question,
    starts,
)
from agentgym_search.grading import split_answer
from agentgym_search.relations import RELATIONS, keys_of, name_thing

PAIRS = [(family, split) for family in FAMILIES for split in SPLITS]


def triples(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """All facts by their names, as a reader of the corpus would note them."""
    for country in facts.countries.values():
        if country.capital:
            yield country.name, "capital", country.capital
            yield country.capital, "capital_of", country.name
        if country.currency:
            yield country.name, "currency", country.currency
        if country.language:
            yield country.name, "language", country.language
        if len(country.neighbours or ()) == 1:
            yield country.name, "neighbour", facts.countries[country.neighbours[0]].name
    for element in facts.elements.values():
        if element.country:
            yield element.name, "discovered_in", facts.countries[element.country].name
        if element.discoverer:
            yield element.name, "discoverer", element.discoverer
        if element.year:
            yield element.name, "year", element.year
    for airport in facts.airports.values():
        yield airport.name, "airport_country", facts.countries[airport.country].name
        yield airport.name, "airport_city", airport.city


@pytest.mark.parametrize(("world", "at_least"), [(REAL, 20_000), ("train-3", 1500), ("valid_unseen-0", 1500)])
def test_every_question_has_one_answer(world: str, at_least: int) -> None:
    """By enumeration: following names, not codes, through all facts leads to one thing at every hop."""
    facts = facts_of(world)
    leads: dict[tuple[str, str], set[str]] = defaultdict(set)
    for subject, relation, found in triples(facts):
        leads[relation, subject].add(found)
    asked = 0
    for family, split in PAIRS:
        path = FAMILIES[family]
        for key in starts(family, split, world):
            reached = {name_thing(facts, RELATIONS[path[0]].sort, key)[0]}
            for relation in path:
                reached = set().union(*(leads[relation, name] for name in reached))
                assert len(reached) == 1, (family, key, relation, reached)
            steps = follow(facts, family, key)
            assert steps is not None
            assert reached == {steps[-1].found.names[0]}
            asked += 1
    assert asked > at_least


def test_names_of_what_is_asked_about_are_names_of_one_thing() -> None:
    facts = load_facts()
    for sort in ("country", "capital", "element", "airport"):
        for form in range(3):
            names = [" ".join(split_answer(name_thing(facts, sort, key)[form])) for key in keys_of(facts, sort)]
            assert len(names) == len(set(names)), sort


def test_equal_texts_have_equal_answers() -> None:
    facts = load_facts()
    answers: dict[str, tuple[str, ...]] = {}
    for family, split in PAIRS:
        for key in starts(family, split)[:60]:
            for wording, frame in itertools.product(range(3), range(4)):
                question = make_question(family, key, wording, frame)
                assert answers.setdefault(question.text, question.answers) == question.answers
    assert len(answers) > 5000
    assert facts is load_facts(), "facts are read once per process"


@pytest.mark.parametrize("world", [REAL, "valid_seen-1"])
def test_the_answer_stands_in_the_last_passage_and_never_in_the_question(world: str) -> None:
    for family, split in PAIRS:
        for key in starts(family, split, world)[:40]:
            question = make_question(family, key, 0, 0, world)
            assert all(hop.found in hop.passage.text for hop in question.hops)
            passage = question.hops[-1].passage
            assert question.answers[0] in passage.text
            assert len(question.hops) == len(FAMILIES[family])
            asked = f" {' '.join(split_answer(question.text))} "
            given = [name for name in question.answers if f" {' '.join(split_answer(name))} " in asked]
            assert not given, (question.text, given)


def test_splits_share_no_question_and_valid_unseen_neither_things_nor_wordings() -> None:
    facts = load_facts()
    asked = {split: {(family, key) for family in FAMILIES for key in starts(family, split)} for split in SPLITS}
    assert not asked["train"] & asked["valid_seen"]
    touched: dict[str, set[tuple[str, str]]] = {split: set() for split in SPLITS}
    for split, pairs in asked.items():
        for family, key in pairs:
            steps = follow(facts, family, key)
            assert steps
            things = [steps[0].subject] if split == "valid_unseen" else [s.subject for s in steps] + [steps[-1].found]
            # A capital is held out with its country.
            touched[split] |= {(thing.sort.replace("capital", "country"), thing.key) for thing in things if thing.sort}
    assert not touched["valid_unseen"] & (touched["train"] | touched["valid_seen"])
    assert all(asked.values())
    library = FactLibrary()
    styles = {split: {q.split("/")[2] for q in library.ids(split)[:500]} for split in SPLITS}
    assert styles["train"] == styles["valid_seen"] == {"00", "01", "10", "11"}
    assert styles["valid_unseen"] == {"22", "23"}
    phrases = [relation.phrases for relation in RELATIONS.values()]
    assert all(len(set(three)) == 3 for three in phrases)


def test_split_sizes_are_free_and_short_ones_begin_long_ones() -> None:
    short, long = FactLibrary(tasks_per_split=7), FactLibrary(tasks_per_split=50_000)
    for split in SPLITS:
        assert len(long.ids(split)) == 50_000
        assert list(short.ids(split)) == long.ids(split)[:7]
        last = long.ids(split)[-1]
        assert long.position(split, last) == 49_999
        assert long.question(split, last).answers
    for wrong in ("", "country_capital", "country_capital/FR/00/3", f"{last[:-1]}x", "a/b/c/d"):
        with pytest.raises(KeyError):
            long.position("train", wrong)


def test_ids_and_texts_are_the_same_in_another_process() -> None:
    program = (
        "import hashlib; from agentgym_search.generate import *; libraries = [FactLibrary(), FactLibrary(fictions=2)];"
        "said = [f'{i} {l.question(s, i)}' for l in libraries for s in SPLITS for i in l.ids(s)[:120]];"
        "found = [fact_index().search(q, 5) for q in ('France country', 'airport of the capital', 'in in in')];"
        "print(hashlib.sha256(repr((said, found)).encode()).hexdigest())"
    )
    digests = set()
    for hash_seed in ("0", "77"):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        digests.add(ran.stdout.strip())
    libraries = [FactLibrary(), FactLibrary(fictions=2)]
    said = [f"{i} {library.question(s, i)}" for library in libraries for s in SPLITS for i in library.ids(s)[:120]]
    found = [fact_index().search(q, 5) for q in ("France country", "airport of the capital", "in in in")]
    assert digests == {hashlib.sha256(repr((said, found)).encode()).hexdigest()}


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(UnknownNameError, match="country_capital"):
        FactLibrary(["country_capitol"])
    with pytest.raises(UsageError, match="empty"):
        FactLibrary([])
    with pytest.raises(UsageError, match="tasks_per_split"):
        FactLibrary(tasks_per_split=0)
    with pytest.raises(UsageError, match="fictions"):
        FactLibrary(fictions=-1)


def test_facts_that_sources_disagree_on_are_left_out() -> None:
    facts = load_facts()
    assert facts.countries["IL"].capital == "", "two countries claim Jerusalem"
    assert facts.countries["IN"].neighbours is None, "Afghanistan's entry does not list India back"
    assert facts.elements["He"].country == "", "found in two countries"
    assert facts.elements["Au"].discoverer == ""
    for code, country in facts.countries.items():
        for other in country.neighbours or ():
            assert code in [back for back in (facts.countries[other].neighbours or (code,))]
