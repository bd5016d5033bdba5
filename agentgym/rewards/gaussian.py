"""GUI-G²: how well a click or a box on a screen fits its target, as Gaussians instead of hit or miss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from agentgym.errors import RewardError, UnknownNameError
from agentgym.rewards.terms import measure, pay
from agentgym.rewards.trajectory_reward import OUTCOME, TrajectoryReward, place
from agentgym.trajectory import Trajectory, Turn

Box = tuple[float, float, float, float]
Point = tuple[float, float]
Variant = Literal["full", "point", "hit", "distance", "iou"]
VARIANTS: tuple[str, ...] = get_args(Variant)
EPSILON = 1e-8  # the released code's, in the covariance and under the root
LEAST_SIDE_PX = 1.0
X, Y, WIDTH, HEIGHT = "answer/x", "answer/y", "answer/width", "answer/height"
HIT = "hit"


def centre(box: Sequence[float]) -> Point:
    """Return the middle of ``[x1, y1, x2, y2]``."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def adaptive_sigmas(box: Sequence[float], alpha: float = 0.5) -> Point:
    """Return the deviations of a box's Gaussian in x and y: ``alpha`` times its sides."""
    return alpha * (box[2] - box[0]), alpha * (box[3] - box[1])


def point_reward(point: Sequence[float], target: Sequence[float], alpha: float = 0.5) -> float:
    """Return the height of the target's Gaussian at a point, 1 at its centre (arXiv 2507.15846).

    Args:
        point: ``x, y``, in the frame of the target.
        target: ``[x1, y1, x2, y2]``.
        alpha: Deviation over side.
    """
    (x, y), (sigma_x, sigma_y) = centre(target), adaptive_sigmas(target, alpha)
    square = (point[0] - x) ** 2 / (sigma_x**2 + EPSILON) + (point[1] - y) ** 2 / (sigma_y**2 + EPSILON)
    return math.exp(-square / 2)


def coverage_reward(box: Sequence[float], target: Sequence[float], alpha: float = 0.5) -> float:
    """Return how far the Gaussians of two boxes are the same: their Bhattacharyya coefficient (arXiv 2507.15846).

    Symmetric in the boxes; at most 1, which rounding alone would exceed.
    """
    determinant, own, square = 1.0, 1.0, 0.0
    sigmas = zip(adaptive_sigmas(box, alpha), adaptive_sigmas(target, alpha), strict=True)
    for here, there, (one, other) in zip(centre(box), centre(target), sigmas, strict=True):
        variance = (one**2 + other**2) / 2 + EPSILON
        square += (here - there) ** 2 / variance
        determinant *= variance
        own *= one**2 * other**2
    return min(1.0, math.exp(-square / 8 - math.log(determinant / math.sqrt(own + EPSILON)) / 2))


def gaussian_reward(
    box: Sequence[float], target: Sequence[float], alpha: float = 0.5, nu: float = 1.0, gamma: float = 1.0
) -> float:
    """Return ``nu`` times the point reward of the box's centre plus ``gamma`` times its coverage (arXiv 2507.15846)."""
    return nu * point_reward(centre(box), target, alpha) + gamma * coverage_reward(box, target, alpha)


def overlap(box: Sequence[float], target: Sequence[float]) -> float:
    """Return the area that two boxes share over the area that either covers (IoU)."""
    width = min(box[2], target[2]) - max(box[0], target[0])
    height = min(box[3], target[3]) - max(box[1], target[1])
    shared = max(0.0, width) * max(0.0, height)
    either = sum((one[2] - one[0]) * (one[3] - one[1]) for one in (box, target)) - shared
    return shared / either


def is_hit(point: Sequence[float], target: Sequence[float]) -> bool:
    """Say whether a point lies in a box, edges included."""
    return target[0] <= point[0] <= target[2] and target[1] <= point[1] <= target[3]


def clamp_sides(box: Sequence[float], least: float = LEAST_SIDE_PX) -> Box:
    """Return the box with sides of at least so much, around the same centre (design)."""
    (x, y), half = centre(box), least / 2
    half_width, half_height = max(half, (box[2] - box[0]) / 2), max(half, (box[3] - box[1]) / 2)
    return x - half_width, y - half_height, x + half_width, y + half_height


@dataclass(frozen=True)
class Prediction:
    """Where the answer points, in pixels, and the box that it drew; ``None`` if it was a point."""

    point: Point
    box: Box | None = None

    @property
    def hollow(self) -> bool:
        """True of an inverted or empty box."""
        return self.box is not None and (self.box[2] <= self.box[0] or self.box[3] <= self.box[1])


def read_prediction(measures: Mapping[str, float]) -> Prediction | None:
    """Return what an environment read in an answer; ``None`` for a turn that gave none.

    Args:
        measures: ``answer/x`` and ``answer/y``, a point or a box's centre; of a box ``answer/width`` and
            ``answer/height`` as well, negative where it was inverted.
    """
    if X not in measures or Y not in measures:
        return None
    x, y = measures[X], measures[Y]
    if WIDTH not in measures or HEIGHT not in measures:
        return Prediction((x, y))
    half_width, half_height = measures[WIDTH] / 2, measures[HEIGHT] / 2
    return Prediction((x, y), (x - half_width, y - half_height, x + half_width, y + half_height))


def write_prediction(prediction: Prediction) -> dict[str, float]:
    """Return the measures that :func:`read_prediction` reads."""
    measures = {X: prediction.point[0], Y: prediction.point[1]}
    if prediction.box is not None:
        measures |= {WIDTH: prediction.box[2] - prediction.box[0], HEIGHT: prediction.box[3] - prediction.box[1]}
    return measures


