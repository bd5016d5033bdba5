"""WebShop's own catalogue, for who has it: https://github.com/princeton-nlp/WebShop, ``setup.sh`` fetches it.

A folder with these files, of which the names may go on before ``.json`` (as ``items_shuffle_1000.json``)::

    items_shuffle*.json    [{asin, name, query, category, product_category, small_description, full_description,
                             pricing, customization_options: {option: [{value, …}, …]}, …}, …]
    items_ins*.json        {asin: {attributes: [phrase, …], …}}
    items_human_ins*.json  {asin: [{instruction, instruction_attributes, instruction_options}, …]}; may be absent

With the last file, ``shop_find`` is played with these instructions, else with generated ones. Prices are in US dollars;
of a range the lowest is taken, and 100 where there is none, as WebShop does for the latter. Products that were found by
searches of which the hash falls into one bucket of five are sold in ``valid_unseen`` and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agentgym.errors import UsageError
from agentgym_web.sites.shop_catalogue import Item
from agentgym_web.sites.wish import Product

UNSEEN_BUCKETS = 5
PRICE_USD = 100.0

#: Product, words, attributes and options, each as the table ``spoken`` has it.
Spoken = tuple[str, str, str, str]


def read_webshop(folder: Path, group: str) -> tuple[list[Item], list[Spoken]]:
    """Return a group's products, and what people said that they want of them.

    Args:
        folder: Where the files are.
        group: ``"seen"`` or ``"unseen"``.

    Raises:
        UsageError: A file is absent or not laid out as the module says, or the group has no product.
    """
    products, attributes = _read(folder, "items_shuffle"), _read(folder, "items_ins")
    people = _read(folder, "items_human_ins") if find_file(folder, "items_human_ins") else {}
    try:
        items = {
            item.product.id: item
            for item in (_read_item(entry, attributes) for entry in products)
            if _is_in(item, group)
        }
        spoken = [line for item in items.values() for line in _read_spoken(item, people.get(item.product.id, []))]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"{folder} does not hold WebShop's files as they are known here: {error!r}") from error
    if not items:
        raise UsageError(f"{folder} has no products for the {group} splits")
    return list(items.values()), spoken


def find_file(folder: Path, stem: str) -> Path | None:
    """Return the file of which the name begins so, the shortest name first."""
    found = sorted(folder.glob(f"{stem}*.json"), key=lambda path: (len(path.name), path.name))
    return found[0] if found else None


def _read(folder: Path, stem: str) -> Any:
    path = find_file(folder, stem)
    if path is None:
        raise UsageError(f"{folder} has no {stem}*.json; see agentgym_web.sites.webshop_files for the layout")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error


def _is_in(item: Item, group: str) -> bool:
    unseen = hashlib.sha256(item.product.query.encode()).digest()[0] % UNSEEN_BUCKETS == 0
    return unseen == (group == "unseen")


def _read_item(entry: Mapping[str, Any], attributes: Mapping[str, Any]) -> Item:
    asin, title = str(entry["asin"]), str(entry["name"])
    bullets = entry.get("small_description") or []
    bullets = tuple(str(bullet) for bullet in (bullets if isinstance(bullets, list) else [bullets]))
    description = str(entry.get("full_description") or "")
    text = " ".join((title, *bullets, description))
    own = tuple(str(attribute) for attribute in attributes.get(asin, {}).get("attributes", ()))
    product = Product(asin, title, str(entry["query"]).strip().lower(), str(entry["product_category"]), text, own)
    prices = [
        float(price.replace(",", "")) for price in re.findall(r"\d[\d,]*(?:\.\d+)?", str(entry.get("pricing") or ""))
    ]
    options = tuple(
        (str(name).lower(), tuple(dict.fromkeys(_tidy_value(value["value"]) for value in values)))
        for name, values in (entry.get("customization_options") or {}).items()
        if values
    )
    return Item(product, "", min(prices, default=PRICE_USD), 0.0, description, bullets, options)


def _tidy_value(value: str) -> str:
    return value.strip().replace("/", " | ").lower()


def _read_spoken(item: Item, wishes: list[Mapping[str, Any]]) -> Iterator[Spoken]:
    for wish in wishes:
        if not wish["instruction_attributes"]:
            continue  # WebShop leaves these out, too
        options = wish["instruction_options"]
        # The released file lists values without the names of their options.
        pairs = (
            list(options.items()) if isinstance(options, Mapping) else [(_name_of(item, one), one) for one in options]
        )
        words = str(wish["instruction"]).strip(".")
        yield item.product.id, words, json.dumps(wish["instruction_attributes"]), json.dumps(pairs)


def _name_of(item: Item, value: str) -> str:
    return next((name for name, values in item.options if _tidy_value(value) in values), "")
