"""Experts for tasks with shapes, places and dragging."""

from __future__ import annotations

import math
import re

from agentgym.actions import Move
from agentgym_web.miniwob.experts.clicks import COLOURS
from agentgym_web.miniwob.experts.page import Expert, ExpertPage, Node, Point, Stuck, click, drag

SHAPES = {"circle": "circle", "rect": "rectangle", "polygon": "triangle"}


def _fits(node: Node, words: list[str], big: float) -> bool:
    kind, text = (
        ("shape", SHAPES[node.tag]) if node.tag in SHAPES else ("digit" if node.text.isdigit() else "letter", node.text)
    )
    for word in words:
        if word in ("large", "small"):
            if (_size_of(node) > big) != (word == "large"):
                return False
        elif word in COLOURS and len(word) > 1:
            if node.fill != COLOURS[word]:
                return False
        elif word != "item" and word not in (kind, text):
            return False
    return True


def _size_of(node: Node) -> float:
    if node.tag == "text":
        found = re.search(r"font-size:\s*([\d.]+)", node.attributes.get("style", ""))
        return float(found[1]) if found else float(node.attributes.get("font-size", "0").rstrip("px") or 0)
    return node.box[2]


def _find_shapes(page: ExpertPage, description: str) -> list[Node]:
    nodes = page.all("circle|rect|polygon|text", inside=page.one("svg"))
    words = description.split()
    return [node for node in nodes if _fits(node, words, 14.0)]


def click_shape(page: ExpertPage) -> Move:
    """Click a shape that fits the description."""
    found = _find_shapes(page, page.find(r"Click on a (.+)$")[1])
    if not found:
        raise Stuck("no shape fits")
    return click(found[0])


def count_shapes(page: ExpertPage) -> Move:
    """Click the number of shapes that fit the description."""
    found = _find_shapes(page, page.find(r"How many (.+)s are there")[1])
    return click(page.one("button", str(len(found))))


def name_shape(page: ExpertPage) -> Move:
    """Click what the only shape is called."""
    node = page.one("circle|rect|polygon|text", inside=page.one("svg"))
    kind = SHAPES.get(node.tag) or ("number" if node.text.isdigit() else "letter")
    return click(page.one("button", kind.capitalize()))


def click_greatest(page: ExpertPage) -> Move:
    """Turn the card with the greatest number and submit."""
    cards = [page.parent(node) for node in page.all(cls="card-value", hidden=True)]
    best = max(cards, key=lambda node: int(node.text))
    return click(page.one("button")) if page.was("click", best) else click(best)


def _then_submit(page: ExpertPage, move: Move) -> Move:
    done = any(command.startswith(move.command.split()[0]) for command in page.commands)
    return click(page.one("button")) if done else move


def _drawn(node: Node) -> Point:
    """Where a click must be for these pages to draw a point on this circle: they leave out the drawing's own margin."""
    return float(node.attributes["cx"]), float(node.attributes["cy"]) + 50


def mark_centre(page: ExpertPage) -> Move:
    """Click the middle of the circle and submit."""
    return _then_submit(page, click(_drawn(page.one("circle"))))


def mark_midpoint(page: ExpertPage) -> Move:
    """Click half way between two points and submit."""
    (ax, ay), (bx, by) = (_drawn(node) for node in page.all("circle")[:2])
    return _then_submit(page, click(((ax + bx) / 2, (ay + by) / 2)))


def mark_right_angle(page: ExpertPage) -> Move:
    """Click where a line at a right angle at the blue point ends."""
    points = page.all("circle", cls="black-circle")[:2]
    corner_node = next((node for node in points if node.fill == COLOURS["blue"]), points[1])
    other, corner = _drawn(next(node for node in points if node is not corner_node)), _drawn(corner_node)
    along = (other[0] - corner[0], other[1] - corner[1])
    for sign in (1, -1):
        for length in (0.7, 0.4, 1.0, 0.25):
            spot = (corner[0] - sign * along[1] * length, corner[1] + sign * along[0] * length)
            if _is_free(page, spot):
                return _then_submit(page, click(spot))
    raise Stuck("there is no room")


