"""DAPO's soft punishment of answers that are nearly too long."""

from __future__ import annotations

from dataclasses import replace

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import TrajectoryReward, check_spans, with_terms
from agentgym.trajectory import Trajectory

TERM = "overlong"


class Overlong(TrajectoryReward):
    """Add a cost that grows as an episode's sampled tokens near their limit (DAPO, arXiv 2503.14476, equation 13).

    0 up to ``max_tokens - cache_tokens``, then falling in a straight line to -1 at ``max_tokens``, and -1 beyond. It is
    the term ``overlong`` of the last turn. That the tokens of all turns count together is design: the paper has one.

    Args:
        max_tokens: Longest that an episode should be, in sampled tokens.
        cache_tokens: Width of the slope.
        weight: Of the cost.

    Raises:
        RewardError: The slope is not within the limit.
    """

    def __init__(self, max_tokens: int, cache_tokens: int, *, weight: float = 1.0) -> None:
        if not 0 < cache_tokens <= max_tokens:
            raise RewardError(f"overlong: cache_tokens is from 1 to max_tokens ({max_tokens}), not {cache_tokens}")
        self.max_tokens, self.cache_tokens, self.weight = max_tokens, cache_tokens, weight

    def cost(self, tokens: int) -> float:
        """Return the reward, from -1 to 0, of so many tokens."""
        return min(0.0, max(-1.0, (self.max_tokens - self.cache_tokens - tokens) / self.cache_tokens))

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Charge one episode.

        Raises:
            RewardError: A turn does not say which tokens were sampled.
        """
        if not trajectory.turns:
            return trajectory
        check_spans(trajectory)
        *turns, last = trajectory.turns
        charged = {**last.reward_terms, TERM: self.weight * self.cost(trajectory.sampled_tokens)}
        return replace(trajectory, turns=(*turns, with_terms(last, charged)))
