"""Advantages: what each turn of an update's episodes was worth. Pure numpy.

An estimator sees one group, i.e. episodes of one task from one initial state, with one reward per turn, and returns
one advantage per turn. ``grpo``, ``dr_grpo``, ``rloo`` and ``multi_objective`` give every turn of an episode the same;
``gigpo``, ``igpo`` and ``turn_level`` tell turns apart. ``reinforce_plus_plus`` sees all groups of an update at once.
Others are found in the entry-point group ``agentgym.advantages``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from agentgym.errors import UnknownNameError
from agentgym.registry import list_names, load_named
from agentgym.train.advantage.anchors import gigpo
from agentgym.train.advantage.batch import reinforce_plus_plus
from agentgym.train.advantage.gae import gae, token_rewards
from agentgym.train.advantage.group import (
    Array,
    discounted_returns,
    dr_grpo,
    group_returns,
    grpo,
    is_tied,
    rloo,
    turn_rewards,
)
from agentgym.train.advantage.terms import multi_objective
from agentgym.train.advantage.turns import igpo, turn_level
from agentgym.trajectory import Trajectory

__all__ = [
    "ADVANTAGES",
    "ADVANTAGES_GROUP",
    "AdvantageEstimator",
    "Array",
    "across_groups",
    "discounted_returns",
    "dr_grpo",
    "estimate_advantages",
    "find_advantage",
    "gae",
    "gigpo",
    "group_returns",
    "grpo",
    "igpo",
    "is_tied",
    "multi_objective",
    "reinforce_plus_plus",
    "rloo",
    "token_rewards",
    "turn_level",
    "turn_rewards",
]

ADVANTAGES_GROUP = "agentgym.advantages"

# Takes a group (trajectories of one task and seed, at least two), its rewards (one array of shape ``(turns,)`` per
# trajectory, NaN where a turn could not be scored) and keywords from the recipe; returns arrays of the same shapes.
AdvantageEstimator = Callable[..., list[Array]]
Estimator = TypeVar("Estimator", bound=AdvantageEstimator)


def across_groups(estimator: Estimator) -> Estimator:
    """Mark an estimator that is given the episodes of all groups of an update at once."""
    estimator.across_groups = True  # type: ignore[attr-defined]  # functions take attributes, their types do not
    return estimator


ADVANTAGES: dict[str, AdvantageEstimator] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
    "gigpo": gigpo,
    "igpo": igpo,
    "turn_level": turn_level,
    "multi_objective": multi_objective,
    "reinforce_plus_plus": across_groups(reinforce_plus_plus),
}


def find_advantage(name: str) -> AdvantageEstimator:
    """Return an estimator by name.

    Raises:
        UnknownNameError: Neither this package nor an installed distribution has it.
    """
    if name in ADVANTAGES:
        return ADVANTAGES[name]
    installed = list_names(ADVANTAGES_GROUP)
    if name not in installed:
        raise UnknownNameError("advantage", name, [*ADVANTAGES, *installed])
    estimator: AdvantageEstimator = load_named(ADVANTAGES_GROUP, "advantage", name)
    return estimator


def estimate_advantages(
    estimator: AdvantageEstimator,
    groups: Sequence[tuple[Sequence[Trajectory], Sequence[Array]]],
    kwargs: Mapping[str, Any],
) -> list[list[Array]]:
    """Apply an estimator to an update's groups, each by itself or all at once, as the estimator wants.

    Args:
        estimator: Of this package, or marked with :func:`across_groups` if it wants all groups.
        groups: Members and rewards of each.
        kwargs: Keywords of the estimator.

    Returns:
        For each group the advantages of its members, each of shape ``(turns,)``.
    """
    if not getattr(estimator, "across_groups", False):
        return [estimator(members, rewards, **kwargs) for members, rewards in groups]
    flat = iter(
        estimator([t for members, _ in groups for t in members], [r for _, own in groups for r in own], **kwargs)
    )
    return [[next(flat) for _ in members] for members, _ in groups]
