"""Regret preference: which of two stretches of play looks like the better decisions, where values are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Segment:
    """A stretch of play.

    Attributes:
        reward: Sum of its rewards.
        start_value: Optimal value of the state that it starts in.
        end_value: Optimal value of the state that it ends in.
    """

    reward: float
    start_value: float
    end_value: float

    @property
    def regret(self) -> float:
        """How much worse it did than the best play from its start, for a deterministic world."""
        return self.start_value - self.reward - self.end_value


def regret_preference(first: Segment, second: Segment) -> float:
    """Return the probability that the first is preferred, by regret (arXiv 2206.02231).

    To label pairs for reward learning in worlds whose optimal values are known. Unlike the sum of rewards it sees
    where a segment leads to.
    """
    return _sigmoid(second.regret - first.regret)


def return_preference(first: Segment, second: Segment) -> float:
    """Return the probability that the first is preferred, by the rewards of the segments alone: the usual model."""
    return _sigmoid(first.reward - second.reward)


def _sigmoid(value: float) -> float:
    return float(0.5 * (1 + np.tanh(0.5 * value)))  # exp could overflow
