"""Gated reward accumulation (G-RA): what a step earns counts only if the episode came to something."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import (
    OUTCOME,
    TrajectoryReward,
    check_finite,
    outcome_of,
    place,
    raw_measures,
    with_terms,
)
from agentgym.trajectory import Trajectory


class Gated(TrajectoryReward):
    """Let a reward count only if every reward of higher priority reached its gate (G-RA, arXiv 2508.10548).

    The outcome stands first and always counts, paid at the last turn. The levels follow; level ``i`` counts if the
    outcome met ``gates[0]`` and each level ``j`` before it met ``gates[j]``. Without gates a policy that farms the step
    rewards is paid for it. The inclusive comparison is the paper's ("meet a threshold"); the values are not known from
    it: an outcome of 0 for nothing or an empty answer, 0.5 for a wrong and 1 for a right one, gate 0.5, are design, and
    so is to compare a level by the sum of its terms over the episode.

    Each turn's ``measures`` keep what the environment paid as ``raw/<term>``; the last turn's have ``gates_open`` and
    ``direct_accumulation``, the return without gates. Where the latter rises and the success falls, rewards are farmed.

    Args:
        levels: Names of terms by priority below the outcome; a level of several is a list. Without any, all other
            terms are one level.
        gates: One per level: what the reward *above* it must reach.
        strict: A reward must exceed its gate, not only meet it.
        outcome: Name of the term that stands first; where it was never paid, the success counts as 0 or 1.

    Raises:
        RewardError: There is not one finite gate per level, or a term stands twice.
    """

    def __init__(
        self,
        levels: Sequence[str | Sequence[str]] = (),
        gates: Sequence[float] = (0.5,),
        *,
        strict: bool = False,
        outcome: str = OUTCOME,
    ) -> None:
        self.levels = [[level] if isinstance(level, str) else list(level) for level in levels]
        self.gates, self.strict, self.outcome = list(gates), strict, outcome
        if len(self.gates) != max(1, len(self.levels)):
            raise RewardError(f"gated: {max(1, len(self.levels))} levels need as many gates, not {len(self.gates)}")
        if not all(math.isfinite(gate) for gate in self.gates):
            raise RewardError(f"gated: a gate is a finite number: {self.gates}")
        named = [outcome, *(name for level in self.levels for name in level)]
        if len(set(named)) != len(named):
            raise RewardError(f"gated: a term stands twice in {named}")

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Close the gates on one episode.

        Raises:
            RewardError: It has no outcome, a term is not finite, or stands in no level.
        """
        if not trajectory.turns:
            return trajectory
        check_finite(trajectory)
        totals = {name: value for name, value in trajectory.reward_terms.items() if name != self.outcome}
        levels = self._levels_for(trajectory, totals)
        outcome = outcome_of(trajectory, self.outcome)
        heights = [outcome, *(sum(totals.get(name, 0.0) for name in level) for level in levels)]
        open_levels = 0
        for height, gate in zip(heights, self.gates, strict=False):
            if not (height > gate if self.strict else height >= gate):
                break
            open_levels += 1
        counted = {name for level in levels[:open_levels] for name in level}
        turns = [
            with_terms(turn, {k: v for k, v in turn.reward_terms.items() if k in counted}, raw_measures(turn))
            for turn in trajectory.turns
        ]
        turns[-1] = with_terms(
            turns[-1],
            {**turns[-1].reward_terms, self.outcome: outcome},
            {"gates_open": float(open_levels), "direct_accumulation": sum(heights)},
        )
        return replace(trajectory, turns=tuple(turns))

    def _levels_for(self, trajectory: Trajectory, totals: dict[str, float]) -> list[list[str]]:
        if not self.levels:
            return [sorted(totals)]
        unknown = sorted(set(totals) - {name for level in self.levels for name in level})
        if unknown:
            raise RewardError(f"{place(trajectory)} pays {unknown}, which stand in no level of gated: {self.levels}")
        return self.levels
