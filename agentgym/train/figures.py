"""What an update is described by in the log of a run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import fmean

from torch import Tensor

from agentgym.stats import wilson_interval
from agentgym.train.loss import TokenLosses
from agentgym.train.metrics import memory_mb
from agentgym.train.micro_batch import MicroBatch
from agentgym.trajectory import Trajectory

Figures = dict[str, float | int | None]


class LearningTotals:
    """Adds up what the micro-batches of an update tell."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []
        self.tokens = 0
        self.trained = 0
        self.sums = {"clip_fraction": 0.0, "kl": 0.0, "entropy": 0.0}
        self.compared = 0
        self.gap_sum = self.largest_gap = 0.0
        self.has_entropy = False

    def add_step(self, loss: float, grad_norm: float) -> None:
        """Count one optimizer step."""
        self.steps.append((loss, grad_norm))

    def add_tokens(self, batch: MicroBatch, losses: TokenLosses, gap: Tensor, entropy: Tensor | None) -> None:
        """Count the tokens of one micro-batch; ``gap``: how far trainer and sampler are apart on each.

        The gap is that of the first optimizer step, when both should be one policy: a proof of it on every token.
        """
        if not self.steps:
            self.compared += len(gap)
            self.gap_sum += float(gap.sum())
            self.largest_gap = max(self.largest_gap, float(gap.max())) if len(gap) else self.largest_gap
        self.tokens += len(batch.targets)
        self.trained += batch.tokens
        self.sums["clip_fraction"] += float(losses.clipped.sum())
        self.sums["kl"] += float(losses.kl.sum())
        if entropy is not None:
            self.has_entropy = True
            self.sums["entropy"] += float(entropy.sum())

    def figures(self) -> Figures:
        """Return means per token and per optimizer step; ``None`` where nothing was learned, e.g. all groups tied."""
        means: Figures = {name: value / self.tokens if self.tokens else None for name, value in self.sums.items()}
        if not self.has_entropy:
            means["entropy"] = None
        return {
            **means,
            "sampler_gap/mean": self.gap_sum / self.compared if self.compared else None,
            "sampler_gap/max": self.largest_gap if self.compared else None,
            "loss": fmean(loss for loss, _ in self.steps) if self.steps else None,
            "grad_norm": fmean(norm for _, norm in self.steps) if self.steps else None,
            "tokens/trained": self.trained,
        }


def describe_episodes(played: Sequence[Trajectory]) -> Figures:
    """Return reward, success with its 95 % Wilson interval, and lengths of the episodes of an update."""
    scored = [t for t in played if t.scorable]
    graded = [bool(t.success) for t in scored if t.success is not None]
    success = wilson_interval(sum(graded), len(graded)) if graded else None
    turns = [turn for t in scored for turn in t.turns]
    return {
        "reward/mean": fmean(t.episode_return for t in scored) if scored else None,
        "success/mean": success.estimate if success else None,
        "success/low": success.low if success else None,
        "success/high": success.high if success else None,
        "episodes": len(scored),
        "turns/mean": len(turns) / len(scored) if scored else None,
        "invalid/mean": fmean(turn.invalid_action for turn in turns) if turns else None,
        "truncated/mean": fmean(t.ended != "terminated" for t in scored) if scored else None,
        "tokens/sampled": sum(t.sampled_tokens for t in played),
        "infrastructure_failures": len(played) - len(scored),
    }


def describe_rewards(shaped: Sequence[Trajectory]) -> Figures:
    """Return what an episode was paid by each reward term, and what methods measured of it, as means over episodes."""
    scored = [t for t in shaped if t.scorable]
    figures: Figures = {}
    for prefix, sums in (("reward", [t.reward_terms for t in scored]), ("measure", [t.measures for t in scored])):
        for name in sorted({name for own in sums for name in own}):
            figures[f"{prefix}/{name}"] = fmean(own.get(name, 0.0) for own in sums)
    return figures


def describe_speed(
    marks_s: Sequence[float], played: Sequence[Trajectory], learned: Figures, reward_s: float = 0.0
) -> Figures:
    """Return seconds and tokens per second.

    Args:
        marks_s: Start, end of sampling, end of learning, end of the sync with its proof.
        played: Episodes of the update.
        learned: Its learning figures; ``tokens/trained`` counts padding.
        reward_s: Seconds that reward methods took before the end of sampling.
    """
    sample_s, train_s, sync_s = (later - earlier for earlier, later in itertools.pairwise(marks_s))
    sample_s -= reward_s
    return {
        "seconds/sample": sample_s,
        "seconds/reward": reward_s,
        "seconds/train": train_s,
        "seconds/sync": sync_s,
        "seconds/step": marks_s[-1] - marks_s[0],
        "tokens_per_s/sample": sum(t.sampled_tokens for t in played) / max(sample_s, 1e-9),
        "tokens_per_s/train": (learned["tokens/trained"] or 0) / max(train_s, 1e-9),
        "memory_mb": memory_mb(),
    }
