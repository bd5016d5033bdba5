"""Answers in every format that is read, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.errors import ActionParseError
from agentgym.rewards.gaussian import Prediction
from agentgym_gui.answers import parse_answer

SIZE = (200, 100)
POINTS = (
    "(20, 30)",
    "( 20,30 )",
    "[20, 30]",
    "<point>20, 30</point>",
    "<point>20 30</point>",
    '<point x="20" y="30" alt="the button">the button</point>',
    "click(20, 30)",
    "tap(20.0, 30.0)",
    "click(x=20, y=30)",
    "pyautogui.click(20, 30)",
    "click(start_box='(20,30)')",
    '{"point": [20, 30]}',
    '{"x": 20, "y": 30}',
    '{"coordinate": [20.0, 30]}',
)
BOXES = (
    "[10, 20, 30, 40]",
    "(10, 20, 30, 40)",
    "10 20 30 40",
    "<box>(10,20),(30,40)</box>",
    "<|box_start|>(10,20),(30,40)<|box_end|>",
    '{"bbox": [10, 20, 30, 40]}',
    '{"bbox_2d": [10, 20, 30, 40]}',
    '{"box": [10, 20, 30, 40]}',
)
BAD = (
    "",
    "20, 30",
    "20 30",
    "10 20 30",
    "10, 20, 30, 40",
    "(20, 30",
    "(20; 30)",
    "I would click (20, 30)",
    "(20, 30) or (40, 50)",
    "(1e2, 30)",
    "(nan, 30)",
    "(٢٠, ٣٠, ٤٠)",
    "(20)",
    "(20, 30, 40)",
    "(201, 30)",
    "(20, 101)",
    "(-1, 30)",
    "[30, 40, 10, 20]",
    "[10, 40, 30, 20]",
    "[10, 20, 10, 40]",
    "{",
    "[]",
    "{}",
    '{"point": [20]}',
    '{"point": [20, 30, 40, 50]}',
    '{"bbox": [20, 30]}',
    '{"point": ["20", "30"]}',
    '{"point": [true, false]}',
    '{"point": [NaN, 3]}',
    '{"point": [1e400, 3]}',
    '{"x": 20}',
    '{"x": 20, "y": 30, "z": 1}',
    '{"point": [20, 30], "bbox": [10, 20, 30, 40]}',
    "scroll(20, 30)",
    "<point>20, 30</box>",
)


@pytest.mark.parametrize("text", POINTS)
def test_points_are_read(text: str) -> None:
    assert parse_answer(f"  {text}\n", SIZE) == Prediction((20.0, 30.0))


@pytest.mark.parametrize("text", BOXES)
def test_boxes_are_read(text: str) -> None:
    assert parse_answer(text, SIZE) == Prediction((20.0, 30.0), (10.0, 20.0, 30.0, 40.0))


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ActionParseError, match="Write a point"):
        parse_answer(text, SIZE)


def test_frames_scale_to_pixels() -> None:
    assert parse_answer("(500, 1000)", SIZE, "thousand") == Prediction((100.0, 100.0))
    assert parse_answer("[0.25, 0.1, 0.75, 0.9]", SIZE, "unit") == Prediction((100.0, 50.0), (50.0, 10.0, 150.0, 90.0))
    with pytest.raises(ActionParseError, match="from 0 to 1000"):
        parse_answer("(1001, 3)", SIZE, "thousand")


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_that_no_float_holds_is_refused(digits: int) -> None:
    huge = "9" * digits
    with pytest.raises(ActionParseError):
        parse_answer(f'{{"point": [{huge}, 3]}}', SIZE)
    with pytest.raises(ActionParseError):
        parse_answer(f"({huge}, 3)", SIZE)


def test_deep_json_is_an_answer_that_cannot_be_read() -> None:
    with pytest.raises(ActionParseError):
        parse_answer('{"point":' + "[" * 100_000, SIZE)


@pytest.mark.parametrize("text", ["<point>1{}", "1 2 3{}"])
def test_a_field_of_blanks_is_read_once(text: str) -> None:
    """Blanks that two parts of a pattern may both take would be tried in every division: for hours."""
    with pytest.raises(ActionParseError):
        parse_answer(text.format(" " * 500_000 + "x"), SIZE)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_text_escapes(text: str) -> None:
    try:
        found = parse_answer(text, SIZE)
    except ActionParseError:
        return
    assert 0 <= found.point[0] <= SIZE[0]
    assert 0 <= found.point[1] <= SIZE[1]


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), min_size=2, max_size=2), st.sampled_from(["point", "coordinate", "point_2d"]))
def test_json_and_brackets_agree(point: list[int], key: str) -> None:
    assert parse_answer(json.dumps({key: point}), SIZE) == parse_answer(f"({point[0]}, {point[1]})", SIZE)
