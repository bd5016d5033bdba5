"""GiGPO: turns compared with turns that met the same state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentgym.errors import UsageError
from agentgym.train.advantage.group import Array, compare, discounted_returns, group_returns
from agentgym.trajectory import Trajectory


def gigpo(
    group: Sequence[Trajectory],
    rewards: Sequence[Array],
    *,
    discount: float = 0.95,
    step_weight: float = 1.0,
    deviation: bool = True,
    across_steps: bool = False,
    epsilon: float = 1e-6,
) -> list[Array]:
    """Add to the episode's advantage that of each turn among the turns that met the same state (GiGPO, 2505.10978).

    A turn's return is the discounted sum of the rewards from it on. Turns of the group with equal ``state_key``, of
    one episode or of several, are compared with each other; one that stands alone gets 0. So a step back to where one
    was costs, though the episode may be won.

    Args:
        group: Episodes of one task.
        rewards: One array of shape ``(turns,)`` per episode.
        discount: Of later rewards.
        step_weight: Of the turn's part.
        deviation: Divide both parts by the sample deviation of what they are compared with.
        across_steps: Take the episode's mean and deviation over all turns, as the released code does, so that a longer
            episode counts more; the paper takes them over episodes.
        epsilon: Added to the deviations.

    Raises:
        UsageError: A turn has no ``state_key``.
    """
    returns = group_returns(group, rewards)
    scored = [i for i in np.flatnonzero(np.isfinite(returns)) if len(rewards[i])]
    advantages = [np.zeros(len(own)) for own in rewards]
    if not scored:
        return advantages
    among = np.concatenate([np.full(len(rewards[i]) if across_steps else 1, returns[i]) for i in scored])
    anchors: dict[str, list[tuple[int, int]]] = {}
    later: dict[int, Array] = {}
    for i in scored:
        advantages[i] += compare(returns[i : i + 1], among, epsilon, deviation)
        later[i] = discounted_returns(rewards[i], discount)
        for turn in range(len(rewards[i])):
            anchors.setdefault(_state_key(group[i], turn), []).append((i, turn))
    for met in anchors.values():
        values = np.array([later[i][turn] for i, turn in met])
        for (i, turn), value in zip(met, compare(values, values, epsilon, deviation), strict=True):
            advantages[i][turn] += step_weight * value
    return advantages


def _state_key(trajectory: Trajectory, turn: int) -> str:
    key = trajectory.turns[turn].state_key
    if not key:
        raise UsageError(
            f"gigpo compares turns that met the same state, but turn {turn} of {trajectory.task_id!r} "
            f"({trajectory.env_id}) has no state_key; let the environment give one, or take another advantage"
        )
    return key
