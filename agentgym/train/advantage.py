"""Advantages of the GRPO family: what each turn of a group of episodes was worth. Pure numpy.

An estimator sees one group, i.e. episodes of one task from one initial state, with one reward per turn, and returns
one advantage per turn. ``grpo``, ``dr_grpo`` and ``rloo`` give every turn of an episode the same, ``gigpo`` tells
turns apart. Others are found in the entry-point group ``agentgym.advantages``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from agentgym.errors import UnknownNameError, UsageError
from agentgym.registry import list_names, load_named
from agentgym.trajectory import Trajectory

ADVANTAGES_GROUP = "agentgym.advantages"
Array = NDArray[np.float64]


# Takes a group (trajectories of one task and seed, at least two), its rewards (one array of shape ``(turns,)`` per
# trajectory, NaN where a turn could not be scored) and keywords from the recipe; returns arrays of the same shapes.
AdvantageEstimator = Callable[..., list[Array]]


def grpo(group: Sequence[Trajectory], rewards: Sequence[Array], *, epsilon: float = 1e-6) -> list[Array]:
    """Standardise returns with the group's sample deviation (GRPO, arXiv 2402.03300; epsilon as in verl)."""
    return _per_episode(group, rewards, lambda returns: _compare(returns, returns, epsilon))


def dr_grpo(group: Sequence[Trajectory], rewards: Sequence[Array]) -> list[Array]:
    """Subtract the group's mean return and do not divide (Dr.GRPO, arXiv 2503.20783)."""
    return _per_episode(group, rewards, lambda returns: returns - returns.mean())


def rloo(group: Sequence[Trajectory], rewards: Sequence[Array]) -> list[Array]:
    """Subtract the mean return of the others (RLOO, arXiv 2402.14740)."""
    return _per_episode(group, rewards, lambda returns: (returns - returns.mean()) * len(returns) / (len(returns) - 1))


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
        advantages[i] += _compare(returns[i : i + 1], among, epsilon, deviation)
        later[i] = _discounted(rewards[i], discount)
        for turn in range(len(rewards[i])):
            anchors.setdefault(_state_key(group[i], turn), []).append((i, turn))
    for met in anchors.values():
        values = np.array([later[i][turn] for i, turn in met])
        for (i, turn), value in zip(met, _compare(values, values, epsilon, deviation), strict=True):
            advantages[i][turn] += step_weight * value
    return advantages


ADVANTAGES: dict[str, AdvantageEstimator] = {"grpo": grpo, "dr_grpo": dr_grpo, "rloo": rloo, "gigpo": gigpo}


def find_advantage(name: str) -> AdvantageEstimator:
    """Return an estimator by name.

    Raises:
        UnknownNameError: Neither this module nor an installed distribution has it.
    """
    if name in ADVANTAGES:
        return ADVANTAGES[name]
    installed = list_names(ADVANTAGES_GROUP)
    if name not in installed:
        raise UnknownNameError("advantage", name, [*ADVANTAGES, *installed])
    estimator: AdvantageEstimator = load_named(ADVANTAGES_GROUP, "advantage", name)
    return estimator


def turn_rewards(trajectory: Trajectory, *, invalid_action_penalty: float = 0.0) -> Array:
    """Return the reward of each turn, NaN throughout if a fault of ours ended the episode."""
    if not trajectory.scorable:
        return np.full(len(trajectory.turns), math.nan)
    return np.array([turn.reward - invalid_action_penalty * turn.invalid_action for turn in trajectory.turns])


def group_returns(group: Sequence[Trajectory], rewards: Sequence[Array]) -> Array:
    """Return each trajectory's undiscounted return, NaN if it cannot be scored.

    Raises:
        UsageError: The group has fewer than two members, or the rewards are not one per turn.
    """
    if len(group) < 2:
        raise UsageError("an episode without others of its group has no baseline: a group needs at least 2")
    for trajectory, own in zip(group, rewards, strict=True):
        if own.shape != (len(trajectory.turns),):
            turns = len(trajectory.turns)
            raise UsageError(f"{turns} turns of {trajectory.task_id!r} need as many rewards, not {own.shape}")
    return np.array(
        [own.sum() if trajectory.scorable else math.nan for trajectory, own in zip(group, rewards, strict=True)]
    )


def is_tied(returns: Array) -> bool:
    """Say whether a group teaches nothing: fewer than two returns that could be scored, or all equal."""
    scored = returns[np.isfinite(returns)]
    return len(scored) < 2 or bool(np.ptp(scored) <= 1e-12 * max(1.0, float(np.abs(scored).max())))


def _compare(values: Array, among: Array, epsilon: float, deviation: bool = True) -> Array:
    """Subtract the mean of ``among`` and divide by its sample deviation; 0 where nothing differs but by rounding."""
    if is_tied(among):
        return np.zeros_like(values)
    centred: Array = values - among.mean()
    return centred / (among.std(ddof=1) + epsilon) if deviation else centred


def _discounted(rewards: Array, discount: float) -> Array:
    returns = np.zeros(len(rewards))
    following = 0.0
    for turn in reversed(range(len(rewards))):
        returns[turn] = following = rewards[turn] + discount * following
    return returns


def _state_key(trajectory: Trajectory, turn: int) -> str:
    key = trajectory.turns[turn].state_key
    if not key:
        raise UsageError(
            f"gigpo compares turns that met the same state, but turn {turn} of {trajectory.task_id!r} "
            f"({trajectory.env_id}) has no state_key; let the environment give one, or take another advantage"
        )
    return key


def _per_episode(
    group: Sequence[Trajectory], rewards: Sequence[Array], estimate: Callable[[Array], Array]
) -> list[Array]:
    """Estimate on the returns that could be scored; the others neither shift the baseline nor get an advantage."""
    returns = group_returns(group, rewards)
    advantages = np.zeros_like(returns)
    scored = np.isfinite(returns)
    if scored.sum() >= 2:
        advantages[scored] = estimate(returns[scored])
    return [np.full(len(own), advantage) for own, advantage in zip(rewards, advantages, strict=True)]
