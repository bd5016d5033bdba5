"""Information gain (IGPO): a turn is worth how much likelier it made the right answer."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from typing import Any, Literal

import numpy as np

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import (
    OUTCOME,
    Array,
    Continuation,
    LanguageModel,
    TrajectoryReward,
    check_finite,
    check_spans,
    outcome_of,
    place,
    raw_measures,
    with_terms,
)
from agentgym.trajectory import Trajectory

GAIN = "information_gain"
ANSWER = "{answer}"
_BLANKS = str.maketrans(string.punctuation, " " * len(string.punctuation))


@dataclass(frozen=True)
class AnswerFormat:
    """How an answer stands in text.

    Attributes:
        template: What the model would say to answer, with ``{answer}`` where the answer stands. What precedes it is
            given to the model, the answer's own tokens are scored, what follows is not read.
        answer_tag: Tag around the answer in the last action.
        balanced_tags: Tags of which an action has as many openings as closings, or it is malformed.
    """

    template: str = "</think>\n<answer>{answer}</answer>"
    answer_tag: str = "answer"
    balanced_tags: tuple[str, ...] = ("answer",)

    def read(self, action: str) -> str | None:
        """Return the last answer in an action; ``None`` if there is none or tags are unbalanced."""
        for tag in self.balanced_tags:
            if action.count(f"<{tag}>") != action.count(f"</{tag}>"):
                return None
        found = re.findall(rf"<{re.escape(self.answer_tag)}>(.*?)</{re.escape(self.answer_tag)}>", action, re.DOTALL)
        return found[-1] if found else None


class InformationGain(TrajectoryReward):
    """Pay each turn by how much likelier it made the right answer, and the last turn the outcome (IGPO, 2510.14967).

    The answer is scored by the policy itself, teacher-forced after the tokens that it has read before each turn; the
    gain of a turn is the difference between after it, with what the world replied, and before it. So the gains of an
    episode sum to what its last turn knew less what its first knew. Take the advantage ``igpo``, which standardises
    gains and outcomes over the group.

    All turns but the last get the one term ``information_gain``, the last gets ``outcome``. What the environment paid
    is kept in ``measures`` as ``raw/<term>``; the last turn's have ``answer_logprob``, per token, before it acted.

    Args:
        difference: Of the mean ``log`` probability per token of the answer, or of its exponential, ``prob``.
        scale: Multiplies the gains.
        outcome: ``f1`` of the last answer's words, as the paper; or ``environment``: what that paid.
        malformed: Outcome, with ``f1``, of a last turn without answer or with unbalanced tags; ``None``: 0.
        aliases: Score the ``first`` of several right answers, or the ``best`` at each turn (design).
        answers_key: Where ``trajectory.privileged`` lists the right answers.
        answer_format: How answers stand in text: an :class:`AnswerFormat`, or its arguments.

    Raises:
        RewardError: An argument makes no sense.
    """

    needs_model = True

    def __init__(
        self,
        *,
        difference: Literal["log", "prob"] = "log",
        scale: float = 1.0,
        outcome: Literal["f1", "environment"] = "f1",
        malformed: float | None = -2.0,
        aliases: Literal["first", "best"] = "first",
        answers_key: str = "answers",
        answer_format: AnswerFormat | Mapping[str, Any] | None = None,
    ) -> None:
        for value, known in ((difference, ("log", "prob")), (outcome, ("f1", "environment"))):
            if value not in known:
                raise RewardError(f"information_gain: {value!r} is none of {known}")
        if aliases not in ("first", "best"):
            raise RewardError(f"information_gain: aliases are 'first' or 'best', not {aliases!r}")
        self.difference, self.scale, self.outcome, self.malformed = difference, scale, outcome, malformed
        self.aliases, self.answers_key = aliases, answers_key
        self.format = (
            answer_format if isinstance(answer_format, AnswerFormat) else AnswerFormat(**(answer_format or {}))
        )
        if self.format.template.count(ANSWER) != 1:
            raise RewardError(f"information_gain: the template has {ANSWER} once, not as in {self.format.template!r}")
        self._model: LanguageModel | None = None

    def bind(self, model: LanguageModel) -> None:
        """Give the method the policy's own model."""
        self._model = model

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Shape one episode.

        Raises:
            RewardError: As of a batch.
        """
        return self([trajectory])[0]

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Shape a batch, with one call of the model for all turns of all episodes.

        Raises:
            RewardError: There is no model, an episode has no right answers or no tokens, or a score is not finite.
        """
        played = [t for t in trajectories if t.scorable and t.turns]
        beliefs = dict(zip(map(id, played), self._beliefs(played), strict=True))
        return [self._pay(t, beliefs[id(t)]) if id(t) in beliefs else t for t in trajectories]

    def _beliefs(self, trajectories: Sequence[Trajectory]) -> list[Array]:
        """Return, for each episode, the answer's log-probability per token before each turn, shape ``(turns,)``."""
        if self._model is None:
            raise RewardError("information_gain scores answers with the policy's model: call bind(model) first")
        asked: list[Continuation] = []
        places: list[str] = []
        counts = []
        for trajectory in trajectories:
            check_spans(trajectory)
            ids = trajectory.token_ids()[0]
            answers = [self._say(self._model, text) for text in self._answers(trajectory)]
            if not all(answer for _, answer in answers):
                raise RewardError(f"{place(trajectory)}: an answer has no tokens: {self._answers(trajectory)}")
            counts.append(len(answers))
            for number, turn in enumerate(trajectory.turns):
                context = ids[: turn.span[0]]
                asked += [Continuation([*context, *opening], answer) for opening, answer in answers]
                places += [place(trajectory, number)] * len(answers)
        scores = iter(_means(asked, self._model.score(asked) if asked else [], places))
        return [
            np.array([max(next(scores) for _ in range(count)) for _ in trajectory.turns])
            for trajectory, count in zip(trajectories, counts, strict=True)
        ]

    def _say(self, model: LanguageModel, answer: str) -> tuple[list[int], list[int]]:
        """Return what precedes an answer and the answer, encoded in one: tokens may begin with the blank between."""
        opening = self.format.template.partition(ANSWER)[0]
        alone, whole = model.encode(opening), model.encode(opening + answer)
        given = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(alone, whole, strict=False))))
        return whole[:given], whole[given:]

    def _answers(self, trajectory: Trajectory) -> list[str]:
        answers = trajectory.privileged.get(self.answers_key)
        if not isinstance(answers, list | tuple) or not answers or not all(isinstance(a, str) and a for a in answers):
            raise RewardError(
                f"{place(trajectory)}: information_gain needs the right answers, a list of texts, in "
                f"privileged[{self.answers_key!r}], which is {answers!r}"
            )
        return list(answers[:1] if self.aliases == "first" else answers)

    def _pay(self, trajectory: Trajectory, beliefs: Array) -> Trajectory:
        check_finite(trajectory)
        gains = information_gains(beliefs, self.difference)
        *earlier, last = trajectory.turns
        turns = [
            with_terms(turn, {GAIN: self.scale * float(gain)}, raw_measures(turn))
            for turn, gain in zip(earlier, gains, strict=True)
        ]
        known = {"answer_logprob": float(beliefs[-1])}
        turns.append(with_terms(last, {OUTCOME: self._outcome(trajectory)}, {**raw_measures(last), **known}))
        return replace(trajectory, turns=tuple(turns))

    def _outcome(self, trajectory: Trajectory) -> float:
        if self.outcome == "environment":
            return outcome_of(trajectory)
        answer = self.format.read(trajectory.turns[-1].action)
        if answer is None:
            return self.malformed or 0.0
        return word_f1(answer, trajectory.privileged[self.answers_key])