def bisect(page: ExpertPage) -> Move:
    """Click on the line that halves the angle at the blue point."""
    points = page.all("circle")[:3]
    corner_node = next((node for node in points if node.fill == COLOURS["blue"]), points[0])
    ends, corner = [_drawn(node) for node in points if node is not corner_node], _drawn(corner_node)
    units = []
    for x, y in ends:
        length = math.hypot(x - corner[0], y - corner[1])
        units.append(((x - corner[0]) / length, (y - corner[1]) / length))
    dx, dy = units[0][0] + units[1][0], units[0][1] + units[1][1]
    scale = math.hypot(dx, dy)
    for length in (45, 35, 60, 25, 15):
        spot = (corner[0] + dx / scale * length, corner[1] + dy / scale * length)
        if _is_free(page, spot):
            return _then_submit(page, click(spot))
    raise Stuck("there is no room")


def _is_free(page: ExpertPage, spot: Point) -> bool:
    x, y, width, height = page.one("svg").box
    return x + 2 < spot[0] < x + width - 2 and y + 2 < spot[1] < y + height - 2


def draw_line(page: ExpertPage) -> Move:
    """Draw a line through the dot in the named direction and submit."""
    x, y = page.one("circle").centre
    left, top, width, height = page.one("svg").box
    if "vertical" in page.task:
        span = min(y - top, top + height - y) - 3
        return _then_submit(page, drag((x, y - span), (x, y + span)))
    span = min(x - left, left + width - x) - 3
    return _then_submit(page, drag((x - span, y), (x + span, y)))


def drag_box(page: ExpertPage) -> Move:
    """Drag the smaller box into the larger one and submit."""
    boxes = [node for node in page.all("div") if node.text in ("s", "S", "L") and node.own]
    small, large = sorted(boxes, key=lambda node: node.box[2] * node.box[3])
    return _then_submit(page, drag(small, large.centre))


def drag_into(page: ExpertPage) -> Move:
    """Drag the named shapes into the black box, one after the other."""
    kind = page.find(r"Drag all (\w+?)s? into")[1]
    frame = next(node for node in page.all("rect") if node.fill == "none")
    return _fill_boxes(page, [(node, frame) for node in _movable(page) if SHAPES[node.tag] == kind])


def sort_shapes(page: ExpertPage) -> Move:
    """Drag the named shapes into one box and the rest into the other."""
    kind, side = page.find(r"Drag all (\w+?)s?(?: shapes)? into the (\w+) box").groups()
    frames = sorted((node for node in page.all("rect") if node.fill == "none"), key=lambda node: node.box[0])
    ours, rest = frames if side == "left" else frames[::-1]
    return _fill_boxes(page, [(node, ours if _is_kind(node, kind) else rest) for node in _movable(page)])


def _is_kind(node: Node, kind: str) -> bool:
    return SHAPES[node.tag] == kind or node.fill == COLOURS.get(kind)


def _movable(page: ExpertPage) -> list[Node]:
    return [node for node in page.all("circle|rect|polygon") if node.fill != "none"]


