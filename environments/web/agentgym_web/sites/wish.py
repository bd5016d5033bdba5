"""What a shopper wants, and WebShop's score of what was bought instead.

Yao et al., "WebShop" (2022, arXiv:2207.01206), section 3.1, equation 1, with wanted attributes ``U_att``, options
``U_opt`` and highest price ``u_price``, and those of the product ``y`` that was bought::

    r = r_type · (|U_att ∩ Y_att| + |U_opt ∩ Y_opt| + 1[y_price <= u_price]) / (|U_att| + |U_opt| + 1)

    r_type = 0    if TextMatch(y, y*) = 0
             0.1  if TextMatch(y, y*) < 0.1
             0.5  if TextMatch(y, y*) <= 0.2 and neither query nor category matches
             1    otherwise

TextMatch is the share of the nouns of the wanted product's title that the bought one's title has, too; categories match
if two of their path's steps are shared. An attribute matches one of the product's if their token set ratio is above 85,
or if it stands in the product's text; sizes match exactly, other options by the same ratio.

Design, where the paper's own programme cannot be followed: nouns are the words of a title without numbers and function
words (no tagger is loaded); an option counts once for each that was wanted, so that r never exceeds 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rapidfuzz.fuzz import token_set_ratio

LIKE = 85
FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "each",
        "easy",
        "for",
        "from",
        "good",
        "great",
        "has",
        "in",
        "into",
        "is",
        "it",
        "its",
        "more",
        "of",
        "off",
        "on",
        "or",
        "our",
        "out",
        "pack",
        "per",
        "set",
        "so",
        "the",
        "this",
        "to",
        "up",
        "very",
        "with",
        "without",
        "you",
        "your",
    ]
)
EXACT_OPTIONS = frozenset({"size"})


@dataclass(frozen=True)
class Product:
    """What the score needs to know of a product.

    Attributes:
        id: Its number, an ASIN in WebShop's files.
        title: Name.
        query: The search it was found with; stands for its type.
        category: Path of categories, from the widest, separated by ``›``.
        text: Title, bullet points and description.
        attributes: Short phrases, e.g. ``"machine wash"``.
    """

    id: str
    title: str
    query: str
    category: str
    text: str
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class Wish:
    """What a shopper wants.

    Attributes:
        product: The product that the wish was made from.
        attributes: What it must be like; never empty in a generated wish.
        options: Wanted value by name of the option.
        price_usd: Highest price of one, inclusive.
    """

    product: Product
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    price_usd: float


def score_purchase(wish: Wish, bought: Product, options: Mapping[str, str], price_usd: float) -> float:
    """Return WebShop's score of a purchase in [0, 1]; see the module.

    Args:
        wish: What was wanted.
        bought: What was bought.
        options: Value that was chosen by name of the option.
        price_usd: Price of one.
    """
    met = sum(has_attribute(bought, attribute) for attribute in wish.attributes)
    met += sum(has_option(name, value, options) for name, value in wish.options)
    met += price_usd <= wish.price_usd
    return score_type(wish.product, bought) * met / (len(wish.attributes) + len(wish.options) + 1)


def score_type(wanted: Product, bought: Product) -> float:
    """Return r_type: 0, 0.1, 0.5 or 1."""
    nouns = find_nouns(wanted.title)
    match = len(nouns & find_nouns(bought.title)) / len(nouns) if nouns else 0.2
    if match < 0.1:
        return 0.1 if match else 0.0
    shared = set(split_category(wanted.category)) & set(split_category(bought.category))
    return 1.0 if match > 0.2 or wanted.query == bought.query or len(shared) >= 2 else 0.5


def has_attribute(product: Product, attribute: str) -> bool:
    """Tell whether a product has an attribute."""
    return attribute in product.text.lower() or any(
        token_set_ratio(attribute, own) > LIKE for own in product.attributes
    )


def has_option(name: str, value: str, chosen: Mapping[str, str]) -> bool:
    """Tell whether the wanted value of an option was chosen, for whichever option."""
    value = value.lower()
    if name.lower() in EXACT_OPTIONS:
        return any(value == own.lower() for own in chosen.values())
    return any(token_set_ratio(value, own.lower()) > LIKE for own in chosen.values())


def find_nouns(title: str) -> frozenset[str]:
    """Return the words of a title that name something."""
    words = re.findall(r"[^\W\d_]{2,}", title.lower())
    return frozenset(word for word in words if word not in FUNCTION_WORDS)


def split_category(path: str) -> list[str]:
    """Return the steps of a category's path."""
    return [step.strip() for step in path.split("›") if step.strip()]
