"""Losses of the GRPO family. Pure torch, over flat vectors of the sampled tokens of a micro-batch.

Sums are left to the caller: each token's loss is multiplied by its weight of ``aggregation_weights``, so that
micro-batches of any size add up to exactly the loss of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agentgym.train.config import Aggregation


@dataclass(frozen=True)
class PolicyLoss:
    """What is minimised; fields as in :class:`agentgym.train.config.GrpoSection`."""

    surrogate: Literal["clip", "cispo"] = "clip"
    importance: Literal["token", "sequence"] = "token"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    kl_coef: float = 0.0
    tis_cap: float | None = None


@dataclass(frozen=True)
class TokenData:
    """What is known of the sampled tokens, each tensor of shape ``(tokens,)``.

    Attributes:
        old_logprobs: Under the policy that the ratio is taken to.
        sampler_logprobs: As the sampler reported.
        advantages: One per token.
        rows: Number of the sequence that the token belongs to.
        reference_logprobs: Under the reference; ``None`` without a KL term.
    """

    old_logprobs: Tensor
    sampler_logprobs: Tensor
    advantages: Tensor
    rows: Tensor
    reference_logprobs: Tensor | None = None


@dataclass(frozen=True)
class TokenLosses:
    """Per token: the loss to weigh and sum, and for the log whether the clip cut its gradient, and its divergence."""

    loss: Tensor
    clipped: Tensor
    kl: Tensor


def token_losses(logprobs: Tensor, data: TokenData, settings: PolicyLoss) -> TokenLosses:
    """Return the loss of each token.

    Args:
        logprobs: Under the present policy, with gradient, shape ``(tokens,)``.
        data: The rest that is known of the tokens.
        settings: The loss.
    """
    ratio = importance_ratio(logprobs, data.old_logprobs, data.rows, settings.importance)
    if settings.surrogate == "cispo":
        capped = ratio.detach().clamp(max=settings.clip_high)
        loss, clipped = -capped * data.advantages * logprobs, ratio > settings.clip_high
    else:
        loss, clipped = clipped_surrogate(ratio, data.advantages, settings)
    if settings.tis_cap is not None:
        loss = loss * truncated_importance(data.old_logprobs, data.sampler_logprobs, settings.tis_cap)
    if data.reference_logprobs is None:
        return TokenLosses(loss, clipped, k3(data.old_logprobs, logprobs).detach())
    kl = k3(logprobs, data.reference_logprobs)
    return TokenLosses(loss + settings.kl_coef * kl, clipped, kl.detach())


def importance_ratio(logprobs: Tensor, old_logprobs: Tensor, rows: Tensor, level: str = "token") -> Tensor:
    """Return the ratio of present to old policy, per token or one per sequence (GSPO, arXiv 2507.18071).

    The sequence's ratio is the geometric mean over its sampled tokens. Its gradient reaches each token by the token's
    own log-probability (GSPO-token), so advantages may differ within a sequence.
    """
    log_ratio = logprobs - old_logprobs
    if level == "token":
        return log_ratio.exp()
    return mean_by_row(log_ratio.detach(), rows).exp() * (logprobs - logprobs.detach()).exp()


def clipped_surrogate(ratio: Tensor, advantages: Tensor, settings: PolicyLoss) -> tuple[Tensor, Tensor]:
    """Return PPO's clipped loss, optionally with a dual clip (arXiv 1912.09729), and where the clip holds."""
    free = ratio * advantages
    bounded = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high) * advantages
    loss = -torch.minimum(free, bounded)
    if settings.dual_clip is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -settings.dual_clip * advantages), loss)
    return loss, (bounded < free).detach()


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Return the k3 estimate of KL(present, reference) on tokens of the present policy.

    Never negative, low variance; Schulman (2020), "Approximating KL divergence". The exponent is bounded as in verl.
    """
    difference = (reference_logprobs - logprobs).clamp(-20, 20)
    return difference.exp() - difference - 1


def truncated_importance(old_logprobs: Tensor, sampler_logprobs: Tensor, cap: float) -> Tensor:
    """Return how much likelier the trainer finds each token than its sampler did, at most ``cap``; no gradient."""
    return (old_logprobs - sampler_logprobs).detach().exp().clamp(max=cap)


def mean_by_row(values: Tensor, rows: Tensor) -> Tensor:
    """Replace each value by the mean of its row; shapes ``(tokens,)``."""
    count = int(rows.max()) + 1 if len(rows) else 0
    sums = values.new_zeros(count).index_add(0, rows, values)
    sizes = torch.bincount(rows, minlength=count).clamp(min=1)
    return (sums / sizes)[rows]


def aggregation_weights(
    lengths: Sequence[int], aggregation: Aggregation, constant_length: int = 1
) -> NDArray[np.float64]:
    """Return, for each sequence of a batch, the weight of each of its tokens.

    Args:
        lengths: Sampled tokens of each sequence.
        aggregation: ``token_mean``: mean over all tokens. ``seq_mean_token_mean``: mean over sequences of their means.
            ``seq_mean_token_sum``: of their sums. ``constant``: sum over sequences times ``constant_length``.
        constant_length: Of Dr.GRPO.
    """
    sizes = np.asarray(lengths, dtype=np.float64)
    if not len(sizes):
        return sizes
    match aggregation:
        case "token_mean":
            return np.full(len(sizes), 1 / max(1.0, sizes.sum()))
        case "seq_mean_token_mean":
            return 1 / (len(sizes) * np.maximum(sizes, 1))
        case "seq_mean_token_sum":
            return np.full(len(sizes), 1 / len(sizes))
        case "constant":
            return np.full(len(sizes), 1 / (len(sizes) * constant_length))
