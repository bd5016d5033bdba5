"""Potential-based shaping: pay what a turn changed in a potential, which leaves the order of policies as it was."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from agentgym.errors import RewardError
from agentgym.rewards.terms import (
    TurnFigure,
    check_figure,
    check_number,
    final_state,
    name_of,
    pay,
    read_turns,
)
from agentgym.rewards.trajectory_reward import TrajectoryReward, place
from agentgym.trajectory import Trajectory


class Shaping(TrajectoryReward):
    """Adds ``discount * potential(after) - potential(before)`` to each turn (Ng, Harada and Russell, ICML 1999).

    The control for every dense reward: the discounted sum over an episode is minus the potential of its first state,
    whatever was done in between, so a policy can win nothing by it that the task does not give.

    The state after the last turn has potential 0. Theory asks that of terminal states; here a limit that cuts an
    episode counts as one (design), because the estimators of this project take no value of what would have come after
    it, and a policy could otherwise earn by waiting for the limit in a promising state.

    Args:
        potential: A function of a turn is the potential of the state that the turn *shows*, before its action; of the
            last state it is given a turn with observation and ``state_key`` only. ``"measure/<name>"`` or
            ``"reward/<term>"`` is the potential *after* the turn that it was taken of.
        initial: Potential of the first state where ``potential`` is a name.
        discount: Of later rewards, in (0, 1]; the same as the estimator's.
        term: Name of the term that is paid.

    Raises:
        RewardError: A setting cannot be, or ``potential`` names nothing.
    """

    causal = True

    def __init__(
        self, potential: TurnFigure, *, initial: float = 0.0, discount: float = 1.0, term: str = "shaping"
    ) -> None:
        if not 0 < discount <= 1:
            raise RewardError(f"shaping needs a discount in (0, 1], not {discount}")
        self.potential = check_figure(potential)
        self.initial, self.discount, self.term = check_number(initial, "shaping: initial"), discount, term

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Pay each turn its change of the potential.

        Raises:
            RewardError: The potential is missing on a turn, or not finite.
        """
        return pay(trajectory, self.term, shaping_rewards(self._potentials(trajectory), self.discount))

    def _potentials(self, trajectory: Trajectory) -> list[float]:
        """Return the potentials of the states before, between and after the turns."""
        read = read_turns(trajectory, self.potential)
        over = trajectory.ended != "running"
        if isinstance(self.potential, str):
            return [self.initial, *read[:-1], 0.0 if over else read[-1]] if read else [self.initial]
        if over:
            return [*read, 0.0]
        last = float(self.potential(final_state(trajectory)))
        return [*read, check_number(last, f"{place(trajectory)}: {name_of(self.potential)} of the last state")]


def shaping_rewards(potentials: Sequence[float], discount: float) -> list[float]:
    """Return what each step between states is paid: one less than there are states."""
    return [discount * after - before for before, after in itertools.pairwise(potentials)]
