"""How shoppers say what they want.

Design: a grammar whose shares of openings, lengths, colours, sizes, relative clauses and second sentences were set by
counting these in WebShop's human instructions (Yao et al., 2022, arXiv:2207.01206); no sentence of theirs is in it. The
clause on the price is the one that WebShop appends to each instruction.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

#: Openings with weights, and whether an article follows.
OPENINGS: dict[str, tuple[tuple[str, int], ...]] = {
    "seen": (
        ("i am looking for", 30), ("im looking for", 15), ("i would like", 11), ("i need", 22), ("i want", 9),
        ("i want to find", 5), ("i would like to buy", 3), ("i want to buy", 5),
    ),
    "unseen": (
        ("find me", 4), ("show me", 3), ("get me", 3), ("buy me", 3), ("i am interested in", 5), ("id like to find", 3),
        ("can you find me", 3), ("i am searching for", 4), ("please order", 2),
    ),
}  # fmt: skip
#: Attributes that do not stand before the noun as they are: the form before it (or none) and the form after it.
FORMS: dict[str, tuple[str, str]] = {
    "machine wash": ("machine washable", "that i can machine wash"),
    "hand wash": ("hand washable", "that can be hand washed"),
    "polyester spandex": ("polyester spandex", "made of polyester spandex"),
    "sensitive skin": ("", "for sensitive skin"),
    "sensitive teeth": ("", "for sensitive teeth"),
    "dry hair": ("", "for dry hair"),
    "hair growth": ("", "for hair growth"),
    "oral hygiene": ("", "for oral hygiene"),
    "living room": ("", "for my living room"),
    "dining room": ("", "for the dining room"),
    "arch support": ("", "with arch support"),
    "memory foam": ("memory foam", "with memory foam"),
    "rubber sole": ("rubber sole", "with a rubber sole"),
    "leather sole": ("leather sole", "with a leather sole"),
    "ankle strap": ("", "with an ankle strap"),
    "high heel": ("high heel", "with a high heel"),
    "lace closure": ("", "with a lace closure"),
    "button closure": ("", "with a button closure"),
    "drawstring closure": ("", "with a drawstring closure"),
    "stretch fabric": ("stretchy", "made of stretch fabric"),
    "stereo sound": ("", "with stereo sound"),
    "wireless charging": ("", "that allows wireless charging"),
    "tempered glass": ("tempered glass", "with tempered glass"),
    "easy assemble": ("easy to assemble", "that is easy to assemble"),
    "easy clean": ("easy to clean", "that is easy to clean"),
    "easy carry": ("easy to carry", "that is easy to carry"),
    "easy install": ("easy to install", "that is easy to install"),
    "easy apply": ("easy to apply", "that is easy to apply"),
    "tummy control": ("tummy control", "with tummy control"),
    "faux fur": ("faux fur", "with faux fur"),
    "box spring": ("", "for a box spring"),
    "batteries included": ("", "with batteries included"),
    "plug play": ("plug and play", "that is plug and play"),
    "quad core": ("quad core", "with a quad core processor"),
    "core i5": ("core i5", "that has a core i5 processor"),
    "core i7": ("core i7", "that has a core i7 processor"),
    "space saving": ("space saving", "that saves space"),
}
PLURALS = frozenset({"almonds", "jeans", "sandals", "sneakers", "granola bars", "rain boots"})
BEFORE_NOUN = frozenset({"color", "flavor", "scent"})


def word_wish(
    ware: str, attributes: Sequence[str], options: Sequence[tuple[str, str]], group: str, chance: random.Random
) -> str:
    """Return an instruction without its price.

    Args:
        ware: What kind of thing it is.
        attributes: What it must be like.
        options: Wanted values by name of the option.
        group: ``"seen"`` or ``"unseen"``: which openings are used.
        chance: Where the wording is drawn from.
    """
    openings = OPENINGS[group]
    opening = chance.choices([text for text, _ in openings], [weight for _, weight in openings])[0]
    before: list[str] = []
    after: list[str] = []
    later: list[str] = []
    for attribute in attributes:
        front, back = FORMS.get(attribute, (attribute, f"that is {attribute}"))
        if front and chance.random() < 0.75 and len(before) < 2:
            before.append(front)
        elif chance.random() < 0.1:
            later.append(f"it should be {front}" if front else f"it should be one {back}")
        else:
            after.append(back)
    for name, value in options:
        if name in BEFORE_NOUN and chance.random() < 0.5:
            before.append(value)
        elif chance.random() < 0.3:
            later.append(_say_later(name, value, chance))
        else:
            after.append(_say_after(name, value, chance))
    noun = " ".join([*before, ware])
    head = noun if _is_mass(ware) else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    text = f"{opening} {head}{_join(after, chance)}"
    if ware in PLURALS:
        text = text.replace(" that is ", " that are ").replace(" that has ", " that have ")
    if later:
        text += chance.choice((". ", ". ", "; ", ", ")) + " and ".join(later)
    return text


def word_price(text: str, price_usd: float) -> str:
    """Append the highest price as WebShop does."""
    return f"{text}, and price lower than {price_usd:.2f} dollars"


def _is_mass(ware: str) -> bool:
    return ware in PLURALS or ware in ("popcorn", "tea", "shampoo")


def _join(clauses: Sequence[str], chance: random.Random) -> str:
    if len(clauses) < 2 or chance.random() < 0.4:
        return "".join(f" {clause}" for clause in clauses)
    return f" {' '.join(clauses[:-1])} and {clauses[-1]}"


def _say_after(name: str, value: str, chance: random.Random) -> str:
    forms = {
        "color": (f"in {value}", f"that comes in {value}", f"in {value} color", f"with color: {value}"),
        "size": (f"in size {value}", f"in a {value}", f"that is a size {value}", f"with size: {value}"),
        "flavor": (f"in {value} flavor", f"with {value} flavor"),
        "scent": (f"with {value} scent", f"in {value}"),
        "storage": (f"with {value} of storage", f"that has {value}"),
    }.get(name, (f"with {name} {value}",))
    return chance.choice(forms)


def _say_later(name: str, value: str, chance: random.Random) -> str:
    forms = (
        f"the {name} should be {value}", f"i need the {name} to be {value}", f"i would prefer the {value} {name}",
        f"choose the {value} one", f"also {name} {value}",
    )  # fmt: skip
    return chance.choice(forms)
