"""Estimators that give every turn of an episode the same, and what all estimators share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from agentgym.errors import UsageError
from agentgym.trajectory import Trajectory

Array = NDArray[np.float64]


def grpo(group: Sequence[Trajectory], rewards: Sequence[Array], *, epsilon: float = 1e-6) -> list[Array]:
    """Standardise returns with the group's sample deviation (GRPO, arXiv 2402.03300; epsilon as in verl)."""
    return per_episode(group, rewards, lambda returns: compare(returns, returns, epsilon))


def dr_grpo(group: Sequence[Trajectory], rewards: Sequence[Array]) -> list[Array]:
    """Subtract the group's mean return and do not divide (Dr.GRPO, arXiv 2503.20783)."""
    return per_episode(group, rewards, lambda returns: returns - returns.mean())


def rloo(group: Sequence[Trajectory], rewards: Sequence[Array]) -> list[Array]:
    """Subtract the mean return of the others (RLOO, arXiv 2402.14740)."""
    return per_episode(group, rewards, lambda returns: (returns - returns.mean()) * len(returns) / (len(returns) - 1))


def turn_rewards(trajectory: Trajectory, *, invalid_action_penalty: float = 0.0) -> Array:
    """Return the reward of each turn, NaN throughout if a fault of ours ended the episode."""
    if not trajectory.scorable:
        return np.full(len(trajectory.turns), math.nan)
    return np.array([turn.reward - invalid_action_penalty * turn.invalid_action for turn in trajectory.turns])


def group_returns(group: Sequence[Trajectory], rewards: Sequence[Array]) -> Array:
    """Return each trajectory's undiscounted return, NaN if it cannot be scored.

    Raises:
        UsageError: The group has fewer than two members, or the rewards are not one per turn.
    """
    if len(group) < 2:
        raise UsageError("an episode without others of its group has no baseline: a group needs at least 2")
    for trajectory, own in zip(group, rewards, strict=True):
        if own.shape != (len(trajectory.turns),):
            turns = len(trajectory.turns)
            raise UsageError(f"{turns} turns of {trajectory.task_id!r} need as many rewards, not {own.shape}")
    return np.array(
        [own.sum() if trajectory.scorable else math.nan for trajectory, own in zip(group, rewards, strict=True)]
    )


def is_tied(returns: Array) -> bool:
    """Say whether a group teaches nothing: fewer than two returns that could be scored, or all equal."""
    scored = returns[np.isfinite(returns)]
    return len(scored) < 2 or bool(np.ptp(scored) <= 1e-12 * max(1.0, float(np.abs(scored).max())))


def compare(values: Array, among: Array, epsilon: float, deviation: bool = True) -> Array:
    """Subtract the mean of ``among`` and divide by its sample deviation; 0 where nothing differs but by rounding."""
    if is_tied(among):
        return np.zeros_like(values)
    centred: Array = values - among.mean()
    return centred / (among.std(ddof=1) + epsilon) if deviation else centred


def discounted_returns(rewards: Array, discount: float) -> Array:
    """Return the discounted sum of the rewards from each turn on, shape ``(turns,)``."""
    returns = np.zeros(len(rewards))
    following = 0.0
    for turn in reversed(range(len(rewards))):
        returns[turn] = following = rewards[turn] + discount * following
    return returns


def per_episode(
    group: Sequence[Trajectory], rewards: Sequence[Array], estimate: Callable[[Array], Array]
) -> list[Array]:
    """Estimate on the returns that could be scored; the others neither shift the baseline nor get an advantage."""
    returns = group_returns(group, rewards)
    advantages = np.zeros_like(returns)
    scored = np.isfinite(returns)
    if scored.sum() >= 2:
        advantages[scored] = estimate(returns[scored])
    return [np.full(len(own), advantage) for own, advantage in zip(rewards, advantages, strict=True)]
