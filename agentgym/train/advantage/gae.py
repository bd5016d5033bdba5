"""What an actor-critic learner needs: rewards on tokens, and generalised advantage estimation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentgym.errors import UsageError
from agentgym.train.advantage.group import Array


def gae(
    rewards: Sequence[float] | Array,
    values: Sequence[float] | Array,
    discount: float = 1.0,
    trace: float = 0.95,
    *,
    last_value: float = 0.0,
) -> Array:
    """Estimate advantages with a value head (GAE, arXiv 1506.02438).

    Args:
        rewards: Of each step (a turn, or a sampled token), shape ``(steps,)``.
        values: What the head expected at each step, same shape.
        discount: The paper's gamma.
        trace: Its lambda: 0 trusts the value head, 1 the rewards.
        last_value: Expected after the last step: 0 where the episode ended, the head's word where a limit cut it.

    Returns:
        Advantages, shape ``(steps,)``; with ``values`` added they are the head's targets.

    Raises:
        UsageError: Shapes differ, or something is not finite.
    """
    paid, expected = np.asarray(rewards, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if paid.shape != expected.shape or paid.ndim != 1:
        raise UsageError(f"rewards and values are one each per step, but have shapes {paid.shape} and {expected.shape}")
    if not (np.isfinite(paid).all() and np.isfinite(expected).all() and np.isfinite(last_value)):
        raise UsageError("a reward or value is not finite")
    errors = paid + discount * np.append(expected[1:], last_value)[: len(paid)] - expected
    advantages = np.zeros(len(paid))
    following = 0.0
    for step in reversed(range(len(paid))):
        advantages[step] = following = errors[step] + discount * trace * following
    return advantages


def token_rewards(
    spans: Sequence[tuple[int, int]], rewards: Sequence[float], divergences: Sequence[float], kl_coef: float = 0.0
) -> Array:
    """Put each turn's reward on its last sampled token, less a cost of divergence on every sampled token.

    Args:
        spans: Half-open spans of the turns' sampled tokens, in order.
        rewards: One per turn.
        divergences: From the reference in nats, per token of the whole sequence; the world's tokens are not read.
        kl_coef: Cost of a nat.

    Returns:
        Shape ``(tokens,)``; 0 on tokens that the policy did not sample.

    Raises:
        UsageError: Spans overlap, are empty, leave the sequence, or are not one per reward.
    """
    paid = np.zeros(len(divergences))
    if len(spans) != len(rewards):
        raise UsageError(f"{len(spans)} turns need as many rewards, not {len(rewards)}")
    end = 0
    for (start, stop), reward in zip(spans, rewards, strict=True):
        if not end <= start < stop <= len(paid):
            raise UsageError(f"span {(start, stop)} does not follow {end} within {len(paid)} tokens")
        paid[start:stop] = -kl_coef * np.asarray(divergences[start:stop], dtype=np.float64)
        paid[stop - 1] += reward
        end = stop
    return paid
