"""``agentgym/SearchQA-v0``: questions that are answered by searching a corpus."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from agentgym.actions import Move, ToolCall
from agentgym.env import AgentEnv, Observation, Opening, Transition
from agentgym.errors import ActionParseError, UsageError
from agentgym.task import Task, TaskSet
from agentgym_search.datasets import FileLibrary
from agentgym_search.generate import SPLITS, FactLibrary
from agentgym_search.grading import grade_f1, is_exact
from agentgym_search.question import Library, Question

_COMMAND = re.compile(r"(search|answer)\s*:\s*(.*\S)", re.IGNORECASE)
_ARGUMENTS: Mapping[str, str] = {"search": "query", "answer": "text"}
_NAME = re.compile(r"[^\W\d_a-z][\w'’-]*(?: [^\W\d_a-z][\w'’-]*)*|\d{4}")
_MAX_GUESSES = 8


class SearchQAEnv(AgentEnv):
    """Answer a question by searching a corpus, one query a turn.

    Tools, and the commands that stand for them: ``search: words`` shows the passages that fit best, ``answer: text``
    ends the episode. The reward term ``outcome`` is the F1 of the answer's words, the best over the accepted answers;
    ``success`` is an exact match (:mod:`agentgym_search.grading`). ``info["privileged"]`` has the ``answers`` and the
    titles of the ``supporting`` passages; the last step's ``info["measures"]`` has ``exact_match``, ``f1`` and
    ``recall``, the share of supporting passages that were seen. ``admissible_actions`` are some of what can be
    said: searches for words and titles that were shown last, and names that stand there as answers.

    Args:
        data: A file or folder of HotpotQA, 2WikiMultihopQA, MuSiQue or alike (:mod:`agentgym_search.datasets`), each
            file a split named after it; by default questions are generated from facts.
        corpus: A file of passages beside those of ``data``.
        split: Split that ``reset`` draws from; by default the first.
        families: Families of generated questions (:data:`agentgym_search.generate.FAMILIES`); by default all.
        fictions: Play in so many fictional worlds of each split instead of the real one: the same names, other facts
            (:mod:`agentgym_search.fictions`). 0: real facts.
        tasks_per_split: Number of generated questions in a split.
        top_k: Passages that a search shows.
        passage_chars: Longest passage shown, title included.
        max_turns: Turns after which the episode is truncated.
        **kwargs: As for :class:`agentgym.env.AgentEnv`.

    Attributes:
        library: Where questions and passages come from.

    Raises:
        UnknownNameError: A split or family does not exist.
        DataFileError: ``data`` has no file of questions.
        UsageError: A number makes no sense, or two sources of questions are given.
    """

    splits: tuple[str, ...] = SPLITS  # type: ignore[misc]  # of the class for generated questions, else of the data
    instructions: ClassVar[str] = (
        "You answer a question with the help of a library that you can search. Commands: search: (a few words), "
        "which shows the passages that fit best; answer: (the answer in as few words as possible), which ends the task."
    )
    tools: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {
            "name": "search",
            "description": "Show the passages of the library that fit a few words best.",
            "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
        },
        {
            "name": "answer",
            "description": "Hand in the answer, in as few words as possible. This ends the task.",
            "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        },
    )

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        corpus: str | Path | None = None,
        split: str | None = None,
        families: Sequence[str] | None = None,
        fictions: int = 0,
        tasks_per_split: int = 10_000,
        top_k: int = 3,
        passage_chars: int = 1000,
        max_turns: int = 12,
        **kwargs: Any,
    ) -> None:
        if top_k < 1 or passage_chars < 40:
            raise UsageError(f"top_k is at least 1 and passage_chars at least 40, got {top_k} and {passage_chars}")
        if data is not None and (families is not None or fictions):
            raise UsageError("families and fictions are of generated questions: leave them out where data is given")
        if data is None and corpus is not None:
            raise UsageError("a corpus goes with data: generated questions have their own")
        self.library: Library = (
            FileLibrary(data, corpus) if data is not None else FactLibrary(families, tasks_per_split, fictions)
        )
        self.splits = self.library.splits
        super().__init__(split=self.splits[0] if split is None else split, max_turns=max_turns, **kwargs)
        if self.action_format.name == "json":
            self.action_format = CommandCall(self.tools)
        self._top_k, self._passage_chars = top_k, passage_chars
        self._task_sets: dict[str, TaskSet] = {}
        self._question: Question | None = None
        self._seen: set[int] = set()
        self._asked: set[str] = set()
        self._measures: dict[str, float] = {}

    def task_set(self, split: str) -> TaskSet:
        """Return the tasks of a split; a generated question is made when it is played.

        Raises:
            UnknownNameError: There is no such split.
            DataFileError: The split's file cannot be read.
        """
        if self._known_split(split) not in self._task_sets:
            ids = self.library.ids(split)

            def build(task_id: str) -> Task:
                return self.make_task(task_id, split, kind=self.library.question(split, task_id).kind)

            index = self.library.position
            self._task_sets[split] = TaskSet(split, ids, build, index=lambda task_id: index(split, task_id))
        return self._task_sets[split]

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one turn; the last step's ``info`` has ``measures`` beside the usual."""
        observation, reward, terminated, truncated, info = super().step(action)
        if terminated or truncated:
            found = {hop.passage for hop in self._playing().hops}
            seen = sum(self._index.number_of(passage) in self._seen for passage in found)
            info["measures"] = {"exact_match": 0.0, "f1": 0.0, **self._measures}
            if found:
                info["measures"]["recall"] = seen / len(found)
        return observation, reward, terminated, truncated, info

    def expert_move(self) -> Move:
        """Search for each supporting passage until it was seen, then give the answer.

        The expert knows the way and the answer, but answers only what the corpus has shown; where two searches do not
        show a passage, it gives up. Where the way is not known, it searches for the question.

        Raises:
            UsageError: No question is being played.
        """
        question = self._playing()
        known = ""
        for hop in question.hops:
            if self._index.number_of(hop.passage) not in self._seen:
                untried = [query for query in hop.queries if query not in self._asked]
                thought = ", ".join(part for part in (known, hop.thought) if part)
                return _move("search", untried[0], thought) if untried else _move("answer", "unknown")
            known = f"found {hop.found}" if hop.found else ""
        if not question.hops and question.text not in self._asked:
            return _move("search", question.text)
        return _move("answer", question.answers[0], known)

    def _start(self, task: Task) -> Opening:
        self._question = self.library.question(task.split, task.id)
        self._index = self.library.index(task.split, task.id)
        self._seen, self._asked, self._measures = set(), set(), {}
        text = self._question.text
        words = [word for word in re.findall(r"\w+", text) if len(word) > 3] or [text]
        return Opening(f"Question: {text}", self._state_key(), self._suggest(words, ""), self._privileged())

    def _read(self, action: str) -> Move:
        move = super()._read(action)
        if move.tool:
            argument = " ".join(str(move.arguments[_ARGUMENTS[move.tool]]).split())
            if not argument:
                raise ActionParseError(f"The argument of {move.tool} was empty. Give it some words.")
            return _move(move.tool, argument, move.thought)
        return read_command(move)

    def _move(self, move: Move) -> Transition:
        argument = move.command.partition(": ")[2]
        return self._search(argument) if move.tool == "search" else self._grade(argument)

    def _search(self, query: str) -> Transition:
        self._asked.add(query)
        numbers = self._index.search(query, self._top_k)
        self._seen.update(numbers)
        passages = [self._index.passages[number] for number in numbers]
        titles = [passage.title for passage in passages]
        shown = "\n".join(passage.show(self._passage_chars) for passage in passages)
        return Transition(
            observation=shown or "No passage has any of these words. Search for others.",
            reward_terms={"outcome": 0.0},
            executable=bool(numbers),
            state_key=self._state_key(),
            admissible_actions=self._suggest(titles, shown) if titles else self.admissible_actions,
            privileged=self._privileged(),
        )

    def _grade(self, text: str) -> Transition:
        answers = self._playing().answers
        f1, exact = grade_f1(text, answers), is_exact(text, answers)
        self._measures = {"exact_match": float(exact), "f1": f1}
        return Transition(
            observation="Your answer was handed in.",
            reward_terms={"outcome": f1},
            terminated=True,
            success=exact,
            state_key=self._state_key(),
            admissible_actions=(),
            privileged=self._privileged(),
        )

    def _suggest(self, searches: Sequence[str], shown: str) -> list[str]:
        names = list(dict.fromkeys(_NAME.findall(shown)))[:_MAX_GUESSES]
        return [f"search: {text}" for text in dict.fromkeys(searches)] + [f"answer: {name}" for name in names]

    def _state_key(self) -> str:
        seen = json.dumps([self.task.id if self.task else "", sorted(self._seen)])
        return hashlib.sha256(seen.encode()).hexdigest()[:16]

    def _privileged(self) -> dict[str, Any]:
        question = self._playing()
        return {"answers": list(question.answers), "supporting": list(question.supporting)}

    def _playing(self) -> Question:
        if self._question is None:
            raise UsageError("no question is being played: call reset() first")
        return self._question


class CommandCall(ToolCall):
    """JSON tool calls that can also be written from a command line, as random play has them."""

    def render(self, move: Move) -> str:
        """Write the call of the tool that a command names."""
        return super().render(move if move.tool else read_command(move))


def read_command(move: Move) -> Move:
    """Return the tool call that a command line stands for.

    Raises:
        ActionParseError: It is neither ``search: …`` nor ``answer: …``.
    """
    found = _COMMAND.fullmatch(move.command)
    if not found:
        raise ActionParseError("This is no command. Write search: and a few words, or answer: and the answer.")
    return _move(found[1].lower(), " ".join(found[2].split()), move.thought)


def _move(tool: str, argument: str, thought: str = "") -> Move:
    return Move(f"{tool}: {argument}", tool, {_ARGUMENTS[tool]: argument}, thought)
