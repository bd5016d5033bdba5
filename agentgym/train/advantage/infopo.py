"""InfoPO's advantage: the outcome's, and where outcomes tie also that of the information each turn gained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentgym.errors import RewardError
from agentgym.rewards.infopo import TERM
from agentgym.rewards.trajectory_reward import place
from agentgym.train.advantage.group import Array, compare, group_returns, is_tied
from agentgym.trajectory import Trajectory


def infopo(
    group: Sequence[Trajectory],
    rewards: Sequence[Array],
    *,
    weight: float = 0.5,
    temperature: float = 0.05,
    epsilon: float = 1e-6,
) -> list[Array]:
    """Return ``A_outcome + weight * gate * A_information`` for each turn (InfoPO, arXiv 2603.00656).

    ``A_outcome`` is GRPO's, of the return without the term ``infopo``. The gate is ``sigmoid(-deviation of outcomes /
    temperature)``: a half where they tie and next to nothing where they differ. Design: information is standardised
    over all turns of the group that could gain any, and a turn without later ones keeps its outcome's advantage. The
    released code also bounds the deviation of the second part by that of the first, or 1, which standardising makes
    idle.

    Args:
        group: Episodes of one task, shaped by the reward method ``infopo``.
        rewards: One array of shape ``(turns,)`` per episode, the term included.
        weight: Of the information; the released README's (its function's default is 0.1).
        temperature: Of the gate, in units of the outcome.
        epsilon: Added to the deviations.

    Raises:
        UsageError: Fewer than two episodes, or not one reward per turn.
        RewardError: A turn that another followed has no term ``infopo``.
    """
    scored = [bool(np.isfinite(value)) for value in group_returns(group, rewards)]
    gains = [_gains(trajectory) if counts else np.zeros(0) for trajectory, counts in zip(group, scored, strict=True)]
    outcomes = np.array([own.sum() - gain.sum() for own, gain in zip(rewards, gains, strict=True)])[scored]
    advantages = [np.zeros(len(own)) for own in rewards]
    if len(outcomes) < 2:
        return advantages
    pool = np.concatenate([gain for gain, counts in zip(gains, scored, strict=True) if counts])
    gate = information_gate(outcome_deviation(outcomes), temperature)
    of_outcomes = iter(compare(outcomes, outcomes, epsilon))
    of_gains = compare(pool, pool, epsilon)
    read = 0
    for own, gain, counts in zip(advantages, gains, scored, strict=True):
        if counts:
            own += next(of_outcomes)
            own[: len(gain)] += weight * gate * of_gains[read : read + len(gain)]
            read += len(gain)
    return advantages


def outcome_deviation(outcomes: Array) -> float:
    """Return the sample deviation of a group's outcomes, 0 where they differ by rounding only."""
    return 0.0 if is_tied(outcomes) else float(outcomes.std(ddof=1))


def information_gate(deviation: float, temperature: float) -> float:
    """Return ``sigmoid(-deviation / temperature)``: a half at ties, near 0 where outcomes tell episodes apart."""
    return float(0.5 * (1 - np.tanh(0.5 * deviation / temperature)))  # exp could overflow


def _gains(trajectory: Trajectory) -> Array:
    """Return what each turn but the last gained."""
    for number, turn in enumerate(trajectory.turns[:-1]):
        if TERM not in turn.reward_terms:
            raise RewardError(
                f"{place(trajectory, number)} has no term {TERM!r}: the advantage {TERM!r} needs the reward method of "
                "the same name in the recipe"
            )
    return np.array([turn.reward_terms[TERM] for turn in trajectory.turns[:-1]], dtype=np.float64)
