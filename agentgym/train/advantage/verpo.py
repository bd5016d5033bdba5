"""VeRPO's advantage: the episode's among episodes, and each turn's tests among all turns of the group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import place
from agentgym.rewards.verpo import TERM
from agentgym.train.advantage.group import Array, group_returns
from agentgym.trajectory import Trajectory


def verpo(group: Sequence[Trajectory], rewards: Sequence[Array], *, weight: float = 0.5) -> list[Array]:
    """Return ``(outcome - mean) + weight * (tests - mean over all turns)`` for each turn (VeRPO, arXiv 2601.03525).

    Nothing is divided by a deviation. The outcome is the return without the term ``verpo``, which the reward method of
    that name has already discounted by the episode's length. Design: the weight, and that a turn that ran no tests is
    left out of the mean and gets the episode's part alone.

    Args:
        group: Episodes of one task, shaped by the reward method ``verpo``.
        rewards: One array of shape ``(turns,)`` per episode, the term included.
        weight: Of the turns' part.

    Raises:
        UsageError: Fewer than two episodes, or not one reward per turn.
        RewardError: No turn of the group has the term ``verpo``.
    """
    scored = np.isfinite(group_returns(group, rewards))
    advantages = [np.zeros(len(own)) for own in rewards]
    if scored.sum() < 2:
        return advantages
    tests = [np.array([turn.reward_terms.get(TERM, np.nan) for turn in member.turns]) for member in group]
    pool = np.concatenate([own for own, counts in zip(tests, scored, strict=True) if counts])
    if np.isnan(pool).all():
        raise RewardError(
            f"{place(group[0])}: no turn of the group has the term {TERM!r}: the advantage {TERM!r} needs the reward "
            "method of the same name in the recipe"
        )
    outcomes = np.array([own.sum() - np.nansum(paid) for own, paid in zip(rewards, tests, strict=True)])
    for i in np.flatnonzero(scored):
        of_turns = np.where(np.isnan(tests[i]), 0.0, tests[i] - np.nanmean(pool))
        advantages[i] += outcomes[i] - outcomes[scored].mean() + weight * of_turns
    return advantages
