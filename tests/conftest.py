"""What every test may use: a trivial environment of our own, registered as ``tests/GuessDigit-v0``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium
import pytest

from agentgym import AgentEnv, Move, Opening, Task, TaskSet, Transition

DIGITS = tuple("0123456789")


class GuessDigit(AgentEnv):
    """Guess the digit of the task; each wrong guess says whether it was too low or too high."""

    splits: ClassVar[tuple[str, ...]] = ("train", "valid")
    instructions: ClassVar[str] = "Guess a digit."

    def __init__(self, *, size: int = 10, reward: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.reward = reward

    def task_set(self, split: str) -> TaskSet:
        self._known_split(split)
        return TaskSet(split, [f"{split}/{i}" for i in range(self.size)], lambda task_id: self._task(task_id, split))

    def _task(self, task_id: str, split: str) -> Task:
        return self.make_task(task_id, split, kind="digit", data={"digit": int(task_id.split("/")[1]) % 10})

    def _start(self, task: Task) -> Opening:
        return Opening("Guess.", "start", DIGITS, {"digit": task.data["digit"]})

    def _move(self, move: Move) -> Transition:
        assert self.task is not None
        digit = self.task.data["digit"]
        if move.command == "crash":
            raise RuntimeError("the engine fell over")
        if not move.command.isdigit():
            return Transition("That is no digit.", executable=False, state_key="start", admissible_actions=DIGITS)
        guess = int(move.command)
        if guess == digit:
            return Transition("Right.", {"outcome": self.reward}, terminated=True, success=True)
        said = "Too low." if guess < digit else "Too high."
        return Transition(said, state_key=f"after {guess}", admissible_actions=DIGITS)

    def expert_move(self) -> Move:
        assert self.task is not None
        return Move(command=str(self.task.data["digit"]))


@pytest.fixture
def guess_id() -> Iterator[str]:
    env_id = "tests/GuessDigit-v0"
    gymnasium.register(env_id, entry_point=GuessDigit)
    yield env_id
    del gymnasium.registry[env_id]
