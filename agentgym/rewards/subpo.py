"""SubPO: pay only for what is new, the marginal gain of a set function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from agentgym.errors import RewardError
from agentgym.rewards.terms import import_function, pay, states_after
from agentgym.rewards.trajectory_reward import TrajectoryReward, place
from agentgym.trajectory import Trajectory, Turn

Covers = Callable[[Turn, Turn], Iterable[str]]


class SubPO(TrajectoryReward):
    """Pays each turn the weight of what it covered first (submodular reinforcement learning, arXiv 2307.13372).

    The set function is weighted coverage, which is monotone and submodular; a turn's reward is its marginal gain, as in
    the paper (its released code pays the running total instead). Seeing or asking the same again earns nothing.

    Args:
        covers: What a turn covers. ``"state"``: the world's state that it led to, by ``state_key``; that of the start
            counts as covered. ``"observation"``: the lines that it was answered with; those of the first observation
            count as covered. ``"action"``: what was said, so that only a new move pays. Or a function, or the
            ``"package.module:function"`` that imports it, of the turn and of the one after it (of the last turn: one
            with observation and ``state_key`` only). The choice is design.
        weights: What an item is worth, never below 0.
        other_weight: What an item is worth that ``weights`` does not name.
        term: Name of the term that is paid.

    Raises:
        RewardError: A weight is negative or not finite, or ``covers`` names nothing.
    """

    causal = True

    def __init__(
        self,
        covers: str | Covers = "state",
        *,
        weights: Mapping[str, float] | None = None,
        other_weight: float = 1.0,
        term: str = "subpo",
    ) -> None:
        self.weights, self.other_weight, self.term = dict(weights or {}), other_weight, term
        for item, weight in [*self.weights.items(), ("any other", other_weight)]:
            if not (weight >= 0 and math.isfinite(weight)):
                raise RewardError(f"subpo: the weight of {item!r} must be finite and not below 0, not {weight}")
        if isinstance(covers, str) and covers not in ("state", "observation", "action"):
            covers = import_function(covers)
        self.covers = covers

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Pay each turn what it covered first.

        Raises:
            RewardError: ``covers`` is ``"state"`` and a state has no key; only the end of an episode may lack one.
        """
        items = [
            self._items(trajectory, number, turn, after)
            for number, (turn, after) in enumerate(zip(trajectory.turns, states_after(trajectory), strict=True))
        ]
        gains = marginal_gains(items, self.weights, self.other_weight, covered=self._at_start(trajectory))
        return pay(trajectory, self.term, gains)

    def _items(self, trajectory: Trajectory, number: int, turn: Turn, after: Turn) -> Iterable[str]:
        if not isinstance(self.covers, str):
            return self.covers(turn, after)
        if self.covers == "action":
            return _lines(" ".join(turn.action.split()))
        if self.covers == "observation":
            return _lines(after.observation)
        end = number == len(trajectory.turns) - 1 and trajectory.ended != "running"
        if not after.state_key and not end:
            raise RewardError(f"{place(trajectory, number)} led to a state without state_key, which subpo counts")
        return [after.state_key] if after.state_key else []

    def _at_start(self, trajectory: Trajectory) -> Iterable[str]:
        if not trajectory.turns or self.covers not in ("state", "observation"):
            return ()
        first = trajectory.turns[0]
        return [first.state_key] if self.covers == "state" else _lines(first.observation)


def marginal_gains(
    items: Sequence[Iterable[str]],
    weights: Mapping[str, float],
    other_weight: float = 1.0,
    covered: Iterable[str] = (),
) -> list[float]:
    """Return, for each step's items, the weight of those that are new."""
    known = set(covered)
    gains = []
    for own in items:
        new = set(own) - known
        gains.append(math.fsum(weights.get(item, other_weight) for item in new))
        known |= new
    return gains


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
