"""Estimators that tell the turns of an episode apart by their rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from agentgym.errors import UsageError
from agentgym.train.advantage.group import Array, compare, discounted_returns, group_returns
from agentgym.trajectory import Trajectory


def igpo(
    group: Sequence[Trajectory],
    rewards: Sequence[Array],
    *,
    pools: Literal["separate", "joint"] = "separate",
    discount: float = 1.0,
    gain_term: str = "information_gain",
) -> list[Array]:
    """Standardise gains and outcomes over the group, then add up what follows each turn (IGPO, arXiv 2510.14967).

    The last turn's reward is the outcome, those before it are gains, as the reward method ``information_gain`` writes
    them. Deviations are those of the released code: of the population, ``sqrt(variance + 1e-8) + 1e-6``; a pool of one
    value becomes 0.

    Args:
        group: Episodes of one task.
        rewards: One array of shape ``(turns,)`` per episode.
        pools: Standardise gains among gains and outcomes among outcomes, or all of them together.
        discount: Of what follows, once standardised.
        gain_term: Reward term that every turn but the last must have.

    Raises:
        UsageError: A turn has no gain, or ``pools`` is neither.
    """
    if pools not in ("separate", "joint"):
        raise UsageError(f"pools is 'separate' or 'joint', not {pools!r}")
    scored = _scored(group, rewards)
    for i in scored:
        for number, turn in enumerate(group[i].turns[:-1]):
            if gain_term not in turn.reward_terms:
                raise UsageError(
                    f"igpo compares gains, but turn {number} of {group[i].task_id!r} ({group[i].env_id}) has no term "
                    f"{gain_term!r}; put the reward method information_gain into the recipe"
                )
    standard = [np.zeros(len(own)) for own in rewards]
    parts = [slice(None)] if pools == "joint" else [slice(None, -1), slice(-1, None)]
    for part in parts:
        values = np.concatenate([rewards[i][part] for i in scored]) if scored else np.zeros(0)
        if not len(values):
            continue
        centre = values.mean()
        spread = math.sqrt(values.var() + 1e-8) + 1e-6
        for i in scored:
            standard[i][part] = (rewards[i][part] - centre) / spread
    return [discounted_returns(own, discount) for own in standard]


def turn_level(
    group: Sequence[Trajectory],
    rewards: Sequence[Array],
    *,
    discount: float = 1.0,
    deviation: bool = True,
    epsilon: float = 1e-4,
    least_share: float = 0.5,
) -> list[Array]:
    """Add up what follows each turn, then compare it with the same turn of the group's other episodes (design).

    The other order than :func:`igpo`'s. Few episodes reach a late turn, and two that do would get plus and minus the
    same whatever they were paid; so turns that less than ``least_share`` of the episodes reach are compared together
    with the last turn that enough of them reach.

    Args:
        group: Episodes of one task.
        rewards: One array of shape ``(turns,)`` per episode.
        discount: Of later rewards.
        deviation: Divide by the sample deviation.
        epsilon: Added to it.
        least_share: Share of the episodes, at least two of them, that must reach a turn for it to stand by itself.

    Raises:
        UsageError: ``least_share`` is no share.
    """
    if not 0 <= least_share <= 1:
        raise UsageError(f"least_share is a share of the episodes, from 0 to 1, not {least_share}")
    scored = _scored(group, rewards)
    advantages = [np.zeros(len(own)) for own in rewards]
    if len(scored) < 2:
        return advantages
    returns = {i: discounted_returns(rewards[i], discount) for i in scored}
    needed = max(2, math.ceil(least_share * len(scored)))
    lengths = sorted((len(rewards[i]) for i in scored), reverse=True)
    last = lengths[needed - 1] - 1  # the last turn that enough episodes reach
    for turn in range(last + 1):
        among = slice(turn, turn + 1) if turn < last else slice(turn, None)
        values = np.concatenate([returns[i][among] for i in scored])
        for i in scored:
            advantages[i][among] = compare(returns[i][among], values, epsilon, deviation)
    return advantages


def _scored(group: Sequence[Trajectory], rewards: Sequence[Array]) -> list[int]:
    returns = group_returns(group, rewards)
    return [int(i) for i in np.flatnonzero(np.isfinite(returns)) if len(rewards[i])]
