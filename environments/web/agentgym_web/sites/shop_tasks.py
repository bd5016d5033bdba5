"""Families of tasks in the shop."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter

from agentgym_web.sites.goal import Errand, Goal, Step
from agentgym_web.sites.shop_catalogue import Item, read_item, write_options
from agentgym_web.sites.shop_pages import FOUND_PER_PAGE, find_products
from agentgym_web.sites.shop_wording import word_price, word_wish
from agentgym_web.sites.store import Changes, Fact
from agentgym_web.sites.wish import Wish, has_option, score_purchase

#: Wordings; train and valid_seen share those of "seen". Those of ``shop_find`` are in ``shop_wording``.
WORDINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "shop_cheapest": {
        "seen": (
            "Order the cheapest {ware} that has at least {stars} stars{choice}",
            "I want the least expensive {ware} rated {stars} stars or better. Order one{choice}",
        ),
        "unseen": ("Of all {ware} offers with {stars} stars or more, order the one with the lowest price{choice}",),
    },
    "shop_cart": {
        "seen": ('Put {lines} into my cart, but do not order yet', 'Add {lines} to the cart. Do not check out'),
        "unseen": ("Fill the cart with {lines}, and leave it there",),
    },
    "shop_order": {
        "seen": ("Order {lines}, all in one order", "Buy {lines} together"),
        "unseen": ("Please see to it that {lines} are ordered",),
    },
    "shop_cancel": {
        "seen": (
            'Cancel my order of the "{title}"',
            'I no longer need the "{title}" that I ordered. Cancel that order',
        ),
        "unseen": ('Go through my orders and cancel the one with the "{title}"',),
    },
}  # fmt: skip

HOME = Step("click", "link", "Shop home")
NO_LIMIT_USD = 1_000_000.0


def draw_shop_goal(kind: str, rows: sqlite3.Connection, group: str, chance: random.Random) -> Goal | None:
    """Draw a goal of a family, or nothing if this draw has no such goal.

    Args:
        kind: Family.
        rows: The shop.
        group: ``"seen"`` or ``"unseen"``: which wordings are used.
        chance: Where it is drawn from.
    """
    if kind == "shop_find":
        spoken = _draw_spoken(rows, chance)
        if spoken is not None:
            return find_goal(*spoken, rows)
        item = _draw_item(rows, chance)
        options = tuple((name, chance.choice(values)) for name, values in item.options if chance.random() < 0.65)
        own = item.product.attributes
        attributes = tuple(chance.sample(own, min(len(own), chance.choices((1, 2, 3), (45, 40, 15))[0])))
        wish = Wish(item.product, attributes, options, draw_price_limit(item.price_usd, chance))
        text = word_wish(item.product.query, attributes, options, group, chance)
        return find_goal(wish, text, rows)
    if kind == "shop_cancel":
        return _draw_cancel(rows, group, chance)
    if kind == "shop_cheapest":
        return _draw_cheapest(rows, group, chance)
    return _draw_lines(kind, rows, group, chance)


def draw_price_limit(price_usd: float, chance: random.Random) -> float:
    """Return a highest price as WebShop draws it: the upper of two of the next four multiples of ten."""
    above = [10.0 * tens for tens in range(1, 100) if 10.0 * tens > price_usd][:4]
    return max(chance.sample(above, 2)) if len(above) >= 2 else NO_LIMIT_USD


def find_goal(wish: Wish, text: str, rows: sqlite3.Connection) -> Goal | None:
    """Make the goal of buying what a wish describes, or nothing if no purchase fulfils it.

    The expert searches as a shopper would and takes the first product found that scores 1.
    """
    if wish.price_usd < NO_LIMIT_USD:
        text = word_price(text, wish.price_usd)
    queries = (" ".join((*wish.attributes, wish.product.query)), wish.product.title)
    for query in queries:
        found = find_products(rows, query)
        titles = Counter(title for _, title, *_ in found)
        for position, (product, title, *_) in enumerate(found):
            item = read_item(rows, product)
            chosen = _choose_options(item, wish) if item is not None else None
            if item is None or chosen is None or titles[title] > 1:  # two links of one name can't be told apart
                continue
            if score_purchase(wish, item.product, chosen, item.price_usd) == 1.0:
                steps = (*_walk(query, position, title), *_add(item, chosen, 1), *_check_out())
                fact: Fact = ("ordered", product, write_options(chosen), 1, "placed")
                return Goal("shop_find", text, (Errand(steps, (fact,)),), (fact,), wish=wish)
    return None


def _choose_options(item: Item, wish: Wish) -> dict[str, str] | None:
    """Return values that fulfil a wish; nothing if the product has no such values."""
    chosen = {name: values[0] for name, values in item.options if values}
    for name, value in wish.options:
        fits = [(own, one) for own, values in item.options for one in values if has_option(name, value, {own: one})]
        # The option of the same name, with just that value, if it has one.
        fits.sort(key=lambda pair: (pair[0] != name, pair[1] != value))
        if not fits:
            return None
        chosen[fits[0][0]] = fits[0][1]
    return chosen


def score_orders(goal: Goal, changes: Changes, rows: sqlite3.Connection) -> float:
    """Return WebShop's score of the best purchase, divided by 1 and the number of other changes.

    The division is design: WebShop ends with the first purchase, this shop goes on. So a second order, or a second
    piece of the same, halves what the first one earned, and an old order that was cancelled does, too. What is only in
    the cart costs nothing.
    """
    if goal.wish is None:
        raise ValueError(f"a goal of kind {goal.kind} has no wish")
    best, pieces = 0.0, 0
    for fact, count in changes.added.items():
        if fact[0] == "ordered" and fact[4] == "placed":
            item = read_item(rows, str(fact[1]))
            assert item is not None, "an order of what the shop does not sell is refused by its database"
            score = score_purchase(goal.wish, item.product, read_options(str(fact[2])), item.price_usd)
            best, pieces = max(best, score), pieces + int(fact[3] or 0) * count
    undone = sum(count for fact, count in changes.removed.items() if fact[0] == "ordered")
    return best / max(1, pieces + undone)


def read_options(text: str) -> dict[str, str]:
    """Return chosen options from what the database keeps of them."""
    return {str(name): str(value) for name, value in json.loads(text).items()}


def _draw_spoken(rows: sqlite3.Connection, chance: random.Random) -> tuple[Wish, str] | None:
    """Return a wish in the words of a person, if the shop's files have such."""
    (count,) = rows.execute("SELECT count(*) FROM spoken").fetchone()
    if not count:
        return None
    product, text, attributes, options = rows.execute(
        "SELECT product, text, attributes, options FROM spoken WHERE rowid = ?", (chance.randint(1, count),)
    ).fetchone()
    item = read_item(rows, product)
    assert item is not None, "a product that the shop does not sell has no wish in it"
    pairs = tuple((str(name), str(value)) for name, value in json.loads(options))
    price_usd = draw_price_limit(item.price_usd, chance)
    return Wish(item.product, tuple(json.loads(attributes)), pairs, price_usd), text


