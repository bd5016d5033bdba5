"""The contract of a reward method: a pure function over trajectories, which a wrapper makes work with any agent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from agentgym.errors import RewardError, UnknownNameError
from agentgym.registry import list_names, load_named
from agentgym.trajectory import Trajectory, Turn

REWARDS_GROUP = "agentgym.rewards"
OUTCOME = "outcome"  # the name that an environment gives to the term which grades the whole episode
Array = NDArray[np.float64]


class TrajectoryReward(ABC):
    """A reward method.

    It rewrites the reward terms of turns and leaves everything else as it is; ``success`` stays the untouched outcome,
    and what a method measures without paying it goes into ``Turn.measures``, so that a policy that farms the
    reward can be told from one that does the task.

    Methods compose in the order of the recipe: each is given the trajectories as the one before left them.

    Attributes:
        causal: The terms of a turn depend on nothing later than its observation, so that they can be paid while the
            episode goes on. Otherwise :class:`~agentgym.rewards.wrapper.RewardWrapper` pays at the end.
        needs_model: :meth:`bind` must be called before use.
        needs_group: It compares the episodes of a group, so that one alone, as a wrapper sees it, cannot be shaped.
    """

    causal: ClassVar[bool] = False
    needs_model: ClassVar[bool] = False
    needs_group: ClassVar[bool] = False

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Shape a batch; a method that compares episodes of one ``group`` overrides this.

        Args:
            trajectories: Episodes of one or several groups.

        Returns:
            As many, in the same order. Those that a fault of ours ended come back as they are.

        Raises:
            RewardError: A trajectory lacks what the method needs; the message names environment, task and turn.
        """
        return [self.shape(t) if t.scorable else t for t in trajectories]

    @abstractmethod
    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Shape one episode, which can be scored."""

    @property
    def ready(self) -> bool:
        """False until :meth:`fit` has been called once, for a method that can pay nothing before; see the trainer."""
        return True

    def bind(self, model: LanguageModel) -> None:
        """Give the method the policy's own model; only for methods that need one."""
        raise RewardError(f"{type(self).__name__} has no use for a model, but was given {type(model).__name__}")

    def fit(self, trajectories: Sequence[Trajectory]) -> Mapping[str, float]:
        """Learn from a batch of unshaped episodes, after it was shaped; for methods that keep state.

        Returns:
            Figures for the log.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`fit` learned, as JSON or tensors can hold it; goes into the run's checkpoints."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        if state:
            raise RewardError(f"{type(self).__name__} keeps no state, but was given {sorted(state)}")


@dataclass(frozen=True)
class Continuation:
    """Tokens to be scored after a context; both as token ids."""

    context_ids: Sequence[int]
    ids: Sequence[int]


class LanguageModel(Protocol):
    """What methods that look into the policy need of it."""

    def encode(self, text: str) -> list[int]:
        """Return token ids, without special tokens."""
        ...

    def score(self, continuations: Sequence[Continuation]) -> list[Array]:
        """Return the log-probability, natural log and at temperature 1, of each token of each continuation."""
        ...


RewardFactory = Callable[..., TrajectoryReward]


def make_reward(name: str, **kwargs: Any) -> TrajectoryReward:
    """Make a reward method by its name in the entry-point group ``agentgym.rewards``.

    Raises:
        UnknownNameError: There is none of that name.
        RewardError: It does not take one of the arguments.
    """
    known = list_names(REWARDS_GROUP)
    if name not in known:
        raise UnknownNameError("reward", name, known)
    factory: RewardFactory = load_named(REWARDS_GROUP, "reward", name)
    try:
        return factory(**kwargs)
    except TypeError as error:
        raise RewardError(f"reward {name!r} cannot be made with {sorted(kwargs)}: {error}") from error


def outcome_of(trajectory: Trajectory, term: str = OUTCOME) -> float:
    """Return what the environment paid for the whole episode: the sum of the term, or else its success.

    Raises:
        RewardError: There is neither.
    """
    paid = [turn.reward_terms[term] for turn in trajectory.turns if term in turn.reward_terms]
    if paid:
        return float(sum(paid))
    if trajectory.success is None:
        raise RewardError(f"{place(trajectory)} has no outcome: no term {term!r} and no success")
    return float(trajectory.success)


def place(trajectory: Trajectory, turn: int | None = None) -> str:
    """Name an episode, or a turn of it (from 0), for an error."""
    where = f"{trajectory.env_id}, task {trajectory.task_id!r}"
    return where if turn is None else f"{where}, turn {turn}"


def with_terms(
    turn: Turn, terms: Mapping[str, float] | None = None, measures: Mapping[str, float] | None = None
) -> Turn:
    """Return the turn with these reward terms instead of its own, and these measures beside its own."""
    return replace(
        turn,
        reward_terms=dict(turn.reward_terms if terms is None else terms),
        measures={**turn.measures, **(measures or {})},
    )


def raw_measures(turn: Turn, terms: Collection[str] | None = None) -> dict[str, float]:
    """Return the turn's reward terms under the names of measures, for a method that pays others instead.

    Of a term that an earlier method has replaced, the measure stays the environment's.

    Args:
        turn: The turn.
        terms: Only these; all by default.
    """
    paid = {name: value for name, value in turn.reward_terms.items() if terms is None or name in terms}
    return {f"raw/{name}": value for name, value in paid.items() if f"raw/{name}" not in turn.measures}


def check_finite(trajectory: Trajectory) -> None:
    """Refuse reward terms that are no numbers.

    Raises:
        RewardError: A term is NaN or infinite.
    """
    for number, turn in enumerate(trajectory.turns):
        for name, value in turn.reward_terms.items():
            if not np.isfinite(value):
                raise RewardError(f"{place(trajectory, number)}: reward term {name!r} is {value}")


def check_spans(trajectory: Trajectory) -> None:
    """Refuse an episode whose turns do not say which tokens were sampled, one after the other.

    Raises:
        RewardError: A turn has no tokens, or its span is not where they are.
    """
    end = 0
    for number, turn in enumerate(trajectory.turns):
        start = end + len(turn.prompt_ids)
        end = start + len(turn.token_ids)
        if not turn.token_ids or turn.span != (start, end):
            raise RewardError(
                f"{place(trajectory, number)} has span {turn.span} for {len(turn.token_ids)} sampled tokens after "
                f"{start} others; was it played by a policy that reports its tokens?"
            )
