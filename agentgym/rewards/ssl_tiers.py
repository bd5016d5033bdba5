"""SSL tiers: how near an episode came to its goal, cut into a few steps, beside whether it got there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from agentgym.errors import RewardError
from agentgym.rewards.terms import TurnFigure, check_figure, measure, pay_last, read_turns
from agentgym.rewards.trajectory_reward import TrajectoryReward
from agentgym.trajectory import Trajectory

_OVER_TURNS: dict[str, Callable[[Sequence[float]], float]] = {
    "max": max,
    "mean": lambda values: math.fsum(values) / len(values),
    "last": lambda values: values[-1],
}


class SslTiers(TrajectoryReward):
    """Adds ``weight * tier(proximity)`` to the last turn, beside the outcome (arXiv 2601.22491).

    Cutting proximity into tiers is the point: inside a tier episodes are equal, so the noise of a dense score teaches
    nothing. The paper reports four tiers to be best; the form, outcome plus weighted tier, is the paper's. Design: the
    edges, the tiers' values, the weight, and the maximum over turns.

    Args:
        proximity: Nearness to the goal after each turn, larger is nearer: a function of a turn,
            ``"measure/<name>"`` or ``"reward/<term>"``. It is measured as ``ssl_proximity``.
        edges: Where a tier ends and the next begins, rising; a value on an edge is in the upper tier.
        tiers: What each tier is worth, never falling; one more than there are edges.
        weight: Of the tier.
        over_turns: How the turns' proximities make the episode's.
        term: Name of the term that is paid.

    Raises:
        RewardError: Edges and tiers do not fit, or ``proximity`` names nothing.
    """

    def __init__(
        self,
        proximity: TurnFigure,
        *,
        edges: Sequence[float] = (0.25, 0.5, 0.75),
        tiers: Sequence[float] = (0.0, 1 / 3, 2 / 3, 1.0),
        weight: float = 0.5,
        over_turns: Literal["max", "mean", "last"] = "max",
        term: str = "ssl",
    ) -> None:
        if len(tiers) != len(edges) + 1 or list(edges) != sorted(set(edges)) or list(tiers) != sorted(tiers):
            raise RewardError(f"ssl_tiers needs rising edges and one tier more than edges, not {edges} and {tiers}")
        if over_turns not in _OVER_TURNS:
            raise RewardError(f"ssl_tiers: over_turns is one of {sorted(_OVER_TURNS)}, not {over_turns!r}")
        self.proximity = check_figure(proximity)
        self.edges, self.tiers, self.weight = edges, tiers, weight
        self.over_turns, self.term = over_turns, term

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Pay the last turn the episode's tier.

        Raises:
            RewardError: Proximity is missing on a turn or not finite.
        """
        if not trajectory.turns:
            return trajectory
        near = read_turns(trajectory, self.proximity)
        value = self.weight * tier_of(_OVER_TURNS[self.over_turns](near), self.edges, self.tiers)
        return pay_last(measure(trajectory, f"{self.term}_proximity", near), self.term, value)


def tier_of(proximity: float, edges: Sequence[float], tiers: Sequence[float]) -> float:
    """Return what the tier that a proximity falls into is worth."""
    return float(tiers[int(np.searchsorted(edges, proximity, side="right"))])