def _fill_boxes(page: ExpertPage, pairs: list[tuple[Node, Node]]) -> Move:
    for number, (node, frame) in enumerate(pairs):
        x, y = node.centre
        left, top, width, height = frame.box
        if not (left + 9 < x < left + width - 9 and top + 9 < y < top + height - 9):
            columns = max(1, int((width - 20) // 18))
            spot = (left + 12 + number % columns * 18, top + 14 + number // columns % 2 * 18)
            return drag((x, y), spot)
    return click(page.one("button"))


def drag_shape(page: ExpertPage) -> Move:
    """Drag the only shape in the named direction and submit."""
    found = page.find(r"Drag the \w+ (left|right|up|down)")[1]
    x, y = page.one("circle|polygon|rect").centre
    dx, dy = {"left": (-25, 0), "right": (25, 0), "up": (0, -25), "down": (0, 25)}[found]
    return _then_submit(page, drag((x, y), (x + dx, y + dy)))


def drag_item(page: ExpertPage) -> Move:
    """Drag an entry of a list to its place."""
    name = page.find(r"Drag (\S+)")[1]
    entries = page.all("li", inside=page.one(id="sortable", hidden=True))
    place = next(i for i, node in enumerate(entries) if node.text == name)
    wanted = _find_place(page.task, place, len(entries))
    return _drag_to(entries, place, wanted)


def _find_place(task: str, place: int, count: int) -> int:
    found = re.search(r"the (\d+)\w\w position", task)
    if found:
        return int(found[1]) - 1
    for words, wanted in (
        ("to the top", 0),
        ("to the bottom", count - 1),
        ("down by one", place + 1),
        ("up by one", place - 1),
    ):
        if words in task:
            return wanted
    raise Stuck("the task names no place")


def _drag_to(entries: list[Node], place: int, wanted: int) -> Move:
    x, y = entries[place].centre
    end = entries[wanted].centre[1] + (6 if wanted > place else -6)
    return drag((x, y), (x, end))


def drag_in_grid(page: ExpertPage) -> Move:
    """Drag an entry of a grid to its place."""
    name, where = page.find(r"Drag (.+?) ((?:to|up|down|left|right) .+)\.$").groups()
    entries = page.all("li", inside=page.one(id="sortable", hidden=True))
    place = next(i for i, node in enumerate(entries) if node.text == name)
    row, column = divmod(place, 3)
    for words, spot in _GRID.items():
        if words in where:
            row, column = spot
            break
    else:
        moves = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
        step = next(moves[word] for word in moves if word in where)
        row, column = row + step[0], column + step[1]
    wanted = row * 3 + column
    x, y = entries[wanted].centre
    # The others make room only for what comes in left of the middle, or from the left beyond it.
    if wanted < place:
        return drag(entries[place], (x - 18, y - 6))
    return drag(entries[place], (x + (-6 if wanted % 3 < place % 3 else 6), y + 6))


_GRID = {
    "top left": (0, 0), "top center": (0, 1), "top right": (0, 2), "middle left": (1, 0), "center left": (1, 0),
    "middle right": (1, 2), "center right": (1, 2), "bottom left": (2, 0), "bottom center": (2, 1),
    "bottom right": (2, 2), "the center": (1, 1), "top middle": (0, 1), "bottom middle": (2, 1), "left middle": (1, 0),
    "right middle": (1, 2),
}  # fmt: skip


def sort_numbers(page: ExpertPage) -> Move:
    """Drag the numbers into order, the smallest that is out of place first, and submit."""
    entries = page.all("li", inside=page.one(id="sortable", hidden=True))
    numbers = [int(node.text) for node in entries]
    for wanted, number in enumerate(sorted(numbers)):
        if numbers[wanted] != number:
            return _drag_to(entries, numbers.index(number), wanted)
    return click(page.one("button"))


def widen(page: ExpertPage) -> Move:
    """Drag the area's corner as the task says and submit."""
    x, y = page.one(cls="ui-resizable-se").centre
    grow = 20 if "larger" in page.task else -20
    end = (x + grow, y) if "width" in page.task else (x, y + grow)
    return _then_submit(page, drag((x, y), end))


EXPERTS: dict[str, Expert] = {
    "click-shape": click_shape, "count-shape": count_shapes, "identify-shape": name_shape,
    "find-greatest": click_greatest, "circle-center": mark_centre, "find-midpoint": mark_midpoint,
    "right-angle": mark_right_angle, "bisect-angle": bisect, "draw-line": draw_line,
    "drag-box": drag_box, "drag-shapes": drag_into, "drag-shapes-2": sort_shapes,
    "drag-circle": drag_shape, "drag-single-shape": drag_shape, "drag-items": drag_item,
    "drag-items-grid": drag_in_grid, "drag-sort-numbers": sort_numbers, "resize-textarea": widen,
}  # fmt: skip
