"""How a place on a screen is written, in the formats that models were taught, and read back strictly.

A whole answer is one of these, blanks aside; ``x`` and ``y`` are plain decimal numbers::

    (x, y)   [x, y]                                    a point
    <point>x, y</point>   <point>x y</point>           UI-TARS 1.5 and others
    <point x="…" y="…">…</point>                       Molmo
    click(x, y)   click(x=…, y=…)   pyautogui.click(…) calls; also tap and left_click
    click(start_box='(x, y)')                          UI-TARS
    [x1, y1, x2, y2]   (x1, y1, x2, y2)                a box
    x1 y1 x2 y2                                        as a table of elements writes it
    <box>(x1,y1),(x2,y2)</box>                         Qwen-VL; also with <|box_start|> and <|box_end|>
    {"point": [x, y]}   {"x": …, "y": …}               JSON; also "coordinate", "point_2d"
    {"bbox": [x1, y1, x2, y2]}                         JSON; also "box", "bbox_2d"
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

from agentgym.errors import ActionParseError
from agentgym.rewards.gaussian import Box, Prediction, centre

Frame = Literal["pixels", "thousand", "unit"]
FRAMES: tuple[str, ...] = get_args(Frame)

_DIGITS = r"(-?\d{1,9}(?:\.\d{1,9})?)"
_N = rf"\s*{_DIGITS}\s*"
_GAP = r"[^\S ]* \s*"  # white space with a blank in it, which can be divided in one way only
_FOUR = rf"{_N},{_N},{_N},{_N}"
_POINTS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\({_N},{_N}\)",
        rf"\[{_N},{_N}\]",
        rf"<point>{_N},{_N}</point>",
        rf"<point>\s*{_DIGITS}{_GAP}{_DIGITS}\s*</point>",
        rf'<point x="{_N}" y="{_N}"[^<>]*>[^<>]*</point>',
        rf"(?:pyautogui\.)?(?:click|tap|left_click)\({_N},{_N}\)",
        rf"(?:pyautogui\.)?(?:click|tap|left_click)\(\s*x={_N},\s*y={_N}\)",
        rf"(?:click|tap|left_click)\(\s*start_box='\({_N},{_N}\)'\s*\)",
    )
)
_BOXES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\[{_FOUR}\]",
        rf"\({_FOUR}\)",
        _GAP.join([_DIGITS] * 4),
        rf"<box>\({_N},{_N}\),\s*\({_N},{_N}\)</box>",
        rf"<\|box_start\|>\({_N},{_N}\),\s*\({_N},{_N}\)<\|box_end\|>",
    )
)
_POINT_KEYS, _BOX_KEYS = ("point", "coordinate", "point_2d"), ("bbox", "box", "bbox_2d")
HINT = "Write a point as (x, y) or a box as [x1, y1, x2, y2], and nothing else."


def parse_answer(text: str, size: tuple[int, int], frame: str = "pixels") -> Prediction:
    """Read a point or a box; see the module for the formats.

    Args:
        text: The whole answer.
        size: Width and height of the screen in pixels.
        frame: What the numbers are: ``pixels``, ``thousand`` (0 to 1000 in each direction) or ``unit`` (0 to 1).

    Returns:
        It in pixels.

    Raises:
        ActionParseError: The text is nothing of the sort, the place is not on the screen, or the box is inverted or
            empty; the message is for the model.
    """
    return place_answer(_numbers(text.strip()), size, frame)


def place_answer(numbers: Sequence[float], size: tuple[int, int], frame: str = "pixels") -> Prediction:
    """Return two numbers as a point, or four as a box, in pixels; see :func:`parse_answer`."""
    most = {"pixels": size, "thousand": (1000, 1000), "unit": (1, 1)}[frame]
    for axis, number in enumerate(numbers):
        limit = most[axis % 2]
        if not 0 <= number <= limit:  # which no NaN is
            raise ActionParseError(f"A coordinate lies outside of the screen, from 0 to {limit}. {HINT}")
    scaled = [number * size[axis % 2] / most[axis % 2] for axis, number in enumerate(numbers)]
    if len(scaled) == 2:
        return Prediction((scaled[0], scaled[1]))
    box: Box = (scaled[0], scaled[1], scaled[2], scaled[3])
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ActionParseError(f"That box is inverted or empty: x1 must be below x2, and y1 below y2. {HINT}")
    return Prediction(centre(box), box)


def _numbers(text: str) -> tuple[float, ...]:
    if text.startswith("{"):
        return _json_numbers(text)
    for pattern in (*_POINTS, *_BOXES):
        if found := pattern.fullmatch(text):
            return tuple(float(number) for number in found.groups())
    raise ActionParseError(f"No place was found in your answer. {HINT}")


def _json_numbers(text: str) -> tuple[float, ...]:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits, too
        raise ActionParseError(f"Your answer is not valid JSON: {str(error)[:100]}. {HINT}") from None
    values: Any = None
    if set(found) == {"x", "y"}:
        values = [found["x"], found["y"]]
    elif len(found) == 1:
        key, value = next(iter(found.items()))
        if isinstance(value, list) and len(value) == (2 if key in _POINT_KEYS else 4 if key in _BOX_KEYS else -1):
            values = value
    if values is None or not all(_is_number(value) for value in values):
        raise ActionParseError(f"The JSON names no place. {HINT}")
    return tuple(float(value) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)
