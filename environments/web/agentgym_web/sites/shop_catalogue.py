"""A shop's catalogue, synthetic: goods, titles and prices are drawn, none is a real product."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentgym_web.sites.shop_goods import SEEN, UNSEEN, Ware
from agentgym_web.sites.store import open_memory
from agentgym_web.sites.wish import Product

PRODUCTS_PER_WORLD = 300
BRAND_STARTS = {
    "seen": ("Al", "Bren", "Cor", "Dun", "El", "Far", "Gil", "Hol"),
    "unseen": ("Mor", "Nev", "Osk", "Pell"),
}
BRAND_ENDS = ("ado", "berg", "ista", "ley", "mont", "ora", "wick", "zen")
PRAISE = ("Premium", "Classic", "Modern", "Everyday", "Deluxe", "Simple", "Original", "Comfort")
AUDIENCES = ("Home", "Travel", "Gifts", "Daily Use", "Office", "Family", "Outdoor")

SCHEMA = """
CREATE TABLE me (name TEXT);
CREATE TABLE product (
  id TEXT PRIMARY KEY, title TEXT, brand TEXT, query TEXT, category TEXT, price_usd REAL, rating REAL,
  description TEXT, bullets TEXT, attributes TEXT, options TEXT);
CREATE VIRTUAL TABLE product_words USING fts5(id UNINDEXED, title, bullets, description, tokenize = 'porter');
CREATE TABLE spoken (product TEXT REFERENCES product, text TEXT, attributes TEXT, options TEXT);
CREATE TABLE cart (id INTEGER PRIMARY KEY, product TEXT REFERENCES product, options TEXT, quantity INTEGER);
CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT);
CREATE TABLE order_line (
  id INTEGER PRIMARY KEY, order_id INTEGER REFERENCES orders, product TEXT REFERENCES product, options TEXT,
  quantity INTEGER, price_usd REAL);
"""

FACTS = (
    "SELECT 'cart', product, options, quantity FROM cart",
    "SELECT 'ordered', product, options, quantity, status FROM order_line JOIN orders ON orders.id = order_id",
)


@dataclass(frozen=True)
class Item:
    """A product as the shop has it.

    Attributes:
        product: What the score needs of it.
        brand: Maker.
        price_usd: Price of one.
        rating: Stars, from 1 to 5.
        description: Running text.
        bullets: Short sentences about it.
        options: Values by name of the option.
    """

    product: Product
    brand: str
    price_usd: float
    rating: float
    description: str
    bullets: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]


def make_items(group: str, chance: random.Random, count: int = PRODUCTS_PER_WORLD) -> list[Item]:
    """Return the products of a generated shop.

    Args:
        group: ``"seen"`` or ``"unseen"``.
        chance: Where they are drawn from.
        count: How many.
    """
    wares = SEEN if group == "seen" else UNSEEN
    items: dict[str, Item] = {}
    while len(items) < count:
        item = _make_item(wares[len(items) % len(wares)], group, f"B{len(items):05d}", chance)
        items.setdefault(item.product.title, item)  # titles are how people tell products apart
    return list(items.values())


def _make_item(ware: Ware, group: str, product_id: str, chance: random.Random) -> Item:
    brand = chance.choice(BRAND_STARTS[group]) + chance.choice(BRAND_ENDS)
    attributes = tuple(chance.sample(ware.attributes, min(len(ware.attributes), chance.randint(2, 4))))
    options = tuple((name, _draw_values(values, chance)) for name, values in ware.options)
    shown = ", ".join(attribute.title() for attribute in attributes[:2])
    title = f"{brand} {chance.choice(PRAISE)} {ware.name.title()}, {shown}, for {chance.choice(AUDIENCES)}"
    bullets = tuple(f"{attribute.capitalize()}: made with care by {brand}." for attribute in attributes)
    names = " and ".join(name for name, _ in options)
    description = f"A {ware.name} by {brand}. Choose your {names}. Ships within two days."
    low, high = ware.prices_usd
    product = Product(product_id, title, ware.name, ware.category, " ".join((title, *bullets, description)), attributes)
    price = chance.randint(low, high) - chance.choice((0.01, 0.05, 0.5))
    return Item(product, brand, round(price, 2), chance.randint(20, 50) / 10, description, bullets, options)


def _draw_values(values: Sequence[str], chance: random.Random) -> tuple[str, ...]:
    chosen = set(chance.sample(values, min(len(values), chance.randint(3, 6))))
    return tuple(value for value in values if value in chosen)


def build_shop(items: Sequence[Item], me: str, orders: int, chance: random.Random) -> sqlite3.Connection:
    """Return a shop's database, with orders that were placed before.

    Args:
        items: What it sells.
        me: Name of its only customer.
        orders: How many orders there were.
        chance: Where they are drawn from.
    """
    rows = open_memory()
    rows.executescript(SCHEMA)
    rows.execute("BEGIN")
    rows.execute("INSERT INTO me VALUES (?)", (me,))
    for item in items:
        product, bullets = item.product, "\n".join(item.bullets)
        rows.execute(
            "INSERT INTO product VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                product.id, product.title, item.brand, product.query, product.category, item.price_usd, item.rating,
                item.description, bullets, json.dumps(product.attributes), json.dumps(dict(item.options)),
            ),
        )  # fmt: skip
        words = (product.id, product.title, bullets, item.description)
        rows.execute("INSERT INTO product_words VALUES (?, ?, ?, ?)", words)
    for order, item in enumerate(chance.sample(list(items), min(orders, len(items))), start=1001):
        rows.execute("INSERT INTO orders VALUES (?, 'placed')", (order,))
        chosen = write_options({name: chance.choice(values) for name, values in item.options})
        line = (order, item.product.id, chosen, chance.randint(1, 2), item.price_usd)
        rows.execute("INSERT INTO order_line VALUES (NULL, ?, ?, ?, ?, ?)", line)
    rows.execute("COMMIT")
    return rows


def write_options(options: Mapping[str, str]) -> str:
    """Return chosen options as the database keeps them."""
    return json.dumps(dict(sorted(options.items())))


def read_item(rows: sqlite3.Connection, product_id: str) -> Item | None:
    """Return a product, or nothing if the shop has none with this id."""
    row = rows.execute("SELECT * FROM product WHERE id = ?", (product_id,)).fetchone()
    if row is None:
        return None
    _, title, brand, query, category, price_usd, rating, description, bullets, attributes, options = row
    text = " ".join((title, *bullets.split("\n"), description))
    product = Product(product_id, title, query, category, text, tuple(json.loads(attributes)))
    values = tuple((name, tuple(own)) for name, own in json.loads(options).items())
    return Item(product, brand, price_usd, rating, description, tuple(bullets.split("\n")), values)
