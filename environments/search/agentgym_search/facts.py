"""Facts about countries, chemical elements and airports, as three packages state them.

A field is kept where one package alone states it, or where its own entries agree: borders that both sides list,
capitals that one country claims. Facts are of the packages' dates and are not corrected here: what counts is what the
corpus says.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym.errors import InfrastructureError

# Withdrawn from ISO 3166: Burma, Netherlands Antilles, Serbia and Montenegro. Their successors are listed beside them.
_WITHDRAWN = frozenset({"BU", "AN", "CS"})
# countryinfo has codes of ISO 639-1, and some that are codes of countries; only these are taken to be languages.
_LANGUAGES = (
    "am Amharic, ar Arabic, bg Bulgarian, bn Bengali, da Danish, de German, dv Dhivehi, dz Dzongkha, el Greek, "
    "en English, es Spanish, et Estonian, fa Persian, fo Faroese, fr French, hr Croatian, hu Hungarian, "
    "id Indonesian, is Icelandic, it Italian, ja Japanese, ka Georgian, km Khmer, ko Korean, lo Lao, "
    "lt Lithuanian, lv Latvian, mk Macedonian, mn Mongolian, ms Malay, my Burmese, ne Nepali, nl Dutch, "
    "no Norwegian, pl Polish, pt Portuguese, ro Romanian, ru Russian, sk Slovak, sl Slovene, sq Albanian, "
    "sv Swedish, th Thai, tr Turkish, uk Ukrainian, vi Vietnamese, zh Chinese"
)
LANGUAGES: Mapping[str, str] = dict(pair.split() for pair in _LANGUAGES.split(", "))
_WORD = re.compile(r"\w+")
_MANY = (",", ";", "/", " and ", "&", "et al", "Known to", "U of", "Argonne")


@dataclass(frozen=True)
class Country:
    """A country; what is not stated, or not agreed on, is empty.

    Attributes:
        code: ISO 3166, two letters.
        names: Its name, then other accepted spellings.
        capital: Claimed by no other country.
        capital_code: Code of the country whose capital that is in reality: its own, but for fictional facts.
        currency: Code of ISO 4217, where there is only one.
        language: Where there is only one.
        neighbours: Codes of the countries that it borders; ``None`` where the two sides' lists disagree.
    """

    code: str
    names: tuple[str, ...]
    subregion: str
    capital: str
    capital_code: str
    currency: str
    language: str
    demonym: str
    native_name: str
    calling_code: str
    neighbours: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """Its first name."""
        return self.names[0]


@dataclass(frozen=True)
class Element:
    """A chemical element; ``country`` is a country's code if the place of discovery is one country alone."""

    symbol: str
    name: str
    number: int
    discoverers: str
    discoverer: str
    year: str
    place: str
    country: str
    name_origin: str


@dataclass(frozen=True)
class Airport:
    """An airport with a name of its own; ``country`` is a country's code."""

    code: str
    name: str
    city: str
    region: str
    country: str
    elevation_ft: int


@dataclass(frozen=True)
class Facts:
    """All facts, each kind by its code: ISO 3166, chemical symbol, IATA."""

    countries: Mapping[str, Country]
    elements: Mapping[str, Element]
    airports: Mapping[str, Airport]


@functools.cache
def load_facts() -> Facts:
    """Read the packages; once per process.

    Raises:
        InfrastructureError: A package is not installed whole.
    """
    countries = _read_countries()
    return Facts(countries, _read_elements(countries), _read_airports(countries))


def fold(text: str) -> str:
    """Return a text without its diacritics."""
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(sign for sign in parts if not unicodedata.combining(sign)))


def plain_words(text: str) -> list[str]:
    """Return the words of a text without case, diacritics and punctuation."""
    return _WORD.findall(fold(text).lower())


