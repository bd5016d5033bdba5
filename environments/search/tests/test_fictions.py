"""Fictional worlds: the same names, other facts, nothing to know by heart."""

from __future__ import annotations

from collections import Counter

import pytest

from agentgym.errors import UsageError
from agentgym_search.facts import Facts, load_facts
from agentgym_search.fictions import invent_facts, rotate
from agentgym_search.generate import (
    FAMILIES,
    REAL,
    SPLITS,
    FactLibrary,
    _build_index,
    _read_world,
    fact_index,
    facts_of,
    follow,
    make_question,
    starts,
)
from agentgym_search.grading import is_exact
from agentgym_search.relations import RELATIONS, name_thing
from agentgym_search.search_qa import SearchQAEnv

WORLDS = {split: [f"{split}-{number}" for number in range(4)] for split in SPLITS}


def first_names(split: str) -> set[tuple[str, str]]:
    """Families and names of what the questions of a split start from, in some of its worlds."""
    return {
        (family, name_thing(facts_of(world), RELATIONS[path[0]].sort, key)[0])
        for family, path in FAMILIES.items()
        for world in WORLDS[split]
        for key in starts(family, split, world)
    }


def names_on_the_way(split: str) -> set[tuple[str, str]]:
    """Sorts and names of all things that the questions of a split touch."""
    touched = set()
    for world in WORLDS[split]:
        for family in FAMILIES:
            for key in starts(family, split, world):
                steps = follow(facts_of(world), family, key)
                assert steps
                things = [steps[0].subject, *(step.found for step in steps)]
                touched |= {(thing.sort, thing.names[0]) for thing in things if thing.sort}
    return touched


def test_a_rotation_is_one_cycle() -> None:
    letters = [f"letter {number}" for number in range(50)]
    moved = rotate(letters, "salt")
    seen, place = [], letters[0]
    for _ in letters:
        seen.append(place)
        place = moved[place]
    assert sorted(seen) == sorted(letters)
    assert moved == rotate(reversed(letters), "salt") != rotate(letters, "pepper")
    assert rotate([], "salt") == {}


def test_nothing_is_lost_and_no_country_keeps_its_capital() -> None:
    real, invented = load_facts(), invent_facts(load_facts(), "a world")
    for field in ("names", "capital", "subregion", "native_name"):
        before, after = (Counter(getattr(c, field) for c in facts.countries.values()) for facts in (real, invented))
        assert before == after, field
    for code, country in real.countries.items():
        assert country.names == invented.countries[code].names
        assert not country.capital or country.capital != invented.countries[code].capital
    for field in ("currency", "language"):
        known = {code: getattr(country, field) for code, country in real.countries.items() if getattr(country, field)}
        kept = sum(getattr(invented.countries[code], field) == value for code, value in known.items())
        assert kept <= 0.1 * len(known), field
    for code, country in invented.countries.items():
        for other in country.neighbours or ():
            assert code in (invented.countries[other].neighbours or (code,)), "borders have two sides"
    assert sorted(e.year for e in real.elements.values()) == sorted(e.year for e in invented.elements.values())


def test_what_is_said_of_an_element_is_what_is_asked_about_it() -> None:
    def agree(facts: Facts) -> None:
        names = {country.name: code for code, country in facts.countries.items()}
        for element in facts.elements.values():
            assert element.country == names.get(element.place, "")

    agree(load_facts())
    for number in range(20):
        agree(invent_facts(load_facts(), f"world {number}"))


def test_the_same_question_has_another_answer_in_every_world() -> None:
    for family, key in (("country_capital", "FR"), ("country_currency", "JP"), ("element_year", "Ga")):
        worlds = [f"train-{number}" for number in range(40)]
        asked = [make_question(family, key, 0, 0, world) for world in worlds if follow(facts_of(world), family, key)]
        assert {question.text for question in asked} == {make_question(family, key, 0, 0).text}
        answers = Counter(question.answers[0] for question in asked)
        assert len(asked) >= 20
        assert answers.most_common(1)[0][1] <= 0.2 * len(asked), answers
    assert make_question("country_capital", "FR", 0, 0).answers[0] == "Paris"


def test_who_knows_the_real_world_by_heart_knows_nothing() -> None:
    env = SearchQAEnv(families=["country_capital", "country_currency", "capital_country"], fictions=6)
    won = 0
    for task in env.task_set("train")[:300]:
        _, info = env.reset(options={"task_id": task.id})
        family, key, *_ = task.id.split("/")
        real = facts_of(REAL).countries
        if family == "capital_country":
            name = facts_of(task.id.split("/")[3]).countries[key].capital
            known = next(country.name for country in real.values() if country.capital == name)
        else:
            known = real[key].capital if family == "country_capital" else real[key].currency
        won += is_exact(known, info["privileged"]["answers"])
    assert won <= 0.03 * 300


def test_the_expert_answers_in_every_split() -> None:
    env = SearchQAEnv(fictions=5)
    for split in SPLITS:
        lost = {task.id: result for task in env.task_set(split)[:420] if not (result := task.validate()).solved}
        assert len(lost) <= 0.02 * 420, lost


def test_splits_share_no_world_and_names_keep_to_their_splits() -> None:
    library = FactLibrary(fictions=4)
    played = {split: {question.split("/")[3] for question in library.ids(split)[:400]} for split in SPLITS}
    assert played == {split: set(worlds) for split, worlds in WORLDS.items()}
    assert not first_names("train") & first_names("valid_seen")
    on_the_way = names_on_the_way("train") | names_on_the_way("valid_seen")
    held_out = {(RELATIONS[FAMILIES[family][0]].sort, name) for family, name in first_names("valid_unseen")}
    assert held_out
    assert not held_out & on_the_way


def test_ids_say_their_world() -> None:
    library = FactLibrary(fictions=3, tasks_per_split=500)
    ids = library.ids("valid_seen")
    assert len(set(ids[:100])) == 100
    assert list(FactLibrary(fictions=3, tasks_per_split=7).ids("valid_seen")) == ids[:7]
    assert library.position("valid_seen", ids[333]) == 333
    other = ids[333].replace("valid_seen-", "valid_seen-9")
    for wrong in (other, ids[333].replace("valid_seen-", "train-"), FactLibrary().ids("valid_seen")[0]):
        with pytest.raises(KeyError):
            library.position("valid_seen", wrong)
    for number in (1, 2):
        world = ids[number].split("/")[3]
        assert library.index("valid_seen", ids[number]) is fact_index(world)
        assert library.question("valid_seen", ids[number]).hops[0].passage in fact_index(world).passages


def test_kept_worlds_are_bounded() -> None:
    for cache in (_build_index, _read_world):
        assert cache.cache_info().maxsize == 64


def test_fictions_go_with_generated_questions(tmp_path: object) -> None:
    with pytest.raises(UsageError, match="fictions"):
        SearchQAEnv(data=str(tmp_path), fictions=3)
