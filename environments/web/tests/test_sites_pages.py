"""The sites' servers over HTTP: forms, escaping, hostile text, faults, and the expert's errands."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from markupsafe import escape

from agentgym.errors import InfrastructureError
from agentgym_web.sites.forum_pages import FORUM
from agentgym_web.sites.server import COOKIE, Page, Site, SiteServer
from agentgym_web.sites.shop_pages import SHOP, find_products
from agentgym_web.sites.shop_tasks import score_orders
from agentgym_web.sites.store import Store
from agentgym_web.sites.tracker_pages import TRACKER
from agentgym_web.sites.worlds import SITES, World, draw_challenge, snapshot_world

HOSTILE = (
    "<script>document.title = 'owned'</script>",
    "'); DROP TABLE post; --",
    '" OR 1=1 --',
    "{{ 7 * 7 }}{% raw %}",
    "</textarea><img src=x onerror=alert(1)>",
    "NEAR(a b) AND * ^ : -",
    "\u202e\u0000 \U0001f600",
)


@pytest.fixture
def server() -> Iterator[SiteServer]:
    server = SiteServer()
    yield server
    server.close()


def play(server: SiteServer, name: str, number: int = 0) -> Store:
    store = Store(snapshot_world(World(name, "seen", number)), SITES[name].facts)
    server.play(SITES[name], store)
    return store


def ask(server: SiteServer, method: str, address: str, **fields: str) -> tuple[int, str, str]:
    """Return status, text and the address that the answer points to."""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    body = urlencode(fields) if method == "POST" else None
    kind = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
    line.request(method, address, body, {"Cookie": f"{COOKIE}={server._key}", **kind})
    answer = line.getresponse()
    text = answer.read().decode()
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    line.close()
    return answer.status, text, answer.headers.get("Location", "")


def test_reset_takes_less_than_50_ms_and_worlds_stay_as_they_are(server: SiteServer) -> None:
    for name in SITES:
        snapshot = snapshot_world(World(name, "seen", 0))
        started = time.process_time()  # of this process: others may hold the core
        store = Store(snapshot, SITES[name].facts)
        assert time.process_time() - started < 0.05
        with store.transaction() as rows:
            rows.execute("DELETE FROM me")
        store.close()
        with play(server, name).transaction() as rows:
            assert rows.execute("SELECT count(*) FROM me").fetchone() == (1,)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_kept_as_text_and_shown_escaped(server: SiteServer, text: str) -> None:
    store = play(server, "forum")
    with store.transaction() as rows:
        me = rows.execute("SELECT name FROM me").fetchone()[0]
        (title,) = rows.execute("SELECT title FROM thread WHERE id = 1").fetchone()
    status, _, place = ask(server, "POST", "/thread/1/reply", body=text)
    assert (status, place) == (303, "/thread/1")
    assert dict(store.changes().added) == {("post", title, me, " ".join(text.split())): 1}
    assert not store.changes().removed
    _, shown, _ = ask(server, "GET", "/thread/1")
    for mark in ("<script", "<img", "</textarea><"):
        assert mark not in shown.replace('<textarea id="body" name="body"></textarea><button', "")
    assert str(escape(text.strip())) in shown
    for address in ("/search?" + urlencode({"q": text}), "/board/" + quote(text), "/user/" + quote(text)):
        assert ask(server, "GET", address)[0] in (200, 404)
    server.check()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_searches_and_filters_find_nothing_strange(server: SiteServer, text: str) -> None:
    store = play(server, "shop")
    query = urlencode({"q": text, "max_price": text, "sort": text, "page": text})
    status, shown, _ = ask(server, "GET", "/search?" + query)
    assert status == 200
    assert "<script" not in shown
    assert ask(server, "GET", "/product/" + quote(text))[0] == 404
    assert ask(server, "POST", "/product/B00000", quantity=text)[2] == "/product/B00000"
    assert len(store.changes()) == 0
    store = play(server, "tracker")
    names = ("status", "label", "assignee", "component", "priority", "words")
    assert ask(server, "GET", "/?" + urlencode(dict.fromkeys(names, text)))[0] == 200
    status, _, place = ask(server, "POST", "/new", title=text, component="mail", priority="low", label=text)
    assert status == 303
    assert "<script" not in ask(server, "GET", place)[1]
    assert {fact[0] for fact in store.changes().added} == {"ticket", "priority"}
    server.check()


@pytest.mark.parametrize(
    ("name", "address", "fields"),
    [
        ("forum", "/post/1/vote", {"vote": "10"}),
        ("forum", "/post/999/vote", {"vote": "up"}),
        ("forum", "/post/99999999999999999999/vote", {"vote": "up"}),
        ("forum", "/thread/1/reply", {"body": "x" * 5000}),
        ("forum", "/thread/1/reply", {"body": "x" * 100_000}),
        ("forum", "/new", {"board": "Nowhere", "title": "a", "body": "b"}),
        ("tracker", "/ticket/1/close", {"value": "fixed"}),
        ("tracker", "/new", {"title": "", "component": "mail", "priority": "low"}),
        ("shop", "/orders", {}),
        ("shop", "/product/B00000", {"quantity": "-1"}),
        ("shop", "/orders/5/cancel", {}),
        ("shop", "/nowhere", {}),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    server: SiteServer, name: str, address: str, fields: dict[str, str]
) -> None:
    store = play(server, name)
    assert ask(server, "POST", address, **fields)[0] in (303, 404, 405, 413)
    assert len(store.changes()) == 0
    server.check()


def test_a_page_of_the_episode_before_reaches_nothing(server: SiteServer) -> None:
    play(server, "forum")
    before = server._key
    store = play(server, "forum")
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    line.request("POST", "/post/2/vote", "vote=up", {"Cookie": f"{COOKIE}={before}"})
    assert line.getresponse().status == 410
    line.close()
    assert len(store.changes()) == 0


def test_only_a_boards_moderator_moderates(server: SiteServer) -> None:
    store = play(server, "forum")
    with store.transaction() as rows:
        moderates = rows.execute("SELECT moderates FROM me").fetchone()[0]
        other = rows.execute("SELECT id FROM thread WHERE board != ?", (moderates,)).fetchone()[0]
        own, post = rows.execute(
            "SELECT thread.id, post.id FROM thread JOIN post ON thread = thread.id WHERE board = ?", (moderates,)
        ).fetchone()
    assert ask(server, "POST", f"/thread/{other}/lock")[0] == 404
    assert "Lock thread" not in ask(server, "GET", f"/thread/{other}")[1]
    assert len(store.changes()) == 0
    ask(server, "POST", f"/thread/{own}/lock")
    ask(server, "POST", f"/post/{post}/remove", reason="spam")
    assert set(store.changes().added) == {("locked", own), ("removed", post, "spam")}
    ask(server, "POST", f"/thread/{own}/reply", body="late")
    assert len(store.changes()) == 2, "nobody replies to a locked thread"


def test_the_same_vote_again_takes_it_back(server: SiteServer) -> None:
    store = play(server, "forum")
    ask(server, "POST", "/post/2/vote", vote="up")
    ask(server, "POST", "/post/2/vote", vote="down")
    assert dict(store.changes().added) == {("vote", 2, -1): 1}
    ask(server, "POST", "/post/2/vote", vote="down")
    assert len(store.changes()) == 0


def test_side_effects_lower_the_score_of_a_purchase(server: SiteServer) -> None:
    challenge = draw_challenge("train", "shop_find", 0)
    store = Store(snapshot_world(challenge.world), SHOP.facts)
    server.play(SHOP, store)
    _, product, options, _, _ = challenge.goal.added[0]
    chosen = {f"option-{name}": value for name, value in json.loads(str(options)).items()}

    def buy(quantity: int) -> float:
        ask(server, "POST", f"/product/{product}", quantity=str(quantity), **chosen)
        ask(server, "POST", "/orders")
        with store.transaction() as rows:
            return score_orders(challenge.goal, store.changes(), rows)

    with store.transaction() as rows:
        assert score_orders(challenge.goal, store.changes(), rows) == 0.0
    assert buy(1) == 1.0
    assert buy(1) == 0.5
    ask(server, "POST", "/orders/1001/cancel")
    assert buy(2) == pytest.approx(1 / 5)


def test_a_search_ranks_and_filters() -> None:
    store = Store(snapshot_world(World("shop", "seen", 0)), SHOP.facts)
    with store.transaction() as rows:
        found = find_products(rows, "gluten free popcorn")
        assert "popcorn" in found[0][1].lower()
        cheap = find_products(rows, "gluten free popcorn", 10.0)
        assert cheap
        assert {one[0] for one in cheap} == {one[0] for one in found if one[2] <= 10.0}
        assert find_products(rows, "") == find_products(rows, "!?") == []
    store.close()


def test_a_view_that_fails_is_an_infrastructure_error_and_changes_nothing(server: SiteServer) -> None:
    def fail(rows: object, request: object) -> Page:
        rows.execute("DELETE FROM vote")  # type: ignore[attr-defined]
        raise KeyError("broken")

    site = Site(FORUM.name, (("GET", "/", fail), *FORUM.routes[1:]), FORUM.facts, FORUM.links)
    store = Store(snapshot_world(World("forum", "seen", 0)), FORUM.facts)
    server.play(site, store)
    assert ask(server, "GET", "/new")[0] == 200
    server.check()
    assert ask(server, "GET", "/")[0] == 500
    with pytest.raises(InfrastructureError, match="broken"):
        server.check()
    server.play(FORUM, store)
    server.check()
    server.close()
    with pytest.raises(InfrastructureError, match="ended"):
        server.check()


def test_eight_servers_do_not_share_anything() -> None:
    servers = [SiteServer() for _ in range(8)]
    stores = [play(one, "tracker", number=2) for one in servers]
    for number, one in enumerate(servers):
        ask(one, "POST", "/new", title=f"Only in {number}", component="mail", priority="low")
    for number, (one, store) in enumerate(zip(servers, stores, strict=True)):
        titles = re.findall(r"Only in \d", ask(one, "GET", "/")[1])
        assert titles == [f"Only in {number}"]
        assert {fact[1] for fact in store.changes().added} == {f"Only in {number}"}
        one.close()


def test_every_field_and_button_of_every_page_has_a_name(server: SiteServer) -> None:
    pages = {
        SHOP: ("/", "/search?q=tea", "/product/B00000", "/orders"),
        FORUM: ("/", "/thread/1", "/new"),
        TRACKER: ("/",),
    }
    for site, addresses in pages.items():
        play(server, next(name for name, one in SITES.items() if one is site))
        for address in addresses:
            status, text, _ = ask(server, "GET", address)
            assert status == 200
            named = set(re.findall(r'<label for="([^"]+)"', text))
            for tag in re.findall(r"<(?:input|select|textarea)[^>]*>", text):
                given = re.search(r' id="([^"]+)"', tag)
                assert "aria-label=" in tag or (given and given[1] in named), (address, tag)
