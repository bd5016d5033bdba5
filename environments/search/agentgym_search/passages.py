"""Passages that state the facts in plain sentences, in one of several wordings each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentgym_search.facts import Airport, Country, Element, Facts

COUNTRY, BORDERS, SOCIETY, ELEMENT, DISCOVERY = "country", "borders", "society", "element", "discovery"


@dataclass(frozen=True)
class Passage:
    """A titled piece of text: what a search finds."""

    title: str
    text: str

    def show(self, limit: int) -> str:
        """Return title and text on one line of at most ``limit`` characters."""
        line = " ".join(f"{self.title}: {self.text}".split())
        return line if len(line) <= limit else f"{line[: limit - 1]}…"


def write_passages(facts: Facts) -> list[Passage]:
    """Return the passages of all facts: three for a country, two for an element, one for an airport."""
    passages = [passage for country in facts.countries.values() for passage in _about_country(country, facts)]
    passages += [passage for element in facts.elements.values() for passage in _about_element(element)]
    return passages + [_about_airport(airport, facts) for airport in facts.airports.values()]


def title_of(subject: Country | Element, aspect: str) -> str:
    """Title of the passage on one aspect of a country or an element, e.g. ``Gallium (discovery)``."""
    return f"{subject.name} ({aspect})"


def airport_title(airport: Airport) -> str:
    """Title of the passage on an airport."""
    return f"{airport.name} ({airport.code})"


def _about_country(country: Country, facts: Facts) -> Iterator[Passage]:
    name = country.name
    lines = [_word(name, "place", [f"{name} is a country or territory.", f"{name} is on the map of the world."])]
    if country.subregion:
        forms = [f"{name} lies in {country.subregion}.", f"{name} is part of {country.subregion}."]
        lines[0] = _word(name, "place", forms)
    if country.capital:
        lines.append(
            _word(name, "capital", [f"Its capital is {country.capital}.", f"{country.capital} is the capital city."])
        )
    if country.native_name and country.native_name != name:
        lines.append(f"At home it is called {country.native_name}.")
    yield Passage(title_of(country, COUNTRY), " ".join(lines))
    if country.neighbours:
        others = [facts.countries[code].name for code in country.neighbours]
        yield Passage(title_of(country, BORDERS), _borders(name, others))
    lines = []
    if country.currency:
        code = country.currency
        lines.append(_word(name, "currency", [f"Its currency is {code}.", f"People pay in {code}."]))
    if country.language:
        tongue = country.language
        lines.append(_word(name, "language", [f"Its language is {tongue}.", f"People speak {tongue}."]))
    if country.demonym:
        lines.append(f"A person from {name} is called {country.demonym}.")
    if country.calling_code:
        lines.append(f"The calling code is {country.calling_code}.")
    if lines:
        yield Passage(title_of(country, SOCIETY), " ".join(lines))


def _borders(name: str, others: Sequence[str]) -> str:
    if len(others) == 1:
        return _word(name, "borders", [f"{name} borders only {others[0]}.", f"{others[0]} is its only neighbour."])
    listed = f"{', '.join(others[:-1])} and {others[-1]}"
    return _word(name, "borders", [f"{name} borders {listed}.", f"Its neighbours are {listed}."])


def _about_element(element: Element) -> Iterator[Passage]:
    name = element.name
    origin = f" Its name: {element.name_origin}" if element.name_origin else ""
    forms = [
        f"{name} is the chemical element with the symbol {element.symbol} and the atomic number {element.number}.",
        f"The element {name} has the symbol {element.symbol}. Its atomic number is {element.number}.",
    ]
    yield Passage(title_of(element, ELEMENT), _word(name, "symbol", forms) + origin)
    if not (element.year and element.place):
        yield Passage(title_of(element, DISCOVERY), f"{name} has been known since antiquity.")
        return
    who, year, place = element.discoverers, element.year, element.place
    forms = [
        f"{name} was discovered in {place} in the year {year} by {who}.",
        f"In the year {year} {name} was found in {place}. The discovery is due to {who}.",
    ]
    yield Passage(title_of(element, DISCOVERY), _word(name, "discovery", forms))


def _about_airport(airport: Airport, facts: Facts) -> Passage:
    country = facts.countries[airport.country].name
    region = f" in {airport.region}" if airport.region and airport.region not in (airport.city, country) else ""
    forms = [
        f"{airport.name}, code {airport.code}, serves the city of {airport.city}{region}. It lies in {country}.",
        f"The airport {airport.code} is at {airport.city}{region}, in the country {country}.",
    ]
    height = f" It is {airport.elevation_ft} feet above the sea."
    return Passage(airport_title(airport), _word(airport.code, "place", forms) + height)


def _word(subject: str, fact: str, forms: Sequence[str]) -> str:
    """Choose the wording of a fact: the same in every process, another for the next subject."""
    digest = hashlib.sha256(f"{subject}|{fact}".encode()).digest()
    return forms[digest[0] % len(forms)]
