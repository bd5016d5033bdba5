"""What leads from one thing to the next: the steps that questions are made of, and how they are said.

A step is kept only where it leads to one thing alone, so that every question has one answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agentgym_search.facts import Airport, Country, Element, Facts, with_folded
from agentgym_search.passages import BORDERS, COUNTRY, DISCOVERY, SOCIETY, airport_title, title_of

COUNTRIES, CAPITALS, ELEMENTS, AIRPORTS = "country", "capital", "element", "airport"
WORDINGS = 3  # of each phrase; the last is only heard in valid_unseen


@dataclass(frozen=True)
class Thing:
    """A country, a capital (by the code of its country), an element, an airport, or a mere value.

    Attributes:
        sort: Which of these; empty for a value.
        key: Its code; empty for a value.
        names: What it is called, the usual name first.
    """

    sort: str
    key: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Relation:
    """A step from one thing to the one thing that it leads to.

    Attributes:
        name: E.g. ``capital``.
        sort: Sort of what it starts from.
        phrases: Three ways to say it of ``{x}``.
        aspect: Word that, beside the subject's name, finds the passage that states it.
        follow: Returns where it leads; ``None`` if nowhere, or not to one thing alone.
        title: Returns the title of the passage that states it.
    """

    name: str
    sort: str
    phrases: tuple[str, str, str]
    aspect: str
    follow: Callable[[Facts, str], Thing | None]
    title: Callable[[Facts, str], str]


def hash_text(text: str) -> int:
    """Return a number that a text has in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def is_held_out(sort: str, key: str) -> bool:
    """Tell whether a thing is only asked about in ``valid_unseen``; mere values never are (design)."""
    return bool(sort) and hash_text(f"{COUNTRIES if sort == CAPITALS else sort}|{key}") % 5 == 0


def name_thing(facts: Facts, sort: str, key: str) -> tuple[str, str, str]:
    """Return three ways to name what a question starts from, none of which names anything else."""
    if sort == AIRPORTS:
        return facts.airports[key].name, f"the airport {key}", f"the airfield with the code {key}"
    if sort == ELEMENTS:
        name = facts.elements[key].name
        return name, f"the element {name}", f"the chemical substance {name}"
    country = facts.countries[key]
    name = country.capital if sort == CAPITALS else country.name
    return name, name, name


def keys_of(facts: Facts, sort: str) -> list[str]:
    """Return the codes of everything of a sort, in order."""
    if sort == AIRPORTS:
        return list(facts.airports)
    if sort == ELEMENTS:
        return list(facts.elements)
    return [code for code, country in facts.countries.items() if sort == COUNTRIES or country.capital]


def thing_of(facts: Facts, sort: str, key: str) -> Thing:
    """Return what a question may start from."""
    return Thing(sort, key, with_folded([name_thing(facts, sort, key)[0]]))


def _country(facts: Facts, code: str) -> Thing | None:
    return Thing(COUNTRIES, code, facts.countries[code].names) if code else None


def _value(*names: str) -> Thing | None:
    return Thing("", "", with_folded(names)) if all(names) else None


def _capital(facts: Facts, code: str) -> Thing | None:
    capital = facts.countries[code].capital
    return Thing(CAPITALS, code, with_folded([capital])) if capital else None


def _neighbour(facts: Facts, code: str) -> Thing | None:
    neighbours = facts.countries[code].neighbours
    return _country(facts, neighbours[0]) if neighbours is not None and len(neighbours) == 1 else None


def _about(aspect: str) -> Callable[[Facts, str], str]:
    def title(facts: Facts, key: str) -> str:
        subject: Country | Element = facts.elements[key] if aspect == DISCOVERY else facts.countries[key]
        return title_of(subject, aspect)

    return title


def _airport(facts: Facts, code: str) -> Airport:
    return facts.airports[code]


RELATIONS: Mapping[str, Relation] = {
    relation.name: relation
    for relation in (
        Relation(
            "capital",
            COUNTRIES,
            ("the capital of {x}", "the capital city of {x}", "the seat of government of {x}"),
            COUNTRY,
            _capital,
            _about(COUNTRY),
        ),
        Relation(
            "capital_of",
            CAPITALS,
            ("the country with the capital {x}", "the country whose capital is {x}", "the state governed from {x}"),
            "capital",
            _country,
            _about(COUNTRY),
        ),
        Relation(
            "currency",
            COUNTRIES,
            ("the currency of {x}", "the currency used in {x}", "the code of what people pay with in {x}"),
            SOCIETY,
            lambda facts, code: _value(facts.countries[code].currency),
            _about(SOCIETY),
        ),
        Relation(
            "language",
            COUNTRIES,
            ("the language of {x}", "the language spoken in {x}", "the tongue that people talk in {x}"),
            SOCIETY,
            lambda facts, code: _value(facts.countries[code].language),
            _about(SOCIETY),
        ),
        Relation(
            "neighbour",
            COUNTRIES,
            ("the only neighbour of {x}", "the only country that borders {x}", "the sole state beside {x}"),
            BORDERS,
            _neighbour,
            _about(BORDERS),
        ),
        Relation(
            "discovered_in",
            ELEMENTS,
            (
                "the country where {x} was discovered",
                "the country of the discovery of {x}",
                "the land that gave us {x}",
            ),
            DISCOVERY,
            lambda facts, symbol: _country(facts, facts.elements[symbol].country),
            _about(DISCOVERY),
        ),
        Relation(
            "discoverer",
            ELEMENTS,
            ("the discoverer of {x}", "the name of who discovered {x}", "whoever is credited with finding {x}"),
            DISCOVERY,
            lambda facts, symbol: _value(facts.elements[symbol].discoverer),
            _about(DISCOVERY),
        ),
        Relation(
            "year",
            ELEMENTS,
            ("the year of the discovery of {x}", "the year when {x} was discovered", "the date when {x} became known"),
            DISCOVERY,
            lambda facts, symbol: _value(facts.elements[symbol].year),
            _about(DISCOVERY),
        ),
        Relation(
            "airport_country",
            AIRPORTS,
            ("the country of {x}", "the country where {x} lies", "the state in which {x} is situated"),
            "airport",
            lambda facts, code: _country(facts, _airport(facts, code).country),
            lambda facts, code: airport_title(_airport(facts, code)),
        ),
        Relation(
            "airport_city",
            AIRPORTS,
            ("the city of {x}", "the city that {x} serves", "the town to which {x} belongs"),
            "airport",
            lambda facts, code: _value(_airport(facts, code).city),
            lambda facts, code: airport_title(_airport(facts, code)),
        ),
    )
}