def _draw_item(rows: sqlite3.Connection, chance: random.Random) -> Item:
    (count,) = rows.execute("SELECT count(*) FROM product").fetchone()
    (product,) = rows.execute(
        "SELECT id FROM product ORDER BY rowid LIMIT 1 OFFSET ?", (chance.randrange(count),)
    ).fetchone()
    item = read_item(rows, product)
    assert item is not None, "its id was just read"
    return item


def _walk(query: str, position: int, title: str) -> tuple[Step, ...]:
    """Return the way to a product by a search that finds it at some position."""
    return (
        HOME,
        Step("fill", "textbox", "Search products", query),
        Step("click", "button", "Search"),
        *[Step("click", "link", "Next page")] * (position // FOUND_PER_PAGE),
        Step("click", "link", title),
    )


def _find(item: Item, rows: sqlite3.Connection) -> tuple[Step, ...]:
    title = item.product.title
    found = [product for product, *_ in find_products(rows, title)]
    return _walk(title, found.index(item.product.id), title)


def _add(item: Item, chosen: dict[str, str], quantity: int) -> tuple[Step, ...]:
    chooses = [Step("choose", "combobox", name.capitalize(), value) for name, value in chosen.items()]
    if quantity > 1:
        chooses.append(Step("choose", "combobox", "Quantity", str(quantity)))
    return (*chooses, Step("click", "button", "Add to cart"))


def _check_out() -> tuple[Step, ...]:
    return (
        Step("click", "link", "Cart"),
        Step("click", "link", "Go to checkout"),
        Step("click", "button", "Place order"),
    )


def _draw_cancel(rows: sqlite3.Connection, group: str, chance: random.Random) -> Goal:
    orders = rows.execute(
        "SELECT orders.id, product, title, order_line.options, quantity FROM orders"
        " JOIN order_line ON order_id = orders.id JOIN product ON product.id = product ORDER BY orders.id"
    ).fetchall()
    order, product, title, options, quantity = chance.choice(orders)
    steps = (HOME, Step("click", "link", "Your orders"), Step("click", "button", f"Cancel order {order}"))
    added: tuple[Fact, ...] = (("ordered", product, options, quantity, "cancelled"),)
    removed: tuple[Fact, ...] = (("ordered", product, options, quantity, "placed"),)
    text = chance.choice(WORDINGS["shop_cancel"][group]).format(title=title) + "."
    return Goal("shop_cancel", text, (Errand(steps, added, removed),), added, removed)


def _draw_cheapest(rows: sqlite3.Connection, group: str, chance: random.Random) -> Goal | None:
    ware = _draw_item(rows, chance).product.query
    stars = chance.choice((3.0, 3.5, 4.0, 4.2))
    offers = rows.execute(
        "SELECT id, price_usd FROM product WHERE query = ? AND rating >= ? ORDER BY price_usd, id LIMIT 2",
        (ware, stars),
    ).fetchall()
    if len(offers) < 2 or offers[0][1] == offers[1][1]:
        return None
    item = read_item(rows, offers[0][0])
    if item is None or item.product.id not in [product for product, *_ in find_products(rows, ware)]:
        return None
    chosen = {name: chance.choice(values) for name, values in item.options}
    choice = "".join(f", {name} {value}" for name, value in chosen.items())
    steps = (*_find(item, rows), *_add(item, chosen, 1), *_check_out())
    added: tuple[Fact, ...] = (("ordered", item.product.id, write_options(chosen), 1, "placed"),)
    text = chance.choice(WORDINGS["shop_cheapest"][group]).format(ware=ware, stars=stars, choice=choice) + "."
    return Goal("shop_cheapest", text, (Errand(steps, added),), added)


def _draw_lines(kind: str, rows: sqlite3.Connection, group: str, chance: random.Random) -> Goal | None:
    errands: list[Errand] = []
    facts: list[Fact] = []
    lines: list[str] = []
    for _ in range(chance.randint(1, 2)):
        item, quantity = _draw_item(rows, chance), chance.randint(1, 3)
        chosen = {name: chance.choice(values) for name, values in item.options}
        shown = ", ".join(f"{name} {value}" for name, value in chosen.items())
        lines.append(f'{quantity} of the "{item.product.title}" ({shown})')
        fact: Fact = ("cart", item.product.id, write_options(chosen), quantity)
        facts.append(fact)
        errands.append(Errand((*_find(item, rows), *_add(item, chosen, quantity)), (fact,)))
    if len({fact[1] for fact in facts}) < len(facts):
        return None
    text = chance.choice(WORDINGS[kind][group]).format(lines=" and ".join(lines)) + "."
    if kind == "shop_cart":
        return Goal(kind, text, tuple(errands), tuple(facts))
    ordered: tuple[Fact, ...] = tuple(("ordered", *fact[1:], "placed") for fact in facts)
    errands.append(Errand((HOME, *_check_out()), ordered))
    return Goal(kind, text, tuple(errands), ordered)
