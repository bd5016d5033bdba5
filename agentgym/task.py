"""Tasks and the sets they come in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from agentgym.errors import UnknownNameError, UsageError


@dataclass(frozen=True)
class Validation:
    """What a run of the scripted expert on one task showed.

    Attributes:
        solved: The expert ended with success.
        episode_return: Sum of its rewards.
        turns: Number of its moves.
        detail: What went wrong, empty if solved.
    """

    solved: bool
    episode_return: float
    turns: int
    detail: str = ""


@dataclass(frozen=True)
class Task:
    """One thing to do.

    Attributes:
        id: Unique within the environment, readable, the same in every process.
        split: The split that it belongs to, e.g. ``"train"``.
        kind: Family of tasks, e.g. ``"pick_and_place_simple"``; results are broken down by it.
        data: What the environment needs to set it up. Never shown to an agent.
    """

    id: str
    split: str
    kind: str = ""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    prover: Callable[[Task], Validation] | None = field(default=None, repr=False, compare=False)

    def validate(self) -> Validation:
        """Play the environment's scripted expert on this task.

        Raises:
            UsageError: The environment has no expert.
        """
        if self.prover is None:
            raise UsageError(f"task {self.id!r} has no expert to validate it with")
        return self.prover(self)


class DrawnIds(Sequence[str], ABC):
    """Ids that are worked out when they are asked for, so that a split may have millions.

    Args:
        length: How many there are.
    """

    def __init__(self, length: int) -> None:
        self._length = length

    @abstractmethod
    def draw(self, position: int) -> str:
        """Return the id at a position, from 0 to below the length."""

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self.draw(i) for i in range(*position.indices(self._length))]
        if not -self._length <= position < self._length:
            raise IndexError(position)
        return self.draw(position % self._length)


class TaskSet(Sequence[Task]):
    """The tasks of one split, built when asked for.

    Args:
        split: Name of the split.
        ids: Ids in order; may be lazy.
        build: Makes the task with a given id.
        index: Finds the position of an id; by default the ids are searched once and remembered.
    """

    def __init__(
        self,
        split: str,
        ids: Sequence[str],
        build: Callable[[str], Task],
        index: Callable[[str], int] | None = None,
    ) -> None:
        self.split = split
        self.ids = ids
        self._build = build
        self._index = index
        self._positions: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, position: int) -> Task: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Task]: ...
    def __getitem__(self, position: int | slice) -> Task | Sequence[Task]:
        if isinstance(position, slice):
            return [self._build(self.ids[i]) for i in range(*position.indices(len(self)))]
        return self._build(self.ids[position])

    def __iter__(self) -> Iterator[Task]:
        return (self._build(task_id) for task_id in self.ids)

    def get(self, task_id: str) -> Task:
        """Return the task with this id.

        Raises:
            UnknownNameError: No task of this split has the id.
        """
        try:
            self.position(task_id)
        except KeyError:
            raise UnknownNameError(f"task of split {self.split!r}", task_id, self.ids[:200]) from None
        return self._build(task_id)

    def position(self, task_id: str) -> int:
        """Return where in the set this id stands.

        Raises:
            KeyError: No task of this split has the id.
        """
        if self._index is not None:
            return self._index(task_id)
        if self._positions is None:
            self._positions = {known: i for i, known in enumerate(self.ids)}
        return self._positions[task_id]

    def __contains__(self, task: object) -> bool:
        name = getattr(task, "id", task)
        if not isinstance(name, str):
            return False
        try:
            self.position(name)
        except KeyError:
            return False
        return True
