"""RTO: a reward for each token, from a model that was trained on preferences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import Array


@dataclass(frozen=True)
class RtoWeights:
    """Weights of the parts; the released code's.

    Attributes:
        dpo: Of the log-ratio of the DPO model to the reference.
        limit: Largest that this part may be, either way, after weighting.
        kl: Of the policy's own log-ratio to the reference, which is a cost.
    """

    dpo: float = 0.05
    limit: float = 0.05
    kl: float = 0.01


def rto_token_rewards(
    dpo_log_ratios: Array, policy_log_ratios: Array, score: float, weights: RtoWeights | None = None
) -> Array:
    """Return the rewards of an answer's tokens (RTO, arXiv 2404.18922).

    Args:
        dpo_log_ratios: ``log pi_dpo - log pi_ref`` of each token, shape ``(tokens,)``.
        policy_log_ratios: ``log pi - log pi_ref`` of each token, the same shape.
        score: The reward model's, of the whole answer; the last token gets it.
        weights: Of the parts.

    Raises:
        RewardError: There are no tokens, the shapes differ, or a value is not finite.
    """
    weights = weights or RtoWeights()
    if dpo_log_ratios.ndim != 1 or dpo_log_ratios.shape != policy_log_ratios.shape or not len(dpo_log_ratios):
        raise RewardError(
            f"rto needs a ratio of each kind per token: {dpo_log_ratios.shape}, {policy_log_ratios.shape}"
        )
    rewards: Array = np.clip(weights.dpo * dpo_log_ratios, -weights.limit, weights.limit)
    rewards = rewards - weights.kl * policy_log_ratios
    rewards[-1] += score
    if not np.isfinite(rewards).all():
        raise RewardError(f"rto: the reward of token {int(np.argmin(np.isfinite(rewards)))} is not finite")
    return rewards
