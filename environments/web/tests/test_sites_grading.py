"""WebShop's score, the score of changes, and the splits, without a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.errors import UsageError
from agentgym_web.sites.goal import Errand, Goal, score_changes
from agentgym_web.sites.shop_wording import word_price
from agentgym_web.sites.store import Changes, Fact
from agentgym_web.sites.webshop_files import read_webshop
from agentgym_web.sites.wish import Product, Wish, score_purchase, score_type
from agentgym_web.sites.worlds import KINDS, SPLITS, TaskIds, draw_challenge, snapshot_world

ALL_KINDS = [kind for kinds in KINDS.values() for kind in kinds]


def make_product(title: str, *attributes: str, query: str = "shirt", category: str = "Clothing › Tops") -> Product:
    return Product("B1", title, query, category, title, attributes)


SHIRT = make_product("Acme Linen Shirt", "machine wash", "slim fit")
WISH = Wish(SHIRT, ("machine wash", "slim fit"), (("color", "navy blue"), ("size", "large")), 30.0)
GOOD = {"color": "navy blue", "size": "large"}


@pytest.mark.parametrize(
    ("bought", "options", "price_usd", "score"),
    [
        (SHIRT, GOOD, 29.99, 1.0),
        (SHIRT, GOOD, 30.0, 1.0),
        (SHIRT, GOOD, 30.01, 4 / 5),
        (SHIRT, {**GOOD, "size": "x-large"}, 10.0, 4 / 5),  # sizes match exactly
        (SHIRT, {**GOOD, "color": "blue navy"}, 10.0, 1.0),  # other options by their words
        (SHIRT, {}, 10.0, 3 / 5),
        (make_product("Acme Linen Shirt", "machine washed"), GOOD, 10.0, 4 / 5),  # near enough, and one missing
        (make_product("Acme Linen Shirt slim fit"), GOOD, 10.0, 4 / 5),  # in the text
        # a third of the nouns is the same: full type
        (make_product("Zeta Cotton Shirt", *SHIRT.attributes), GOOD, 10.0, 1.0),
        # no noun is the same: nothing, whatever else fits
        (make_product("Oak Bookcase", *SHIRT.attributes), GOOD, 10.0, 0.0),
    ],
)
def test_webshop_score_by_hand(bought: Product, options: dict[str, str], price_usd: float, score: float) -> None:
    assert score_purchase(WISH, bought, options, price_usd) == pytest.approx(score)


def test_type_is_half_for_a_faint_likeness_of_another_kind_and_a_tenth_for_less() -> None:
    words = ["alpha", "bravo", "charlie", "delta", "echo", "fox", "golf", "hotel", "india", "juliet", "kilo", "lima"]
    wanted = make_product(" ".join(words[:10]), query="a", category="One › Two › Three")
    other = {"query": "b", "category": "Four › Two"}
    assert score_type(wanted, make_product("alpha bravo", **other)) == 0.5  # exactly 0.2 is not more than 0.2
    assert score_type(wanted, make_product("alpha bravo charlie", **other)) == 1.0
    assert score_type(wanted, make_product("alpha", **{**other, "query": "a"})) == 1.0
    assert score_type(wanted, make_product("alpha", query="b", category="Three › Two")) == 1.0
    longer = make_product(" ".join(words), query="a", category="One")
    assert score_type(longer, make_product("alpha", query="a", category="One")) == 0.1  # 1 of 12
    assert score_type(longer, make_product("zulu", query="a", category="One")) == 0.0


WORDS = st.sampled_from(["machine", "wash", "slim", "fit", "linen", "shirt", "navy", "blue", "large", "small", "oak"])
TEXTS = st.lists(WORDS, max_size=4).map(" ".join)


@settings(deadline=None)  # others may hold the core
@given(
    title=TEXTS, attributes=st.lists(TEXTS, max_size=4), options=st.dictionaries(TEXTS, TEXTS), price=st.floats(0, 99)
)
def test_webshop_score_is_a_share_and_never_rises_with_the_price(
    title: str, attributes: list[str], options: dict[str, str], price: float
) -> None:
    bought = make_product(title, *attributes)
    score = score_purchase(WISH, bought, options, price)
    assert 0.0 <= score <= 1.0
    assert score >= score_purchase(WISH, bought, options, price + 50)
    if score == 1.0:
        assert price <= WISH.price_usd
        assert "large" in options.values()
    assert score_purchase(WISH, SHIRT, GOOD, WISH.price_usd) == 1.0


FACTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=5)


@settings(deadline=None)  # others may hold the core
@given(added=FACTS, removed=FACTS, did=FACTS, undid=FACTS, extra=FACTS)
def test_changes_score_1_only_for_what_was_asked_and_nothing_else(
    added: list[Fact], removed: list[Fact], did: list[Fact], undid: list[Fact], extra: list[Fact]
) -> None:
    added = [*added, ("wanted", 1)]
    goal = Goal("kind", "", (), tuple(added), tuple(removed))
    assert score_changes(goal, Changes(Counter(added), Counter(removed))) == 1.0
    assert score_changes(goal, Changes(Counter(), Counter())) == 0.0
    score = score_changes(goal, Changes(Counter(did), Counter(undid)))
    assert 0.0 <= score <= 1.0
    assert (score == 1.0) == (Counter(did) == Counter(added) and Counter(undid) == Counter(removed))
    more = score_changes(goal, Changes(Counter([*added, *extra]), Counter(removed)))
    assert more == 1.0 if not extra else more < 1.0


def test_an_errand_is_done_when_its_facts_are_there() -> None:
    errand = Errand((), (("vote", 3, 1),), (("label", "x", "bug"),))
    assert not errand.is_done(Changes(Counter({("vote", 3, 1): 1}), Counter()))
    assert errand.is_done(Changes(Counter({("vote", 3, 1): 2}), Counter({("label", "x", "bug"): 1})))


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_splits_share_no_goal_no_world_and_no_wording(kind: str) -> None:
    drawn = {split: [draw_challenge(split, kind, number) for number in range(8)] for split in SPLITS}
    wants = {split: {one.goal.signature(repr(one.world)) for one in drawn[split]} for split in SPLITS}
    assert not wants["train"] & wants["valid_seen"]
    assert not {one.world for one in drawn["train"]} & {one.world for one in drawn["valid_unseen"]}
    seen = {one.goal.instruction for split in SPLITS[:2] for one in drawn[split]}
    assert not seen & {one.goal.instruction for one in drawn["valid_unseen"]}
    assert len(wants["train"]) >= 6, "goals are different from each other"


def test_ids_find_their_places_and_nothing_else() -> None:
    ids = TaskIds("train", 100, ["a", "b", "c"])
    assert [ids.position(one) for one in ids] == list(range(100))
    assert len(set(ids)) == 100
    for wrong in ("", "train/a", "train/d/0", "valid_seen/a/0", "train/a/00", "train/b/33", "train/a/-1", "train/a/٣"):
        with pytest.raises(KeyError):
            ids.position(wrong)
    assert len(TaskIds("train", 10**9, ALL_KINDS)) == 10**9


def test_tasks_are_the_same_in_another_process() -> None:
    script = (
        "import json, sys; from agentgym_web.sites.worlds import draw_challenge, snapshot_world;"
        "import hashlib; c = [draw_challenge('valid_seen', k, 3) for k in json.loads(sys.argv[1])];"
        "print(json.dumps([[repr(x), hashlib.sha256(snapshot_world(x.world)).hexdigest()] for x in c]))"
    )
    kinds = ["shop_find", "forum_follow", "tracker_triage"]
    there = subprocess.run(
        [sys.executable, "-c", script, json.dumps(kinds)],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    import hashlib

    here = [draw_challenge("valid_seen", kind, 3) for kind in kinds]
    digests = [hashlib.sha256(snapshot_world(one.world)).hexdigest() for one in here]
    assert json.loads(there.stdout.splitlines()[-1]) == [list(p) for p in zip(map(repr, here), digests, strict=True)]


def write_webshop(folder: Path) -> None:
    """Write files in WebShop's layout."""
    items = [
        {
            "asin": f"B{number:03}",
            "name": f"Acme {query.title()} Number {number}",
            "query": query,
            "category": "fashion",
            "product_category": f"Clothing › {query}",
            "small_description": ["Machine wash", "Made of cotton"],
            "full_description": "A thing.",
            "pricing": "$12.50$20.00" if number % 2 else "",
            "customization_options": {"Color": [{"value": "Navy/White"}, {"value": "Red "}], "Size": None},
        }
        for number, query in enumerate(f"shirt{i // 2}" for i in range(40))
    ]
    (folder / "items_shuffle_1000.json").write_text(json.dumps(items))
    (folder / "items_ins_v2_1000.json").write_text(json.dumps({"B001": {"attributes": ["machine wash"]}}))
    people = {
        one["asin"]: [
            {
                "instruction": "i want a shirt.",
                "instruction_attributes": ["machine wash"],
                "instruction_options": ["navy | white"],
            }
        ]
        for one in items
    }
    (folder / "items_human_ins.json").write_text(json.dumps(people))


