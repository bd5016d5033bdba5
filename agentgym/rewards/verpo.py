"""VeRPO: dense rewards from unit tests, each test weighted by how hard and how common it is in the group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentgym.errors import RewardError
from agentgym.rewards.terms import pay, pay_last
from agentgym.rewards.trajectory_reward import OUTCOME, Array, TrajectoryReward, outcome_of, place
from agentgym.trajectory import Trajectory

TERM = "verpo"


class Verpo(TrajectoryReward):
    """Pays each turn the weighted tests that it passed, and the outcome less the longer it took (arXiv 2601.03525).

    A test that few turns of the group pass weighs more, and tests that pass equally often share their weight, so that
    many easy ones do not drown a hard one. Use it with the advantage of the same name, which keeps both parts apart.
    The formulas were read in a summary of the paper; its constants were not found, so every default is design.

    A turn's tests are the measures, or the terms, whose names begin with ``prefix``; each is 1 (passed) or 0. Terms of
    that prefix are no longer paid and become measures. Design: a turn that ran no tests is left out of the pass rates
    and is paid nothing.

    Args:
        prefix: With which names of tests begin.
        alpha: How much rarer passes weigh more.
        width: Within which difference of pass rates tests share their weight, as a Gaussian's sigma.
        delta: Added to the number of tests that share.
        discount: Of the outcome, once per turn of the episode.

    Raises:
        RewardError: A setting cannot be.
    """

    needs_group = True

    def __init__(
        self,
        *,
        prefix: str = "test/",
        alpha: float = 1.0,
        width: float = 0.2,
        delta: float = 0.0,
        discount: float = 0.95,
    ) -> None:
        if not (prefix and alpha >= 0 and width > 0 and delta >= 0 and 0 < discount <= 1):
            raise RewardError(
                "verpo needs a prefix, alpha and delta not below 0, width above 0 and a discount in (0, 1], not "
                f"{prefix!r}, {alpha}, {delta}, {width} and {discount}"
            )
        self.prefix, self.alpha, self.width, self.delta, self.discount = prefix, alpha, width, delta, discount

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Shape each group of the batch; episodes that name no group are one.

        Raises:
            RewardError: A group ran no tests or not the same ones, a result is neither 0 nor 1, or an episode has no
                outcome.
        """
        groups: dict[str, list[int]] = {}
        for i, trajectory in enumerate(trajectories):
            if trajectory.scorable and trajectory.turns:
                groups.setdefault(trajectory.group, []).append(i)
        shaped = list(trajectories)
        for members in groups.values():
            for i, own in zip(members, self._shape_group([trajectories[i] for i in members]), strict=True):
                shaped[i] = own
        return shaped

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Shape an episode that is a group of its own: its turns alone say how hard the tests are."""
        return self([trajectory])[0]

    def _shape_group(self, group: Sequence[Trajectory]) -> list[Trajectory]:
        results = [self._results(trajectory) for trajectory in group]
        ran = [own for episode in results for own in episode if own is not None]
        if not ran:
            raise RewardError(f"{place(group[0])}: no turn of the group ran a test ({self.prefix}...)")
        names = sorted(ran[0])
        for trajectory, episode in zip(group, results, strict=True):
            for number, own in enumerate(episode):
                if own is not None and sorted(own) != names:
                    raise RewardError(f"{place(trajectory, number)} ran other tests than the group: {sorted(own)}")
        passes = np.array([[own[name] for name in names] for own in ran])
        weights = weights_of_tests(passes.mean(axis=0), self.alpha, self.width, self.delta)
        rewards = iter(turn_rewards(passes, weights).tolist())
        paid = [[None if own is None else next(rewards) for own in episode] for episode in results]
        return [self._pay(trajectory, own) for trajectory, own in zip(group, paid, strict=True)]

    def _pay(self, trajectory: Trajectory, rewards: Sequence[float | None]) -> Trajectory:
        outcome = discounted_outcome(outcome_of(trajectory), len(trajectory.turns), self.discount)
        tests = {name for turn in trajectory.turns for name in turn.reward_terms if name.startswith(self.prefix)}
        shaped = pay(trajectory, TERM, rewards, instead_of=tests)
        return pay_last(shaped, OUTCOME, outcome, instead_of=(OUTCOME,))

    def _results(self, trajectory: Trajectory) -> list[dict[str, float] | None]:
        results: list[dict[str, float] | None] = []
        for number, turn in enumerate(trajectory.turns):
            own = {k: v for k, v in {**turn.measures, **turn.reward_terms}.items() if k.startswith(self.prefix)}
            for name, value in own.items():
                if value not in (0, 1):
                    raise RewardError(
                        f"{place(trajectory, number)}: {name!r} is {value}, neither passed (1) nor not (0)"
                    )
            results.append(own or None)
        return results


def sharing_counts(pass_rates: Array, width: float) -> Array:
    """Return, for each test, how many pass about as often, itself included; shape ``(tests,)``."""
    apart = pass_rates[:, None] - pass_rates[None, :]
    counts: Array = np.exp(-(apart**2) / (2 * width**2)).sum(axis=1)
    return counts


def weights_of_tests(pass_rates: Array, alpha: float, width: float, delta: float) -> Array:
    """Return ``exp(-alpha * rate) / (sharing count + delta)``, shape ``(tests,)``."""
    weights: Array = np.exp(-alpha * pass_rates) / (sharing_counts(pass_rates, width) + delta)
    return weights


def turn_rewards(passes: Array, weights: Array) -> Array:
    """Return the weighted sum of the tests that each turn passed, shape ``(turns,)``, of shape ``(turns, tests)``."""
    rewards: Array = passes @ weights
    return rewards


def discounted_outcome(outcome: float, turns: int, discount: float) -> float:
    """Return the outcome, less the more turns it took."""
    return outcome * discount**turns
