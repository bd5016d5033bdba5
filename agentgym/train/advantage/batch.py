"""REINFORCE++: the whole batch is the baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentgym.errors import UsageError
from agentgym.train.advantage.group import Array, discounted_returns, is_tied
from agentgym.trajectory import Trajectory


def reinforce_plus_plus(
    batch: Sequence[Trajectory],
    rewards: Sequence[Array],
    *,
    discount: float = 1.0,
    group_baseline: bool = False,
    epsilon: float = 1e-8,
) -> list[Array]:
    """Whiten what follows each turn over all sampled tokens of the batch (REINFORCE++, arXiv 2501.03262).

    The variant is that of verl: the return from each token on, minus its mean over the sampled tokens of *all* groups,
    divided by the root of their sample variance plus ``epsilon``. The tokens of a turn share the return from the turn
    on, and ``discount`` is per turn, not per token (design). The paper's divergence from the reference inside the
    reward is left to the loss (``kl_coef``).

    Args:
        batch: Episodes of all groups of an update.
        rewards: One array of shape ``(turns,)`` per episode, NaN where a turn could not be scored.
        discount: Of later rewards.
        group_baseline: Take the mean return of an episode's group off first (REINFORCE++-baseline).
        epsilon: Added to the variance.

    Raises:
        UsageError: A turn has no sampled tokens.
    """
    scored = [i for i, own in enumerate(rewards) if batch[i].scorable and len(own) and np.isfinite(own).all()]
    advantages = [np.zeros(len(own)) for own in rewards]
    if not scored:
        return advantages
    baseline = _group_means(batch, rewards, scored) if group_baseline else np.zeros(len(batch))
    values = np.concatenate([discounted_returns(rewards[i], discount) - baseline[i] for i in scored])
    tokens = np.concatenate([_tokens(batch[i]) for i in scored])
    if is_tied(values):
        return advantages
    centred = values - np.average(values, weights=tokens)
    variance = (tokens * centred**2).sum() / max(1, tokens.sum() - 1)
    white = centred / np.sqrt(variance + epsilon)
    for i, own in zip(scored, np.split(white, np.cumsum([len(rewards[i]) for i in scored])[:-1]), strict=True):
        advantages[i] = own
    return advantages


def _group_means(batch: Sequence[Trajectory], rewards: Sequence[Array], scored: Sequence[int]) -> Array:
    members: dict[tuple[str, str, int, str], list[int]] = {}
    for i in scored:
        members.setdefault((batch[i].env_id, batch[i].task_id, batch[i].seed, batch[i].group), []).append(i)
    means = np.zeros(len(batch))
    for own in members.values():
        means[own] = np.mean([rewards[i].sum() for i in own])
    return means


def _tokens(trajectory: Trajectory) -> Array:
    for number, turn in enumerate(trajectory.turns):
        if not turn.token_ids:
            raise UsageError(
                f"reinforce_plus_plus whitens over sampled tokens, but turn {number} of {trajectory.task_id!r} "
                f"({trajectory.env_id}) has none"
            )
    return np.array([len(turn.token_ids) for turn in trajectory.turns], dtype=np.float64)
