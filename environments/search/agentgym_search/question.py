"""A question with its answers and the passages that lead to them, and where questions come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agentgym_search.index import PassageIndex
from agentgym_search.passages import Passage


@dataclass(frozen=True)
class Hop:
    """One step on the way to the answer.

    Attributes:
        queries: What the expert searches for until it sees the passage.
        passage: What must be found.
        thought: What is looked for, in a few words.
        found: What the passage says of it; empty if that is not known.
    """

    queries: tuple[str, ...]
    passage: Passage
    thought: str = ""
    found: str = ""


@dataclass(frozen=True)
class Question:
    """A task.

    Attributes:
        id: Unique in its split.
        kind: Its family.
        text: What is asked.
        answers: Accepted answers, the preferred one first.
        hops: The way to the answer; empty if it is not known.
    """

    id: str
    kind: str
    text: str
    answers: tuple[str, ...]
    hops: tuple[Hop, ...] = ()

    @property
    def supporting(self) -> tuple[str, ...]:
        """Titles of the passages that lead to the answer, each once."""
        return tuple(dict.fromkeys(hop.passage.title for hop in self.hops))


class Library(Protocol):
    """Questions in splits, and for each question what can be searched."""

    splits: tuple[str, ...]

    def ids(self, split: str) -> Sequence[str]:
        """Return the ids of a split in order; may be lazy."""
        ...

    def position(self, split: str, question_id: str) -> int:
        """Return where an id stands.

        Raises:
            KeyError: The split has no such id.
        """
        ...

    def question(self, split: str, question_id: str) -> Question:
        """Return the question with an id that the split has."""
        ...

    def index(self, split: str, question_id: str) -> PassageIndex:
        """Return what a question of the split is answered from."""
        ...
