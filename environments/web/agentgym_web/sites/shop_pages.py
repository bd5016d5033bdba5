"""The pages of the shop."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from urllib.parse import urlencode

from werkzeug import Request
from werkzeug.exceptions import NotFound

from agentgym_web.sites.server import Go, Page, Site, read_field
from agentgym_web.sites.shop_catalogue import FACTS, read_item, write_options

FOUND_PER_SEARCH = 50
FOUND_PER_PAGE = 10
MAX_QUANTITY = 9
ORDERS = {
    "relevance": "rank, product.id",
    "price, lowest first": "price_usd, product.id",
    "price, highest first": "price_usd DESC, product.id",
    "rating": "rating DESC, product.id",
}


def show_home(rows: sqlite3.Connection, request: Request) -> Page:
    """Show the search and the departments."""
    found = rows.execute("SELECT DISTINCT query, category FROM product ORDER BY category, query")
    departments = [(query, category, "/search?" + urlencode({"q": query})) for query, category in found]
    return Page("shop_home.html", {"departments": departments[:40], "sorts": list(ORDERS)})


def search(rows: sqlite3.Connection, request: Request) -> Page:
    """Show what was found, best first by BM25."""
    asked = {name: request.args.get(name, "").strip() for name in ("q", "max_price", "sort", "page")}
    order = ORDERS.get(asked["sort"], ORDERS["relevance"])
    products = find_products(rows, asked["q"], _read_price(asked["max_price"]), order)
    last = max(1, math.ceil(len(products) / FOUND_PER_PAGE))
    page = min(last, int(asked["page"])) if re.fullmatch("[1-9][0-9]{0,3}", asked["page"]) else 1
    shown = products[(page - 1) * FOUND_PER_PAGE : page * FOUND_PER_PAGE]
    links = {
        number: "/search?" + urlencode({**asked, "page": str(number)})
        for number in (page - 1, page + 1)
        if 0 < number <= last
    }
    values = {"asked": asked, "products": shown, "count": len(products), "page": page, "last": last, "links": links}
    return Page("shop_search.html", {**values, "sorts": list(ORDERS)})


def find_products(
    rows: sqlite3.Connection, words: str, max_price_usd: float = math.inf, order: str = ORDERS["relevance"]
) -> list[tuple[str, str, float, float]]:
    """Return id, title, price and rating of what a search finds.

    Args:
        rows: The shop.
        words: What was typed; any of the words may be in a product's text.
        max_price_usd: Highest price.
        order: One of ``ORDERS``.
    """
    wanted = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", words)[:40])
    if not wanted:
        return []
    best = rows.execute(
        "SELECT product.id, title, price_usd, rating FROM (SELECT id AS found, bm25(product_words, 0, 3, 1, 1) AS rank"
        " FROM product_words WHERE product_words MATCH ? ORDER BY rank, id LIMIT ?) JOIN product ON product.id = found"
        f" WHERE price_usd <= ? ORDER BY {order}",  # one of ours, never a reader's text
        (wanted, FOUND_PER_SEARCH, max_price_usd),
    )
    return best.fetchall()


def _read_price(text: str) -> float:
    found = re.fullmatch(r"\$?([0-9]{1,6}(?:\.[0-9]{1,2})?)", text)
    return float(found[1]) if found else math.inf


def show_product(rows: sqlite3.Connection, request: Request, product: str) -> Page:
    """Show a product with its options."""
    item = read_item(rows, product)
    if item is None:
        raise NotFound
    return Page("shop_product.html", {"item": item, "quantities": range(1, MAX_QUANTITY + 1)})


def add_to_cart(rows: sqlite3.Connection, request: Request, product: str) -> Go:
    """Put a product into the cart, if every option was chosen."""
    item = read_item(rows, product)
    if item is None:
        raise NotFound
    chosen = {name: read_field(request, f"option-{name}") for name, _ in item.options}
    for name, values in item.options:
        if chosen[name] not in values:
            return Go(f"/product/{product}", f"Not added: choose the {name} first.")
    quantity = read_field(request, "quantity")
    if quantity not in {str(number) for number in range(1, MAX_QUANTITY + 1)}:
        return Go(f"/product/{product}", "Not added: choose a quantity.")
    line = (product, write_options(chosen))
    known = rows.execute("SELECT id, quantity FROM cart WHERE product = ? AND options = ?", line).fetchone()
    if known is None:
        rows.execute("INSERT INTO cart VALUES (NULL, ?, ?, ?)", (*line, int(quantity)))
    else:
        rows.execute("UPDATE cart SET quantity = ? WHERE id = ?", (known[1] + int(quantity), known[0]))
    return Go("/cart", "Added to your cart.")


def _read_lines(found: sqlite3.Cursor) -> list[dict[str, object]]:
    names = ("id", "title", "options", "quantity", "price_usd")
    lines = [dict(zip(names, row, strict=True)) for row in found]
    for line in lines:
        line["options"] = ", ".join(f"{name}: {value}" for name, value in json.loads(str(line["options"])).items())
    return lines


def show_cart(rows: sqlite3.Connection, request: Request) -> Page:
    """Show what is in the cart."""
    found = rows.execute(
        "SELECT cart.id, title, cart.options, quantity, price_usd FROM cart JOIN product ON product.id = product"
        " ORDER BY cart.id"
    )
    lines = _read_lines(found)
    total = rows.execute("SELECT sum(quantity * price_usd) FROM cart JOIN product ON product.id = product").fetchone()
    return Page("shop_cart.html", {"lines": lines, "total": total[0] or 0.0, "checkout": request.path == "/checkout"})


def remove_from_cart(rows: sqlite3.Connection, request: Request, line: int) -> Go:
    """Take a line out of the cart."""
    rows.execute("DELETE FROM cart WHERE id = ?", (line,))
    return Go("/cart", "Removed from your cart.")


def place_order(rows: sqlite3.Connection, request: Request) -> Go:
    """Order what is in the cart."""
    if not rows.execute("SELECT count(*) FROM cart").fetchone()[0]:
        return Go("/cart", "Your cart is empty.")
    order = rows.execute("SELECT coalesce(max(id), 1000) + 1 FROM orders").fetchone()[0]
    rows.execute("INSERT INTO orders VALUES (?, 'placed')", (order,))
    rows.execute(
        "INSERT INTO order_line SELECT NULL, ?, product, cart.options, quantity, price_usd"
        " FROM cart JOIN product ON product.id = product ORDER BY cart.id",
        (order,),
    )
    rows.execute("DELETE FROM cart")
    return Go("/orders", f"Thank you. Order {order} was placed.")


def show_orders(rows: sqlite3.Connection, request: Request) -> Page:
    """Show the customer's orders, the newest first."""
    orders = []
    for order, status in rows.execute("SELECT id, status FROM orders ORDER BY id DESC").fetchall():
        found = rows.execute(
            "SELECT order_line.id, title, order_line.options, quantity, order_line.price_usd"
            " FROM order_line JOIN product ON product.id = product WHERE order_id = ? ORDER BY order_line.id",
            (order,),
        )
        orders.append({"id": order, "status": status, "lines": _read_lines(found)})
    return Page("shop_orders.html", {"orders": orders})


def cancel_order(rows: sqlite3.Connection, request: Request, order: int) -> Go:
    """Cancel an order."""
    changed = rows.execute("UPDATE orders SET status = 'cancelled' WHERE id = ? AND status = 'placed'", (order,))
    return Go("/orders", f"Order {order} was cancelled." if changed.rowcount else "There is no such order to cancel.")


SHOP = Site(
    name="Corner Shop",
    routes=(
        ("GET", "/", show_home),
        ("GET", "/search", search),
        ("GET", "/product/<product>", show_product),
        ("POST", "/product/<product>", add_to_cart),
        ("GET", "/cart", show_cart),
        ("GET", "/checkout", show_cart),
        ("POST", "/cart/<int:line>/remove", remove_from_cart),
        ("GET", "/orders", show_orders),
        ("POST", "/orders", place_order),
        ("POST", "/orders/<int:order>/cancel", cancel_order),
    ),
    facts=FACTS,
    links=(("Shop home", "/"), ("Cart", "/cart"), ("Your orders", "/orders")),
)
