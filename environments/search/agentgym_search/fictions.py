"""Fictional worlds: the names of the real one, under other facts, so that nobody knows an answer by heart (design).

Everything keeps its code and its name; what is said of it is another's. Countries change places, and their neighbours
and regions come along; capitals, cities, discoverers and years move on by themselves; currencies, languages and
calling codes change for others throughout. Each move is one cycle through all there is, so that no country keeps its
capital. A world is named by a text, which decides it in every process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agentgym_search.facts import Airport, Country, Element, Facts
from agentgym_search.relations import COUNTRIES, hash_text, is_held_out

AIRPORTS_SHARE = 12  # one airport in so many: a library of a fifth of the size, of which many fit into memory


def invent_facts(facts: Facts, world: str) -> Facts:
    """Return the facts of a fictional world.

    Args:
        facts: The real ones.
        world: Its name.
    """
    moved = _rotate_countries(facts.countries, f"{world}|place")
    countries = _invent_countries(facts.countries, moved, world)
    return Facts(
        countries, _invent_elements(facts, countries, moved, world), _invent_airports(facts.airports, moved, world)
    )


def rotate(items: Iterable[str], salt: str) -> dict[str, str]:
    """Map each of some different texts to another, in one cycle through all, in an order that the salt decides."""
    order = sorted(items, key=lambda item: hash_text(f"{salt}|{item}"))
    return dict(zip(order, order[1:] + order[:1], strict=True))


def _rotate_countries(codes: Iterable[str], salt: str) -> dict[str, str]:
    """Rotate what is held out and the rest apart, so that the splits hold for names as in the real world."""
    known = list(codes)
    held = {code for code in known if is_held_out(COUNTRIES, code)}
    return {**rotate(held, salt), **rotate(set(known) - held, salt)}


def _invent_countries(real: Mapping[str, Country], moved: Mapping[str, str], world: str) -> dict[str, Country]:
    capitals = _rotate_countries((code for code, country in real.items() if country.capital), f"{world}|capital")
    currencies, languages, calling_codes = (
        {"": "", **rotate({getattr(country, field) for country in real.values()} - {""}, f"{world}|{field}")}
        for field in ("currency", "language", "calling_code")
    )
    invented = {}
    for source, code in moved.items():
        place, seat = real[source], capitals.get(code, "")
        invented[code] = replace(
            real[code],
            subregion=place.subregion,
            capital=real[seat].capital if seat else "",
            capital_code=seat,
            currency=currencies[place.currency],
            language=languages[place.language],
            calling_code=calling_codes[place.calling_code],
            neighbours=None if place.neighbours is None else tuple(moved[other] for other in place.neighbours),
        )
    return {code: invented[code] for code in real}


def _invent_elements(
    facts: Facts, countries: Mapping[str, Country], moved: Mapping[str, str], world: str
) -> dict[str, Element]:
    real = facts.elements
    places = _rename_places(facts, countries, moved, world)
    sources = rotate(real, f"{world}|discovery")
    found = [symbol for symbol, source in sources.items() if real[source].year and real[source].place]
    people, years = rotate(found, f"{world}|discoverer"), rotate(found, f"{world}|year")
    invented = {}
    for symbol, element in real.items():
        source = real[sources[symbol]]
        by = real[sources[people[symbol]]] if symbol in people else source
        when = real[sources[years[symbol]]].year if symbol in years else source.year
        invented[symbol] = replace(
            element,
            discoverers=by.discoverers,
            discoverer=by.discoverer,
            year=when,
            place=places[source.place],
            country=moved.get(source.country, ""),
            name_origin="",  # it tells of the real discovery
        )
    return invented


def _rename_places(
    facts: Facts, countries: Mapping[str, Country], moved: Mapping[str, str], world: str
) -> dict[str, str]:
    """Map places of discovery, some of which are several (``England/France``), to places of the fictional world."""
    codes = {country.name: code for code, country in facts.countries.items()}
    stated = {element.place for element in facts.elements.values()}
    parts = {part for place in stated for part in place.split("/")}
    renamed = {part: countries[moved[codes[part]]].name for part in parts if part in codes}
    renamed |= rotate(parts - set(codes) - {""}, f"{world}|place") | {"": ""}
    return {place: "/".join(renamed[part] for part in place.split("/")) for place in stated}


def _invent_airports(real: Mapping[str, Airport], moved: Mapping[str, str], world: str) -> dict[str, Airport]:
    kept = [code for code in real if hash_text(f"{world}|airport|{code}") % AIRPORTS_SHARE == 0]
    countries, cities = rotate(kept, f"{world}|country"), rotate(kept, f"{world}|city")
    return {
        code: replace(
            real[code],
            city=real[cities[code]].city,
            region=real[cities[code]].region,
            country=moved[real[countries[code]].country],
        )
        for code in kept
    }
