"""Stepwise progress attribution (SPA): what each turn contributed to the outcome, told by a learned estimator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import (
    Array,
    TrajectoryReward,
    check_finite,
    outcome_of,
    place,
    raw_measures,
    with_terms,
)
from agentgym.trajectory import Trajectory, Turn

PROGRESS, EXECUTABLE = "progress", "executable"


class ProgressEstimator(Protocol):
    """Tells the contributions of turns, and learns them from outcomes alone."""

    @property
    def fitted(self) -> bool:
        """It has learned from at least one episode."""
        ...

    def contributions(self, trajectories: Sequence[Trajectory]) -> list[Array]:
        """Return an array of shape ``(turns,)`` for each episode."""
        ...

    def fit(self, trajectories: Sequence[Trajectory], outcomes: Sequence[float]) -> Mapping[str, float]:
        """Learn from a batch, so that the contributions of an episode add up to its outcome; return figures."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what was learned."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        ...


class Progress(TrajectoryReward):
    """Pay each turn its contribution to the outcome, and a little for acting on the world (SPA, arXiv 2505.20732).

    A turn's terms become ``progress``, ``alpha`` times the estimated contribution, and ``executable``, ``beta`` where
    the action acted on the world or the turn is the last. The estimator is fitted, to all episodes with losses
    included, so that contributions sum to the outcome; ``alpha`` and ``beta`` are the released code's. What the
    environment paid is kept in ``measures`` as ``raw/<term>``; the last turn's have the ``outcome`` and the sum of the
    contributions, ``predicted_outcome``.

    Before it has been fitted it refuses to shape. In a recipe the first batch is fitted before it is shaped, and each
    batch after it was used.

    Args:
        estimator: ``linear``, ``backbone`` (a language model with a scalar head), or one of your own.
        alpha: Weight of the contribution.
        beta: Paid for an executable action.
        exact: Spread over the turns, evenly, what the contributions lack of the outcome (design).
        last_executable: The last turn always counts as executable, as in the released code.
        estimator_kwargs: Arguments of an estimator given by name.

    Raises:
        RewardError: There is no estimator of that name, or it does not take the arguments.
    """

    def __init__(
        self,
        estimator: str | ProgressEstimator = "linear",
        *,
        alpha: float = 1.0,
        beta: float = 0.5,
        exact: bool = False,
        last_executable: bool = True,
        estimator_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.estimator = _make_estimator(estimator, dict(estimator_kwargs or {}))
        self.alpha, self.beta = alpha, beta
        self.exact, self.last_executable = exact, last_executable

    @property
    def ready(self) -> bool:
        """The estimator has been fitted."""
        return self.estimator.fitted

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Shape a batch, with one pass of the estimator."""
        places = [i for i, t in enumerate(trajectories) if t.scorable and t.turns]
        shaped = list(trajectories)
        chosen = [trajectories[i] for i in places]
        for i, contributions in zip(places, self._contributions(chosen), strict=True):
            shaped[i] = self._pay(trajectories[i], contributions)
        return shaped

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Shape one episode.

        Raises:
            RewardError: The estimator was not fitted, or the episode has no outcome.
        """
        return self([trajectory])[0]

    def fit(self, trajectories: Sequence[Trajectory]) -> Mapping[str, float]:
        """Fit the estimator to the outcomes of a batch.

        Returns:
            ``loss``, the mean squared error of the predicted outcomes before these episodes were learned, if there was
            anything to predict with; ``episodes``; and the estimator's own figures.
        """
        known = [t for t in trajectories if t.scorable and t.turns]
        if not known:
            return {"episodes": 0.0}
        outcomes = [outcome_of(t) for t in known]
        figures = {"episodes": float(len(known))}
        if self.ready:
            figures["loss"] = outcome_loss(self.estimator.contributions(known), outcomes)[0]
        return {**figures, **self.estimator.fit(known, outcomes)}

    def state_dict(self) -> dict[str, Any]:
        """Return the estimator's state."""
        return self.estimator.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the estimator's state back."""
        self.estimator.load_state_dict(state)

    def _contributions(self, trajectories: Sequence[Trajectory]) -> list[Array]:
        if trajectories and not self.ready:
            raise RewardError(
                f"{place(trajectories[0])}: progress was not fitted to any episodes yet; call fit() with explored ones"
            )
        found = self.estimator.contributions(trajectories) if trajectories else []
        for trajectory, own in zip(trajectories, found, strict=True):
            if own.shape != (len(trajectory.turns),) or not np.isfinite(own).all():
                raise RewardError(
                    f"{place(trajectory)}: the progress estimator says {own} of {len(trajectory.turns)} turns"
                )
        return found

    def _pay(self, trajectory: Trajectory, contributions: Array) -> Trajectory:
        check_finite(trajectory)
        outcome, predicted = outcome_of(trajectory), float(contributions.sum())
        if self.exact:
            contributions = contributions + (outcome - predicted) / len(contributions)
        turns = []
        for number, (turn, own) in enumerate(zip(trajectory.turns, contributions, strict=True)):
            is_last = number == len(trajectory.turns) - 1
            acted = turn.executable or (is_last and self.last_executable)
            terms = {PROGRESS: self.alpha * float(own), EXECUTABLE: self.beta * acted}
            sums = {"outcome": outcome, "predicted_outcome": predicted} if is_last else {}
            turns.append(with_terms(turn, terms, {**raw_measures(turn), **sums}))
        return replace(trajectory, turns=tuple(turns))


def outcome_loss(contributions: Sequence[Array], outcomes: Sequence[float]) -> tuple[float, list[Array]]:
    """Return SPA's loss, the mean over episodes of (sum of contributions - outcome) squared, and its gradient.

    The gradient is that of the episode's own squared error by each of its contributions.
    """
    errors = [float(np.sum(own)) - outcome for own, outcome in zip(contributions, outcomes, strict=True)]
    loss = float(np.mean(np.square(errors)))
    return loss, [np.full(len(own), 2 * error) for own, error in zip(contributions, errors, strict=True)]


class LinearProgress:
    """A contribution that is linear in named features of the turn: ridge regression in closed form (design).

    An episode's outcome is regressed on the sum of its turns' features. The sums of products are all it keeps, so every
    episode that was ever seen counts the same, whatever the batches. What was never met contributes nothing. Runs on a
    processor in milliseconds.

    Args:
        kinds: Features of a turn: ``action`` (the text), ``verb`` (its first word), ``state`` (the key before it),
            ``state_action`` (both), ``executable``, ``constant``.
        most_features: Those met after so many are left out; ``features`` in the log says how many there are.
        ridge: Weight of the squared weights; 0: the least squares solution of smallest norm.
        forgetting: Episodes of earlier batches count so much less at each fit; 0: never less.

    Raises:
        RewardError: A kind does not exist, or a number makes no sense.
    """

    def __init__(
        self,
        kinds: Sequence[str] = ("verb", "state_action", "executable"),
        *,
        most_features: int = 1024,
        ridge: float = 1e-3,
        forgetting: float = 0.0,
    ) -> None:
        unknown = sorted(set(kinds) - set(_KINDS))
        if unknown or not kinds:
            raise RewardError(f"progress: there are no features {unknown}; known: {sorted(_KINDS)}")
        if most_features < 1 or ridge < 0 or not 0 <= forgetting < 1:
            raise RewardError(
                f"progress: {most_features} features, ridge {ridge}, forgetting {forgetting} make no sense"
            )
        self.kinds, self.most_features, self.ridge, self.forgetting = tuple(kinds), most_features, ridge, forgetting
        self.episodes = 0
        self._places: dict[str, int] = {}
        self._products: Array = np.zeros((0, 0))
        self._targets: Array = np.zeros(0)
        self._weights: Array = np.zeros(0)

    @property
    def fitted(self) -> bool:
        """It has learned from at least one episode."""
        return self.episodes > 0

    def contributions(self, trajectories: Sequence[Trajectory]) -> list[Array]:
        """Return an array of shape ``(turns,)`` for each episode."""
        return [np.array([self._weights[self._met(turn)].sum() for turn in t.turns]) for t in trajectories]

    def fit(self, trajectories: Sequence[Trajectory], outcomes: Sequence[float]) -> Mapping[str, float]:
        """Add a batch to what is known and solve anew."""
        for trajectory in trajectories:
            for name in (name for turn in trajectory.turns for name in self._names(turn)):
                if len(self._places) < self.most_features:
                    self._places.setdefault(name, len(self._places))
        counts = np.zeros((len(trajectories), len(self._places)))
        for row, trajectory in enumerate(trajectories):
            for turn in trajectory.turns:
                np.add.at(counts[row], self._met(turn), 1.0)
        new = len(self._places) - len(self._targets)
        self._products, self._targets = np.pad(self._products, (0, new)), np.pad(self._targets, (0, new))
        np.multiply(self._products, 1 - self.forgetting, out=self._products)
        np.add(self._products, counts.T @ counts, out=self._products)
        np.multiply(self._targets, 1 - self.forgetting, out=self._targets)
        np.add(self._targets, counts.T @ np.asarray(outcomes, dtype=np.float64), out=self._targets)
        self.episodes += len(trajectories)
        self._solve()
        return {"fitted_episodes": float(self.episodes), "features": float(len(self._places))}

    def state_dict(self) -> dict[str, Any]:
        """Return the features' names and the sums of products."""
        return {
            "kinds": list(self.kinds),
            "episodes": self.episodes,
            "features": list(self._places),
            "products": self._products.tolist(),
            "targets": self._targets.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            RewardError: It is of other features.
        """
        if tuple(state["kinds"]) != self.kinds or len(state["features"]) > self.most_features:
            raise RewardError(
                f"progress was saved with {len(state['features'])} features {state['kinds']}, and takes now at most "
                f"{self.most_features} of {list(self.kinds)}"
            )
        self.episodes = int(state["episodes"])
        self._places = {name: place for place, name in enumerate(state["features"])}
        self._products = np.array(state["products"], dtype=np.float64).reshape(len(self._places), len(self._places))
        self._targets = np.array(state["targets"], dtype=np.float64)
        self._solve()

    def _solve(self) -> None:
        products, targets = self._products, self._targets
        solved = (
            np.linalg.solve(products + self.ridge * np.eye(len(targets)), targets)
            if self.ridge
            else np.linalg.lstsq(products, targets, rcond=None)[0]
        )
        self._weights = np.asarray(solved, dtype=np.float64)

    def _names(self, turn: Turn) -> list[str]:
        return [f"{kind}: {_KINDS[kind](turn)}" for kind in self.kinds]

    def _met(self, turn: Turn) -> NDArray[np.int64]:
        places = (self._places.get(name) for name in self._names(turn))
        return np.array([place for place in places if place is not None], dtype=np.int64)


_KINDS: dict[str, Callable[[Turn], str]] = {
    "action": lambda turn: turn.action.strip(),
    "verb": lambda turn: (turn.action.split() or [""])[0],
    "state": lambda turn: turn.state_key,
    "state_action": lambda turn: f"{turn.state_key}\x1f{turn.action.strip()}",
    "executable": lambda turn: str(turn.executable),
    "constant": lambda turn: "",
}


def _make_estimator(estimator: str | ProgressEstimator, kwargs: dict[str, Any]) -> ProgressEstimator:
    if not isinstance(estimator, str):
        if kwargs:
            raise RewardError("progress: estimator_kwargs are for an estimator that is given by name")
        return estimator
    try:
        if estimator == "linear":
            return LinearProgress(**kwargs)
        if estimator == "backbone":
            from agentgym.rewards.progress_backbone import BackboneProgress  # imports torch

            return BackboneProgress(**kwargs)
    except TypeError as error:
        raise RewardError(
            f"progress: the {estimator} estimator cannot be made with {sorted(kwargs)}: {error}"
        ) from error
    raise RewardError(f"progress: there is no estimator {estimator!r}; known: backbone, linear")
