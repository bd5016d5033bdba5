"""Which tasks an update plays: a pure function of the run's seed and the update's number."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from agentgym.env import AgentEnv
from agentgym.errors import RecipeError
from agentgym.registry import make
from agentgym.rollout import Episode
from agentgym.train.config import Recipe


class TaskStream:
    """Deals out train tasks: each once per pass over the split, in an order of its own for every pass.

    Nothing is remembered from update to update, so a resumed run goes on with the batch that it would have had.

    Args:
        recipe: The run's.
        task_ids: The tasks to train on.
    """

    def __init__(self, recipe: Recipe, task_ids: Sequence[str]) -> None:
        self.recipe = recipe
        self.task_ids = task_ids

    def groups(self, step: int, round_number: int = 0) -> list[list[Episode]]:
        """Return the groups of an update: members of one share task and seed.

        Args:
            step: Number of the update, from 0.
            round_number: Further rounds replace tied groups; their tasks are drawn at random.
        """
        grpo, env = self.recipe.grpo, self.recipe.env
        groups = []
        for place in range(grpo.tasks_per_update):
            chance = np.random.default_rng([self.recipe.run.seed, 1, step, round_number, place])
            if round_number == 0:
                task_id = self.task_ids[self._position(step * grpo.tasks_per_update + place)]
            else:
                task_id = self.task_ids[int(chance.integers(len(self.task_ids)))]
            episode = Episode(
                env.id,
                env.split,
                task_id=task_id,
                seed=int(chance.integers(2**31)),
                group=f"{step}.{round_number}.{place}",
                policy_version=step,
            )
            groups.append([episode] * grpo.group_size)
        return groups

    def demonstrations(self, count: int, salt: int = 2) -> list[Episode]:
        """Return episodes for the expert, on as many different tasks as there are."""
        env = self.recipe.env
        chance = np.random.default_rng([self.recipe.run.seed, salt])
        order = chance.permutation(len(self.task_ids))
        seeds = chance.integers(2**31, size=count)
        return [
            Episode(env.id, env.split, task_id=self.task_ids[int(order[i % len(order)])], seed=int(seeds[i]))
            for i in range(count)
        ]

    def _position(self, number: int) -> int:
        passed, place = divmod(number, len(self.task_ids))
        return int(_order(self.recipe.run.seed, passed, len(self.task_ids))[place])


@functools.lru_cache(maxsize=2)
def _order(seed: int, passed: int, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.random.default_rng([seed, 0, passed]).permutation(size)


def batch_digest(played: Iterable[tuple[str | None, int]]) -> str:
    """Return a short name of a batch, given the task and seed of each of its episodes: equal batches, equal names."""
    return hashlib.sha256(repr(list(played)).encode()).hexdigest()[:12]


def open_task_stream(recipe: Recipe) -> TaskStream:
    """Read the train tasks from the environment.

    Raises:
        UnknownNameError: There is no such environment or split.
        RecipeError: It has no tasks, or is not an ``AgentEnv``.
    """
    env = make(recipe.env.id, **recipe.env.kwargs)
    try:
        base = env.unwrapped
        if not isinstance(base, AgentEnv):
            raise RecipeError(f"{recipe.env.id} is no agentgym environment: there are no tasks in text to train on")
        task_ids = base.task_set(recipe.env.split).ids[: recipe.env.tasks]
        if recipe.grpo.updates or recipe.eval.episodes:
            base.task_set(recipe.eval.split)  # a misspelt split is told now, not after an hour of training
    finally:
        env.close()
    if not len(task_ids):
        raise RecipeError(f"split {recipe.env.split!r} of {recipe.env.id} has no tasks")
    return TaskStream(recipe, task_ids)
