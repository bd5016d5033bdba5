"""Advantages of parts: of an answer's phases (F-GRPO), and of the branches of a search tree (V-STAR)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from agentgym.errors import UsageError
from agentgym.train.advantage.group import Array, is_tied


def phase_advantages(rewards: Mapping[str, Array]) -> dict[str, Array]:
    """Subtract each phase's own mean from its rewards; apply each to the tokens of its phase only (arXiv 2605.12995).

    Args:
        rewards: For each phase the reward of each member of the group, shape ``(members,)``.

    Raises:
        UsageError: A phase has fewer than two rewards, or one that is not finite.
    """
    for phase, own in rewards.items():
        if len(own) < 2 or not np.isfinite(own).all():
            raise UsageError(f"phase {phase!r} needs at least 2 finite rewards, not {own}")
    return {phase: own - own.mean() for phase, own in rewards.items()}


def sibling_advantages(rewards: Sequence[Sequence[float]], epsilon: float = 1e-4) -> tuple[Array, Array]:
    """Compare the branches of one node (Sibling-GRPO of V-STAR, arXiv 2602.10699, after a third party's code).

    Args:
        rewards: For each child the rewards of the candidates below it.
        epsilon: Added to the population deviation.

    Returns:
        Values and advantages of the children, each of shape ``(children,)``; the advantage is the branching token's.
        Tied children and a child without siblings get 0.

    Raises:
        UsageError: A child has no candidate below it, or a reward is not finite.
    """
    for child, own in enumerate(rewards):
        if not own or not all(math.isfinite(reward) for reward in own):
            raise UsageError(f"child {child} needs finite rewards of candidates below it, not {list(own)}")
    values = np.array([math.fsum(own) / len(own) for own in rewards])
    if is_tied(values):
        return values, np.zeros(len(values))
    return values, (values - values.mean()) / (values.std() + epsilon)


def expansion_score(gain: float, root_visits: int, visits: int, exploration: float = 1.0) -> float:
    """Return a node's gain and what few visits may hide (V-STAR, arXiv 2602.10699); its weight's value is design."""
    return gain + exploration * math.sqrt(math.log(root_visits + 1) / (visits + 1))


def expansion_gain(value: float, entropy: float, entropy_weight: float = 0.1) -> float:
    """Return a node's value and, a little, how undecided the policy is there, in nats (V-STAR)."""
    return value + entropy_weight * entropy
