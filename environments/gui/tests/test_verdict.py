"""Our verdicts against those that were published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.rewards.gaussian import Box
from agentgym_gui.verdict import Target, hits, inner_point

DATA = Path(__file__).parents[4] / "shared" / "data"
LOG = DATA / "gui_screenspot_pro" / "omniparser_v2_gpt4o.jsonl"
needs_log = pytest.mark.skipif(
    not LOG.is_file(), reason="the published log, ../shared/data/gui_screenspot_pro, is not here"
)
SIDE = st.integers(-50, 150)


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LOG.read_text(encoding="utf-8").splitlines()]


def as_box(sides: list[float]) -> Box:
    return sides[0], sides[1], sides[2], sides[3]


@needs_log
def test_every_published_verdict_is_ours() -> None:
    """OmniParser's own rule leaves the right and the lower edge out."""
    wrong = []
    for row in rows():
        ours = hits(Target(as_box(row["bbox"])), (row["pred"][0], row["pred"][1]), "half_open")
        if ours != (row["correctness"] == "correct"):
            wrong.append(row["idx"])
    assert len(rows()) == 790
    assert wrong == []


@needs_log
def test_only_answers_on_an_edge_tell_the_rules_apart() -> None:
    differing = [
        row["idx"]
        for row in rows()
        if hits(Target(as_box(row["bbox"])), (row["pred"][0], row["pred"][1])) != (row["correctness"] == "correct")
    ]
    assert differing == [804, 974, 1204]


def test_edges() -> None:
    target = Target((10, 20, 30, 40))
    assert hits(target, (10, 20))
    assert hits(target, (30, 40))
    assert hits(target, (10, 20), "half_open")
    assert not hits(target, (30, 25), "half_open")
    assert not hits(target, (15, 40), "half_open")
    assert not hits(target, (30.01, 40))


def test_what_is_to_be_refused_is_never_hit() -> None:
    assert not hits(Target(None), (0, 0))


@settings(deadline=None)
@given(SIDE, SIDE)
def test_a_rectangle_as_polygon_is_the_closed_box(x: int, y: int) -> None:
    corners = ((0.0, 0.0), (100.0, 0.0), (100.0, 60.0), (0.0, 60.0))
    box: Box = (0, 0, 100, 60)
    assert hits(Target(box, corners), (x, y)) == hits(Target(box), (x, y))
    assert hits(Target(box, corners[::-1]), (x, y)) == hits(Target(box), (x, y))


def test_a_polygon_is_not_its_bounding_box() -> None:
    """An angle: its box's centre lies outside of it."""
    corners = ((0.0, 0.0), (100.0, 0.0), (100.0, 10.0), (10.0, 10.0), (10.0, 100.0), (0.0, 100.0))
    target = Target((0, 0, 100, 100), corners)
    assert not hits(target, (50, 50))
    assert hits(target, (5, 90))
    assert hits(target, inner_point(target))


def test_the_inner_point_of_a_box_is_its_centre() -> None:
    assert inner_point(Target((10, 20, 30, 40))) == (20, 30)