def test_webshop_files_are_sold_and_its_words_are_used(tmp_path: Path) -> None:
    write_webshop(tmp_path)
    seen, spoken = read_webshop(tmp_path, "seen")
    unseen, _ = read_webshop(tmp_path, "unseen")
    assert len(seen) + len(unseen) == 40
    assert not {item.product.query for item in seen} & {item.product.query for item in unseen}
    assert len(spoken) == len(seen)
    by_id = {item.product.id: item for item in (*seen, *unseen)}
    assert by_id["B001"].price_usd == 12.5
    assert by_id["B002"].price_usd == 100.0
    assert by_id["B001"].options == (("color", ("navy | white", "red")),)
    challenge = draw_challenge("train", "shop_find", 0, str(tmp_path))
    wish = challenge.goal.wish
    assert wish is not None
    assert challenge.goal.instruction == word_price("i want a shirt", wish.price_usd)
    assert wish.options == (("color", "navy | white"),)


def test_files_that_are_not_webshops_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="items_shuffle"):
        read_webshop(tmp_path, "seen")
    (tmp_path / "items_shuffle.json").write_text('[{"asin": 1}]')
    (tmp_path / "items_ins.json").write_text("{}")
    with pytest.raises(UsageError, match="WebShop's files"):
        read_webshop(tmp_path, "seen")
