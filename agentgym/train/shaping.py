"""Shaping: the reward methods of a recipe, applied to what was played before advantages are taken."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import LanguageModel, TrajectoryReward, make_reward
from agentgym.train.config import Recipe
from agentgym.trajectory import Trajectory


class RewardChain:
    """Reward methods in the order of the recipe, each given the trajectories as the one before left them.

    Methods learn from what the environment paid, never from each other. One that can pay nothing before it has learned
    is fitted to the first batch before it shapes it; otherwise a batch is learned once it has been shaped.

    Args:
        methods: With the names that they have in the log and in checkpoints.
    """

    def __init__(self, methods: Sequence[tuple[str, TrajectoryReward]] = ()) -> None:
        self.methods = list(methods)
        self.seconds = 0.0  # spent since the last fit
        self._played: list[Trajectory] = []
        self._learned = [0] * len(self.methods)
        self._figures: dict[str, float] = {}

    @property
    def needs_model(self) -> bool:
        """A method looks into the policy: :meth:`bind` must be called."""
        return any(method.needs_model for _, method in self.methods)

    def bind(self, model: LanguageModel) -> None:
        """Give the policy's model to the methods that need it."""
        for _, method in self.methods:
            if method.needs_model:
                method.bind(model)

    def shape(self, played: Sequence[Trajectory]) -> list[Trajectory]:
        """Apply all methods to whole groups.

        Raises:
            RewardError: A method lacks something, or gave back other trajectories.
        """
        started_s = time.perf_counter()
        self._played += played
        shaped = list(played)
        for place, (name, method) in enumerate(self.methods):
            if not method.ready:
                self._fit(place)
            before, shaped = shaped, method(shaped)
            if [_identity(t) for t in shaped] != [_identity(t) for t in before]:
                raise RewardError(
                    f"reward {name!r} changed more than rewards: other episodes, turns or outcomes came back"
                )
        self.seconds += time.perf_counter() - started_s
        return shaped

    def fit(self) -> dict[str, float]:
        """Let the methods learn from what was shaped since the last call.

        Returns:
            Their figures as ``fit/<method>/<figure>``, and the seconds spent as ``seconds/reward``.
        """
        started_s = time.perf_counter()
        for place in range(len(self.methods)):
            self._fit(place)
        figures = {**self._figures, "seconds/reward": self.seconds + time.perf_counter() - started_s}
        self._played, self._learned, self._figures, self.seconds = [], [0] * len(self.methods), {}, 0.0
        return figures

    def _fit(self, place: int) -> None:
        """Let a method learn what it has not learned yet."""
        name, method = self.methods[place]
        if fresh := self._played[self._learned[place] :]:
            self._figures |= {f"fit/{name}/{figure}": value for figure, value in method.fit(fresh).items()}
            self._learned[place] = len(self._played)

    def state_dict(self) -> dict[str, Any]:
        """Return what the methods learned, by place and name; empty if none keeps anything."""
        states = {f"{place}.{name}": method.state_dict() for place, (name, method) in enumerate(self.methods)}
        return {key: state for key, state in states.items() if state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            RewardError: It is of other methods.
        """
        methods = {f"{place}.{name}": method for place, (name, method) in enumerate(self.methods)}
        if unknown := sorted(set(state) - set(methods)):
            raise RewardError(
                f"the checkpoint has state of the rewards {unknown}, and the recipe has {sorted(methods)}"
            )
        for key, method in methods.items():
            method.load_state_dict(state.get(key, {}))


def open_rewards(recipe: Recipe) -> RewardChain:
    """Make the methods of a recipe.

    Raises:
        UnknownNameError: There is none of a name.
        RewardError: One does not take its arguments.
    """
    return RewardChain([(section.name, make_reward(section.name, **section.kwargs)) for section in recipe.reward])


def _identity(trajectory: Trajectory) -> tuple[Any, ...]:
    return trajectory.task_id, trajectory.seed, trajectory.group, len(trajectory.turns), trajectory.success
