"""PAR, preference as reward: how often the judge prefers this episode to one of a reference policy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from agentgym.errors import RewardError
from agentgym.rewards.terms import (
    EpisodeFigure,
    check_figure,
    check_number,
    measure_last,
    named_term,
    pay_last,
    read_episode,
)
from agentgym.rewards.trajectory_reward import TrajectoryReward, place
from agentgym.trajectory import Trajectory, read_trajectories


class Par(TrajectoryReward):
    """Pays the last turn ``mean over m of sigmoid(k * (score - reference_m))`` instead of a raw score (2502.18770).

    It is bounded and steepest where the score equals the reference, which takes from a policy what it could win by
    driving a reward model to extremes.

    Args:
        scorer: A reward model's score of an episode: a function of the trajectory, ``"measure/<name>"``, or
            ``"reward/<term>"``, which is then no longer paid but measured.
        references: Scores of a reference policy's episodes: a list for all tasks, a mapping from task id to list, or
            the path of a file of trajectories, which ``scorer`` is run on.
        k: Steepness.
        max_references: How many of the references to compare with, from the front; the paper finds one to be enough.
        term: Name of the term that is paid.

    Raises:
        RewardError: A setting cannot be, or there are no references.
    """

    def __init__(
        self,
        scorer: EpisodeFigure,
        references: Mapping[str, Sequence[float]] | Sequence[float] | str | os.PathLike[str],
        *,
        k: float = 1.0,
        max_references: int = 10,
        term: str = "par",
    ) -> None:
        if not (k > 0 and max_references >= 1):
            raise RewardError(f"par needs k above 0 and at least 1 reference, not {k} and {max_references}")
        self.scorer = check_figure(scorer)
        self.k, self.max_references, self.term = k, max_references, term
        self.references: Mapping[str, Sequence[float]] | Sequence[float]
        if isinstance(references, str | os.PathLike):
            self.references = self._score_file(references)
        else:
            self.references = references
        if not self.references:
            raise RewardError("par has no reference rewards to compare with")

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Pay the last turn how the episode compares with the references.

        Raises:
            RewardError: The task has no references, or a score is not finite.
        """
        if not trajectory.turns:
            return trajectory
        score = read_episode(trajectory, self.scorer)
        value = par_reward(score, self._references_of(trajectory), self.k)
        source = named_term(self.scorer)
        shaped = pay_last(trajectory, self.term, value, instead_of=() if source is None else (source,))
        return measure_last(shaped, f"{self.term}_score", score)

    def _references_of(self, trajectory: Trajectory) -> list[float]:
        references = self.references
        own = references.get(trajectory.task_id, ()) if isinstance(references, Mapping) else references
        if not own:
            raise RewardError(f"{place(trajectory)} has no reference rewards")
        return [
            check_number(float(one), f"{place(trajectory)}: reference reward") for one in own[: self.max_references]
        ]

    def _score_file(self, path: str | os.PathLike[str]) -> dict[str, list[float]]:
        scores: dict[str, list[float]] = {}
        for reference in read_trajectories(path):
            if reference.scorable:
                scores.setdefault(reference.task_id, []).append(read_episode(reference, self.scorer))
        return scores


def par_reward(score: float, references: Sequence[float], k: float = 1.0) -> float:
    """Return the mean over references of ``sigmoid(k * (score - reference))``, in [0, 1]."""
    # tanh cannot overflow, exp of a large negative margin could
    return float(np.mean(0.5 * (1 + np.tanh(0.5 * k * (score - np.asarray(references, dtype=np.float64))))))
