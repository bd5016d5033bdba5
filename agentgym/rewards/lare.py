"""LaRe: share an episode's return out over its turns through a few features that somebody wrote down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from agentgym.errors import RewardError
from agentgym.rewards.terms import (
    EpisodeFigure,
    TurnFigure,
    check_figure,
    named_term,
    pay,
    read_episode,
    read_turns,
)
from agentgym.rewards.trajectory_reward import Array, TrajectoryReward, place
from agentgym.trajectory import Trajectory


class Decoder(Protocol):
    """Makes a turn's reward of its features, and learns to."""

    def decode(self, features: Array) -> Array:
        """Return rewards, shape ``(turns,)``, of features, shape ``(turns, K)``."""
        ...

    def learn(self, samples: Sequence[Array], targets: Array) -> None:
        """Bring the mean reward over each sample's turns, shape ``(sampled turns, K)``, nearer to its target."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what was learned, as JSON can hold it."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        ...


class LaRe(TrajectoryReward):
    """Pays each turn what a decoder makes of its features, instead of the outcome at the end (arXiv 2412.11120).

    The decoder is fitted so that the mean reward over some turns of an episode, drawn at random, is the episode's
    return divided by its turns. In the paper a language model writes the code of the features beforehand; here the user
    gives functions. Design: the linear decoder.

    Args:
        features: Each a function of a turn, ``"reward/<term>"``, ``"measure/<name>"`` or ``"package.module:function"``.
            The decoder is fitted on unshaped episodes, which have no measures of this recipe's methods.
        outcome: The return that is shared out; a term is then no longer paid but measured.
        decoder: ``"linear"``: numpy, ridge regression over all episodes so far, in closed form. ``"mlp"``: torch, one
            hidden layer.
        sampled_turns: Turns drawn from each episode for the regression; ``None``: all.
        term: Name of the term that is paid.
        seed: Of the draws and of the decoder's first weights.
        **settings: The decoder's: ``ridge``; or ``hidden``, ``learning_rate``, ``epochs``.

    Raises:
        RewardError: There are no features, one names nothing, or a setting cannot be.
    """

    def __init__(
        self,
        features: Sequence[TurnFigure],
        *,
        outcome: EpisodeFigure = "reward/outcome",
        decoder: Literal["linear", "mlp"] = "linear",
        sampled_turns: int | None = None,
        term: str = "lare",
        seed: int = 0,
        **settings: Any,
    ) -> None:
        if not features or isinstance(features, str):
            raise RewardError(f"lare needs a list of features, not {features!r}")
        if sampled_turns is not None and sampled_turns < 1:
            raise RewardError(f"lare must draw at least 1 turn of an episode, not {sampled_turns}")
        self.features = [check_figure(feature) for feature in features]
        self.outcome, self.sampled_turns, self.term = check_figure(outcome), sampled_turns, term
        self.chance = np.random.default_rng(seed)
        self.decoder = _make_decoder(decoder, len(self.features), seed, settings)
        self.fitted = False

    @property
    def ready(self) -> bool:
        """False until :meth:`fit` has been called."""
        return self.fitted

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Pay each turn its part of the return.

        Raises:
            RewardError: It was never fitted, or a feature is missing or not finite.
        """
        if not trajectory.turns:
            return trajectory
        if not self.ready:
            raise RewardError(f"{place(trajectory)}: lare can pay nothing before it was fitted to episodes")
        rewards = self.decoder.decode(self._read(trajectory))
        source = named_term(self.outcome)
        return pay(trajectory, self.term, rewards.tolist(), () if source is None else (source,))

    def fit(self, trajectories: Sequence[Trajectory]) -> Mapping[str, float]:
        """Fit the decoder on a batch.

        Returns:
            ``loss``: the regression's over the batch, after the fit.

        Raises:
            RewardError: An episode has no outcome, or a feature is missing or not finite.
        """
        samples, targets = [], []
        for trajectory in trajectories:
            if trajectory.scorable and trajectory.turns:
                features = self._read(trajectory)
                count = min(self.sampled_turns or len(features), len(features))
                samples.append(features[np.sort(self.chance.permutation(len(features))[:count])])
                targets.append(read_episode(trajectory, self.outcome) / len(features))
        if not samples:
            return {}
        self.decoder.learn(samples, np.array(targets))
        self.fitted = True
        losses = [
            decomposition_loss(self.decoder.decode(own), target) for own, target in zip(samples, targets, strict=True)
        ]
        return {"loss": float(np.mean(losses))}

    def state_dict(self) -> dict[str, Any]:
        """Return the decoder's weights and the state of the draws."""
        return {
            "fitted": self.fitted,
            "decoder": self.decoder.state_dict(),
            "chance": self.chance.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            RewardError: The state is another method's, or of other features.
        """
        if set(state) != {"fitted", "decoder", "chance"}:
            raise RewardError(f"lare's state is fitted, decoder and chance, not {sorted(state)}")
        self.fitted = bool(state["fitted"])
        self.decoder.load_state_dict(state["decoder"])
        self.chance.bit_generator.state = state["chance"]

    def _read(self, trajectory: Trajectory) -> Array:
        return np.array([read_turns(trajectory, feature) for feature in self.features], dtype=np.float64).T


def decomposition_loss(sampled_rewards: Array, target: float) -> float:
    """Return the squared difference of the sampled turns' mean reward from the return per turn."""
    return float((np.mean(sampled_rewards) - target) ** 2)


class LinearDecoder:
    """A weight per feature and a constant, by ridge regression over every episode that was ever learned from.

    Args:
        features: K.
        ridge: Pulls weights, not the constant, to 0; keeps the system solvable.
    """

    def __init__(self, features: int, ridge: float = 1e-6) -> None:
        if not ridge > 0:
            raise RewardError(f"lare's linear decoder needs a ridge above 0, not {ridge}")
        self.gram, self.moment = np.zeros((features + 1, features + 1)), np.zeros(features + 1)
        self.ridge = ridge

    def decode(self, features: Array) -> Array:
        """Return rewards, shape ``(turns,)``, of features, shape ``(turns, K)``."""
        weights = self.weights()
        rewards: Array = features @ weights[:-1] + weights[-1]
        return rewards

    def learn(self, samples: Sequence[Array], targets: Array) -> None:
        """Add episodes to the regression."""
        means = np.array([[*own.mean(axis=0), 1.0] for own in samples])
        self.gram += means.T @ means
        self.moment += means.T @ targets

    def weights(self) -> Array:
        """Return the weights and, last, the constant."""
        pull = self.ridge * np.eye(len(self.moment))
        pull[-1, -1] = 0.0
        weights: Array = np.linalg.lstsq(self.gram + pull, self.moment, rcond=None)[0].astype(np.float64)
        return weights

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of the regression."""
        return {"gram": self.gram.tolist(), "moment": self.moment.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        moment = np.array(state["moment"], dtype=np.float64)
        if moment.shape != self.moment.shape:
            raise RewardError(f"lare's state is of {len(moment) - 1} features, not {len(self.moment) - 1}")
        self.gram, self.moment = np.array(state["gram"], dtype=np.float64), moment


def _make_decoder(name: str, features: int, seed: int, settings: Mapping[str, Any]) -> Decoder:
    try:
        if name == "linear":
            return LinearDecoder(features, **settings)
        if name == "mlp":
            from agentgym.rewards.lare_mlp import MlpDecoder  # torch takes seconds to import

            return MlpDecoder(features, seed, **settings)
    except TypeError as error:
        raise RewardError(f"lare's {name} decoder cannot be made with {sorted(settings)}: {error}") from error
    raise RewardError(f"lare's decoder is 'linear' or 'mlp', not {name!r}")