class Gaussian(TrajectoryReward):
    """Pays an answer on a screen by two Gaussians, point and coverage, instead of hit or miss (GUI-G², 2507.15846).

    The target is ``privileged["box"]``, ``[x1, y1, x2, y2]`` in pixels; the answer is in the turn's measures, where the
    environment put it, in the same frame (:func:`read_prediction`). Each turn with an answer is paid, every other turn,
    and a refusal to answer, nothing. Whether the answer hit is always measured as ``hit``, the environment's verdict
    where it gave one: a near miss is paid about 0.6, so that this reward is no accuracy.

    Design: an inverted or empty box is paid 0, since squares forget the sign and an inverted copy of the target would
    earn all; sides are at least one pixel; a point has no extent, so that it earns the point's part alone; there is no
    rounding. The variants besides ``full`` are for comparison: ``hit`` is the sparse reward; ``distance`` is 1 minus
    the distance of the centres over the screen's diagonal; ``iou`` is the overlap.

    Args:
        variant: ``full``, ``point``, ``hit``, ``distance`` or ``iou``.
        alpha: Deviation over side.
        nu: Weight of the point's part.
        gamma: Weight of the coverage.
        term: Name of the term that is paid.
        instead_of: Terms that are no longer paid, but measured.

    Raises:
        UnknownNameError: There is no such variant.
        RewardError: A setting cannot be.
    """

    causal = True

    def __init__(
        self,
        variant: str = "full",
        *,
        alpha: float = 0.5,
        nu: float = 1.0,
        gamma: float = 1.0,
        term: str = "gaussian",
        instead_of: Sequence[str] = (OUTCOME,),
    ) -> None:
        if variant not in VARIANTS:
            raise UnknownNameError("variant of gaussian", variant, VARIANTS)
        if not (0 < alpha < math.inf and 0 <= nu < math.inf and 0 <= gamma < math.inf):
            raise RewardError(f"gaussian needs alpha above 0 and weights from 0, not {alpha}, {nu}, {gamma}")
        self.variant, self.alpha, self.nu, self.gamma = variant, alpha, nu, gamma
        self.term, self.instead_of = term, tuple(instead_of)

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Pay every turn that gave an answer.

        Raises:
            RewardError: There is no target, it is inverted, or the episode ended with an answer that nobody read.
        """
        if not trajectory.turns:
            return trajectory
        target = read_target(trajectory)
        found = [read_prediction(turn.measures) for turn in trajectory.turns]
        last = len(found) - 1
        refused = HIT in trajectory.turns[last].measures  # judged without a place: the agent said that there is none
        if trajectory.ended == "terminated" and found[last] is None and not refused:
            raise RewardError(
                f"{place(trajectory, last)} ended the episode, but has no measures {X!r} and {Y!r}, only "
                f"{sorted(trajectory.turns[last].measures)}; the environment must put there what was answered"
            )
        for number, prediction in enumerate(found):
            _check_prediction(prediction, place(trajectory, number))
        hits = [
            None if p is None else _verdict(turn, p, target) for turn, p in zip(trajectory.turns, found, strict=True)
        ]
        values = hits
        if self.variant != HIT:
            values = [None if p is None else self._value(p, target, trajectory) for p in found]
        return measure(pay(trajectory, self.term, values, self.instead_of), HIT, hits)

    def _value(self, prediction: Prediction, target: Box, trajectory: Trajectory) -> float:
        if prediction.hollow:
            return 0.0
        extent = None if prediction.box is None else clamp_sides(prediction.box)
        if self.variant == "distance":
            return 1.0 - math.dist(prediction.point, centre(target)) / _diagonal(trajectory)
        if self.variant == "iou":
            return 0.0 if extent is None else overlap(extent, target)
        value = self.nu * point_reward(prediction.point, target, self.alpha)
        if self.variant == "full" and extent is not None:
            value += self.gamma * coverage_reward(extent, target, self.alpha)
        return value


def read_target(trajectory: Trajectory) -> Box:
    """Return the target's box, its sides clamped to a pixel.

    Raises:
        RewardError: ``privileged["box"]`` is missing, is not four finite numbers, or is inverted.
    """
    box: Any = trajectory.privileged.get("box")
    if box is None:
        raise RewardError(f"{place(trajectory)} has no target, privileged['box'], only {sorted(trajectory.privileged)}")
    sides = list(box) if isinstance(box, Sequence) and not isinstance(box, str) else []
    if len(sides) != 4 or not all(isinstance(side, int | float) and math.isfinite(side) for side in sides):
        raise RewardError(f"{place(trajectory)}: the target {box!r} is not [x1, y1, x2, y2]")
    if sides[2] < sides[0] or sides[3] < sides[1]:
        raise RewardError(f"{place(trajectory)}: the target {box!r} is inverted; is it [x, y, width, height]?")
    return clamp_sides(sides)


def _check_prediction(prediction: Prediction | None, where: str) -> None:
    if prediction is None:
        return
    if not all(map(math.isfinite, (*prediction.point, *(prediction.box or ())))):
        raise RewardError(f"{where}: the answer {prediction} is not finite")


def _verdict(turn: Turn, prediction: Prediction, target: Box) -> float:
    """Return the environment's own verdict, for targets that are no boxes, or else whether the point is in the box."""
    return float(turn.measures.get(HIT, not prediction.hollow and is_hit(prediction.point, target)))


def _diagonal(trajectory: Trajectory) -> float:
    size = trajectory.privileged.get("size")
    if not isinstance(size, Sequence) or len(size) != 2 or not all(side > 0 for side in size):
        raise RewardError(f"{place(trajectory)}: distance needs privileged['size'], [width, height], not {size!r}")
    return math.hypot(*size)
