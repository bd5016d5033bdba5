"""MedLoc-R1: a bar that rises with competence, between a graded reward and the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agentgym.errors import RewardError
from agentgym.rewards.terms import EpisodeFigure, check_figure, measure_last, named_term, pay_last, read_episode
from agentgym.rewards.trajectory_reward import TrajectoryReward
from agentgym.trajectory import Trajectory

MARGIN = 0.10  # by how much grades must on average clear the bar before it rises


@dataclass(frozen=True)
class GroupResult:
    """How a group did: its mean reward under the bar of its time, and its mean grade."""

    reward: float
    grade: float


class Medloc(TrajectoryReward):
    """Pays the last turn 1 if the episode's grade reaches a bar, which rises as the policy gets better (2603.28120).

    The paper's grade is the overlap of boxes (IoU); here it is any grade from 0 to 1, which is design. The bar rises
    when, over a full window of groups, the mean reward is at least P, its deviation over groups at most S, and the mean
    grade clears the bar by 0.10; then the newest half of the window is kept. P and S come from a third party's port of
    the unreleased code, and taking the deviation over the groups' means is design.

    Args:
        grade: A function of the trajectory, or ``"reward/<term>"``, which is then no longer paid but measured; or
            ``"measure/<name>"``, which the trainer's unshaped episodes must have for the bar to rise.
        start: First bar.
        highest: Last bar.
        window: Groups that decide.
        term: Name of the term that is paid; grade and bar are measured as ``<term>_grade`` and ``<term>_bar``.

    Raises:
        RewardError: A setting cannot be, or ``grade`` names nothing.
    """

    def __init__(
        self,
        grade: EpisodeFigure,
        *,
        start: float = 0.3,
        highest: float = 0.8,
        window: int = 30,
        term: str = "medloc",
    ) -> None:
        if not (0 <= start <= highest <= 1 and window >= 2):
            raise RewardError(
                f"medloc needs 0 <= start <= highest <= 1 and a window of 2 or more, not {start}, {highest}, {window}"
            )
        self.grade = check_figure(grade)
        self.bar, self.highest, self.window, self.term = start, highest, window, term
        self.results: list[GroupResult] = []

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Pay the last turn whether the grade reaches the bar.

        Raises:
            RewardError: The grade is missing or not finite.
        """
        if not trajectory.turns:
            return trajectory
        grade = read_episode(trajectory, self.grade)
        source = named_term(self.grade)
        paid = pay_last(trajectory, self.term, float(grade >= self.bar), () if source is None else (source,))
        return measure_last(measure_last(paid, f"{self.term}_grade", grade), f"{self.term}_bar", self.bar)

    def fit(self, trajectories: Sequence[Trajectory]) -> Mapping[str, float]:
        """Look at a batch, group by group, and raise the bar each time that it is time.

        Args:
            trajectories: Unshaped episodes; those of one ``group`` count together.

        Returns:
            ``bar``, and ``window``: how many groups decide about the next.
        """
        groups: dict[str, list[float]] = {}
        for trajectory in trajectories:
            if trajectory.scorable and trajectory.turns:
                groups.setdefault(trajectory.group, []).append(read_episode(trajectory, self.grade))
        for grades in groups.values():
            reward = float(np.mean([grade >= self.bar for grade in grades]))
            self.results = [*self.results, GroupResult(reward, float(np.mean(grades)))][-self.window :]
            if self.bar < self.highest and len(self.results) == self.window and self._competent():
                self.bar = raised_bar(self.bar, self.highest)
                self.results = self.results[-(self.window // 2) :]
        return {"bar": self.bar, "window": float(len(self.results))}

    def state_dict(self) -> dict[str, Any]:
        """Return the bar and the window."""
        return {"bar": self.bar, "results": [asdict(result) for result in self.results]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            RewardError: The state is another method's.
        """
        if set(state) != {"bar", "results"}:
            raise RewardError(f"medloc's state is a bar and results, not {sorted(state)}")
        self.bar = float(state["bar"])
        self.results = [GroupResult(**result) for result in state["results"]]

    def _competent(self) -> bool:
        rewards = np.array([result.reward for result in self.results])
        grades = float(np.mean([result.grade for result in self.results]))
        return is_competent(self.bar, float(rewards.mean()), float(rewards.std()), grades)


def is_competent(bar: float, mean_reward: float, reward_deviation: float, mean_grade: float) -> bool:
    """Say whether it is time to raise the bar; what is asked falls as the bar rises."""
    least_reward, most_deviation = (0.80, 0.20) if bar < 0.60 else (0.75, 0.35) if bar < 0.75 else (0.55, 0.40)
    return mean_reward >= least_reward and reward_deviation <= most_deviation and mean_grade - bar >= MARGIN - 1e-9


def raised_bar(bar: float, highest: float) -> float:
    """Return the next bar: 0.15 higher below 0.55, 0.10 below 0.75, else 0.05, and never above the highest."""
    step = 0.15 if bar < 0.55 else 0.10 if bar < 0.75 else 0.05
    return min(round(bar + step, 10), highest)  # rounded, so that 0.3 + 0.15 + 0.15 is at the border that 0.6 is
