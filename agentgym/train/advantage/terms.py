"""Several objectives in one group, each standardised by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agentgym.errors import UnknownNameError
from agentgym.train.advantage.group import Array, compare, group_returns
from agentgym.trajectory import Trajectory

PENALTY = "invalid_action"  # what the trainer takes off for text that was no move, as an objective of its own


def multi_objective(
    group: Sequence[Trajectory],
    rewards: Sequence[Array],
    *,
    weights: Mapping[str, float] | None = None,
    epsilon: float = 1e-4,
) -> list[Array]:
    """Standardise each reward term over the group, then add them up (as TRL's option ``normalize_then_sum``).

    A term that differs little counts as much as one that differs a lot, which a sum that is standardised as a whole
    (``grpo``) drowns. Every turn of an episode gets the same.

    Args:
        group: Episodes of one task.
        rewards: One array of shape ``(turns,)`` per episode.
        weights: By term, summed over the episode's turns; 1 where none is given. The trainer's penalty for invalid
            actions is the term ``invalid_action``.
        epsilon: Added to the deviations.

    Raises:
        UnknownNameError: No episode has a term that is weighed.
    """
    returns = group_returns(group, rewards)
    scored = [int(i) for i in np.flatnonzero(np.isfinite(returns))]
    paid = {i: {**group[i].reward_terms, PENALTY: float(returns[i]) - group[i].episode_return} for i in scored}
    names = sorted({name for terms in paid.values() for name in terms})
    weighed = dict(weights or {})
    for name in weighed:
        if scored and name not in names:
            raise UnknownNameError("reward term", name, names)
    totals = np.zeros(len(group))
    for name in names:
        values = np.array([paid[i].get(name, 0.0) for i in scored])
        totals[scored] += weighed.get(name, 1.0) * compare(values, values, epsilon)
    return [np.full(len(own), total) for own, total in zip(rewards, totals, strict=True)]
