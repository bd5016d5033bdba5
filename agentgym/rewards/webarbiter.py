"""WebArbiter: pay a judge for the right verdict."""

from __future__ import annotations

import re
from collections.abc import Collection

from agentgym.errors import RewardError
from agentgym.rewards.terms import pay_last
from agentgym.rewards.trajectory_reward import TrajectoryReward, place
from agentgym.trajectory import Trajectory


class Webarbiter(TrajectoryReward):
    """Pays a judge's last turn 1 for the right verdict on two candidates and -1 for a wrong one (arXiv 2601.21872).

    The judge writes its principles first and its verdict last. The signs were read in notes on the paper; that no
    verdict counts as a wrong one, and how it is written, are design.

    Args:
        gold: Key of ``trajectory.privileged`` that holds the right verdict.
        verdicts: Those that can be given.
        pattern: Finds verdicts in the last action, the last match counting; its first group is the verdict.
        term: Name of the term that is paid.

    Raises:
        RewardError: There are fewer than two verdicts, or the pattern cannot be read or has no group.
    """

    def __init__(
        self,
        gold: str = "verdict",
        *,
        verdicts: Collection[str] = ("A", "B"),
        pattern: str = r"<verdict>\s*(\w+)\s*</verdict>",
        term: str = "webarbiter",
    ) -> None:
        if isinstance(verdicts, str) or len(set(verdicts)) < 2:
            raise RewardError(f"webarbiter needs a list of at least 2 verdicts, not {verdicts!r}")
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise RewardError(f"webarbiter cannot read the pattern {pattern!r}: {error}") from error
        if not self.pattern.groups:
            raise RewardError(f"webarbiter: the pattern {pattern!r} has no group that holds the verdict")
        self.gold, self.verdicts, self.term = gold, verdicts, term

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Pay the last turn.

        Raises:
            RewardError: The right verdict is missing or none of those that can be given.
        """
        if not trajectory.turns:
            return trajectory
        gold = trajectory.privileged.get(self.gold)
        if gold not in self.verdicts:
            raise RewardError(f"{place(trajectory)}: privileged {self.gold!r} is {gold!r}, none of {self.verdicts}")
        found = self.pattern.findall(trajectory.turns[-1].action)
        said = found[-1] if found else ""
        return pay_last(trajectory, self.term, verdict_reward(said if isinstance(said, str) else said[0], str(gold)))


def verdict_reward(said: str, gold: str) -> float:
    """Return 1 for the right verdict and -1 for any other, or none."""
    return 1.0 if said == gold else -1.0