def with_folded(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each followed by its spelling without diacritics, each once."""
    return tuple(dict.fromkeys(spelling for name in names if name for spelling in (name, fold(name))))


def _read_countries() -> dict[str, Country]:
    from countryinfo import CountryInfo

    raw: dict[str, dict[str, Any]] = {}
    claims: dict[str, set[str]] = {}
    for entry in CountryInfo.all().values():
        code = (entry.get("ISO") or {}).get("alpha2")
        if code and code not in _WITHDRAWN:
            claims.setdefault(str(entry.get("capital")), set()).add(code)
        known = raw.get(str(code))
        # Two entries of one code: the one that says more.
        if code and code not in _WITHDRAWN and (known is None or len(entry) > len(known)):
            raw[code] = dict(entry)
    raw = {code: entry for code, entry in sorted(raw.items()) if not set("(,") & set(entry["name"])}
    spelled = Counter(name for entry in raw.values() for name in {entry["name"], *(entry.get("altSpellings") or [])})
    neighbours = _agreed_neighbours(raw)
    return {code: _country(code, entry, claims, spelled, neighbours[code]) for code, entry in raw.items()}


def _country(
    code: str,
    entry: Mapping[str, Any],
    claims: Mapping[str, set[str]],
    spelled: Mapping[str, int],
    neighbours: tuple[str, ...] | None,
) -> Country:
    capital = entry.get("capital")
    alone = isinstance(capital, str) and len(claims[capital]) == 1 and "/" not in capital
    others = [name for name in entry.get("altSpellings") or [] if len(name) > 3 and spelled[name] == 1]
    return Country(
        code=code,
        names=with_folded([entry["name"], *others]),
        subregion=str(entry.get("subregion") or ""),
        capital=str(capital) if alone else "",
        capital_code=code if alone else "",
        currency=_only(entry.get("currencies")),
        language=LANGUAGES.get(_only(entry.get("languages")), ""),
        demonym=str(entry.get("demonym") or ""),
        native_name=str(entry.get("nativeName") or "").strip("\u200e\u200f"),
        calling_code=_only(entry.get("callingCodes")),
        neighbours=neighbours,
    )


def _only(values: Any) -> str:
    return str(values[0]) if isinstance(values, list) and len(values) == 1 else ""


def _agreed_neighbours(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...] | None]:
    by_alpha3 = {entry["ISO"]["alpha3"]: code for code, entry in raw.items()}
    listed = {code: [by_alpha3.get(other, "?") for other in entry.get("borders") or []] for code, entry in raw.items()}
    agreed: dict[str, tuple[str, ...] | None] = {}
    for code, others in listed.items():
        mutual = all(code in listed.get(other, ()) for other in others)
        named = all(code not in theirs or other in others for other, theirs in listed.items())
        agreed[code] = tuple(others) if mutual and named else None
    return agreed


def _read_elements(countries: Mapping[str, Country]) -> dict[str, Element]:
    # The package's own interface reads the same file through an object mapper that takes seconds to import.
    spec = importlib.util.find_spec("mendeleev")
    path = Path(spec.origin).with_name("elements.db") if spec and spec.origin else None
    if path is None or not path.is_file():
        raise InfrastructureError("the package mendeleev is not installed whole: its elements.db is missing")
    columns = "symbol, name, atomic_number, discoverers, discovery_year, discovery_location, name_origin"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        rows = database.execute(f"select {columns} from elements order by atomic_number").fetchall()
    codes = {country.name: code for code, country in countries.items()}
    elements = {}
    for symbol, name, number, discoverers, year, place, origin in rows:
        people = (discoverers or "").strip().rstrip(".")
        alone = "" if any(mark in people for mark in _MANY) else people
        when, where = str(year or ""), str(place or "")
        country = codes.get(where, "")
        elements[symbol] = Element(symbol, name, number, people, alone, when, where, country, str(origin or "").strip())
    return elements


def _read_airports(countries: Mapping[str, Country]) -> dict[str, Airport]:
    import airportsdata

    rows = airportsdata.load("IATA")
    named = Counter(" ".join(plain_words(row["name"])) for row in rows.values())
    return {
        code: Airport(code, row["name"], row["city"], row["subd"], row["country"], round(row["elevation"]))
        for code, row in sorted(rows.items())
        if row["country"] in countries and row["city"] and named[" ".join(plain_words(row["name"]))] == 1
    }
