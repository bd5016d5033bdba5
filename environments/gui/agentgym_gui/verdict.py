"""Hit or miss, as the benchmarks' authors decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from agentgym.rewards.gaussian import Box, Point, centre

Edges = Literal["closed", "half_open"]
EDGES: tuple[str, ...] = get_args(Edges)


@dataclass(frozen=True)
class Target:
    """What an answer must hit, in pixels.

    Attributes:
        box: ``(x1, y1, x2, y2)``; of a polygon what bounds it. ``None``: there is nothing to hit, and the right answer
            is to refuse.
        polygon: Corners in order, where the target is no rectangle.
    """

    box: Box | None
    polygon: tuple[Point, ...] = ()


def hits(target: Target, point: Point, edges: str = "closed") -> bool:
    """Say whether a point hits a target.

    Args:
        target: What is to be hit; one that is to be refused is never hit.
        point: In pixels.
        edges: ``closed``: every edge of a box is inside, as SeeClick's (arXiv 2401.10935) and ScreenSpot-Pro's
            (arXiv 2504.07981) own evaluations have it. ``half_open``: the right and lower ones are not, as in the
            published log of OmniParser. The edges of a polygon always count as inside (design).
    """
    if target.box is None:
        return False
    if target.polygon:
        return _in_polygon(point, target.polygon)
    (x, y), (x1, y1, x2, y2) = point, target.box
    if edges == "half_open":
        return x1 <= x < x2 and y1 <= y < y2
    return x1 <= x <= x2 and y1 <= y <= y2


def inner_point(target: Target) -> Point:
    """Return a point that hits: the centre, or of a polygon that misses it the middle of its widest stretch.

    Raises:
        ValueError: There is nothing to hit.
    """
    if target.box is None:
        raise ValueError("there is nothing to hit")
    middle = centre(target.box)
    if not target.polygon or _in_polygon(middle, target.polygon):
        return middle
    _, y1, _, y2 = target.box
    best: tuple[float, Point] = (0.0, middle)
    for step in range(1, 16):  # lines across, of which an odd number of sixteenths avoids most corners
        y = y1 + (y2 - y1) * step / 16
        crossings = sorted(_crossings(y, target.polygon))
        for left, right in zip(crossings[::2], crossings[1::2], strict=False):
            best = max(best, (right - left, ((left + right) / 2, y)))
    return best[1]


def _crossings(y: float, polygon: Sequence[Point]) -> list[float]:
    """Return where the edges of a polygon cross a level."""
    ends = zip(polygon, (*polygon[1:], polygon[0]), strict=True)
    return [x1 + (y - y1) * (x2 - x1) / (y2 - y1) for (x1, y1), (x2, y2) in ends if (y1 > y) != (y2 > y)]


def _in_polygon(point: Point, polygon: Sequence[Point]) -> bool:
    x, y = point
    for (x1, y1), (x2, y2) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        between = min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2)
        if between and abs((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)) < 1e-9:
            return True
    return sum(crossing > x for crossing in _crossings(y, polygon)) % 2 == 1
