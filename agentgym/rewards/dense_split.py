"""The dense split of the practitioner's guide: intermediate rewards that never add up to more than their share."""

from __future__ import annotations

from collections.abc import Sequence

from agentgym.errors import RewardError
from agentgym.rewards.terms import check_number, pay
from agentgym.rewards.trajectory_reward import TrajectoryReward, place
from agentgym.trajectory import Trajectory


class DenseSplit(TrajectoryReward):
    """Divides each intermediate reward by how many there were, or could have been (arXiv 2510.01132).

    Of an episode that was won, by the number of its turns that were paid; of one that was lost, by the number that the
    task could have paid. So a lost episode that found one reward of three is paid a third of it, not all of it.

    Args:
        source: Term that holds the intermediate rewards. What the environment paid becomes the
            measure ``raw/<source>``.
        available: How many of these rewards the task has: a number, or the key of ``trajectory.privileged`` that holds
            it.

    Raises:
        RewardError: ``available`` is below 1.
    """

    def __init__(self, source: str, available: int | str) -> None:
        if not isinstance(available, str) and available < 1:
            raise RewardError(f"dense_split needs at least 1 available reward, not {available}")
        self.source, self.available = source, available

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Divide the intermediate rewards.

        Raises:
            RewardError: It is not known whether the episode was won, or how many rewards its task has, or more were
                paid than there are.
        """
        if not trajectory.turns:
            return trajectory
        if trajectory.success is None:
            raise RewardError(f"{place(trajectory)} was not graded, and dense_split must know whether it was won")
        raw = [turn.reward_terms.get(self.source) for turn in trajectory.turns]
        for number, value in enumerate(raw):
            check_number(value or 0.0, f"{place(trajectory, number)}: reward term {self.source!r}")
        paid = sum(bool(value) for value in raw)
        available = self._available(trajectory)
        if paid > available:
            raise RewardError(f"{place(trajectory)} was paid {paid} times {self.source!r}, of {available} available")
        shares = split_rewards(raw, trajectory.success, available)
        return pay(trajectory, self.source, shares, instead_of=(self.source,))

    def _available(self, trajectory: Trajectory) -> int:
        if not isinstance(self.available, str):
            return self.available
        known = trajectory.privileged.get(self.available)
        if not isinstance(known, int) or known < 1:
            raise RewardError(f"{place(trajectory)}: privileged {self.available!r} is no count of rewards: {known!r}")
        return known


def split_rewards(rewards: Sequence[float | None], won: bool, available: int) -> list[float | None]:
    """Divide rewards by the number of those not 0 if won, else by the number available; ``None`` stays ``None``."""
    count = max(1, sum(bool(reward) for reward in rewards)) if won else available
    return [None if reward is None else reward / count for reward in rewards]