def _means(asked: Sequence[Continuation], scores: Sequence[Array], places: Sequence[str]) -> list[float]:
    if len(scores) != len(asked):
        raise RewardError(f"information_gain asked for {len(asked)} scores, and the model gave {len(scores)}")
    for one, own, where in zip(asked, scores, places, strict=True):
        if len(own) != len(one.ids) or not np.isfinite(own).all():
            raise RewardError(f"{where}: the answer has {len(one.ids)} tokens, and the model gave them {own}")
    return [float(np.mean(own)) for own in scores]


def information_gains(beliefs: Sequence[float] | Array, difference: Literal["log", "prob"] = "log") -> Array:
    """Return the gain of each turn but the last, given the answer's log-probability before each; they telescope."""
    levels = np.asarray(beliefs, dtype=np.float64) if difference == "log" else np.exp(beliefs)
    return np.array([after - before for before, after in pairwise(levels)])


def word_f1(answer: str, right: Sequence[str]) -> float:
    """Return the F1 of the sets of words, lower case and without punctuation, against the best of the right answers."""
    said = _words(answer)
    best = 0.0
    for text in right:
        wanted = _words(text)
        shared = len(said & wanted)
        if shared:
            best = max(best, 2 * shared / (len(said) + len(wanted)))
    return best


def _words(text: str) -> set[str]:
    return set(text.lower().translate(_BLANKS).split())
