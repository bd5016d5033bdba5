"""InfoPO: a turn is worth what its answer changed in the next action."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentgym.errors import RewardError
from agentgym.rewards.terms import pay
from agentgym.rewards.trajectory_reward import Array, Continuation, LanguageModel, TrajectoryReward, place
from agentgym.trajectory import Trajectory, Turn

TERM = "infopo"


class InfoPO(TrajectoryReward):
    """Pays a turn the log-probability that its answer added to the next action, per token (arXiv 2603.00656).

    The next action is scored twice by the policy itself, once as it was said and once with the observation before it
    replaced by a placeholder of as many tokens; the difference, averaged over the action's tokens, is paid to the
    action that asked. In expectation it is the mutual information of observation and next action. No ground truth is
    needed. The last turn asks nothing that could be used, and is paid nothing.

    It costs two forward passes per turn but the first; they go to the model in one call for the whole batch. Use it
    with the advantage of the same name, in which information counts only where outcomes tie.

    Args:
        placeholder: What a turn that learned nothing would have read; its tokens are repeated or cut to the length of
            the observation. The text is the released code's, repeating it is design.

    Raises:
        RewardError: The placeholder is empty.
    """

    needs_model = True

    def __init__(self, *, placeholder: str = "No information found.") -> None:
        if not placeholder.strip():
            raise RewardError("infopo needs a placeholder that says something")
        self.placeholder = placeholder
        self.model: LanguageModel | None = None

    def bind(self, model: LanguageModel) -> None:
        """Give the method the policy's own model."""
        self.model = model

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Shape a batch with one call of the model.

        Raises:
            RewardError: No model was bound, or an episode has no token ids, or an observation's are not among its
                prompt's, or the model's answer does not fit.
        """
        if self.model is None:
            raise RewardError("infopo looks into the policy: bind() it to a model first")
        questions: list[Continuation] = []
        for trajectory in trajectories:
            if trajectory.scorable:
                questions += self._questions(trajectory, self.model)
        scores = iter(_ask(self.model, questions))
        shaped = []
        for trajectory in trajectories:
            if not trajectory.scorable:
                shaped.append(trajectory)
                continue
            gains = [info_reward(next(scores), next(scores)) for _ in trajectory.turns[1:]]
            shaped.append(pay(trajectory, TERM, [*gains, None] if trajectory.turns else []))
        return shaped

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Shape one episode."""
        return self([trajectory])[0]

    def _questions(self, trajectory: Trajectory, model: LanguageModel) -> list[Continuation]:
        """Return, for each turn but the first, its action after what was read and after the placeholder."""
        filler = model.encode(self.placeholder)
        if not filler:
            raise RewardError(f"infopo: the model has no token for the placeholder {self.placeholder!r}")
        questions: list[Continuation] = []
        context: list[int] = []
        for number, turn in enumerate(trajectory.turns):
            if not turn.token_ids or not turn.prompt_ids:
                raise RewardError(f"{place(trajectory, number)} has no token ids, and infopo scores tokens")
            if number:
                start, stop = _find_observation(trajectory, number, turn, model)
                blank = [filler[i % len(filler)] for i in range(stop - start)]
                without = [*turn.prompt_ids[:start], *blank, *turn.prompt_ids[stop:]]
                questions.append(Continuation([*context, *turn.prompt_ids], turn.token_ids))
                questions.append(Continuation([*context, *without], turn.token_ids))
            context += [*turn.prompt_ids, *turn.token_ids]
        return questions


def info_reward(with_observation: Array, without_observation: Array) -> float:
    """Return the mean over an action's tokens of what the observation added to their log-probability, in nats."""
    return float(np.mean(with_observation - without_observation))


def _find_observation(trajectory: Trajectory, number: int, turn: Turn, model: LanguageModel) -> tuple[int, int]:
    """Return where the observation's tokens lie in the turn's prompt, which has the chat template around them."""
    prompt = turn.prompt_ids
    for text in (turn.observation, turn.observation.strip()):  # many templates strip what they are given
        ids = tuple(model.encode(text))
        for start in range(len(prompt) - len(ids), -1, -1):
            if prompt[start : start + len(ids)] == ids:
                return start, start + len(ids)
    raise RewardError(
        f"{place(trajectory, number)}: the observation's tokens are not among the prompt's, so infopo cannot replace "
        "them; was the episode played with another tokenizer?"
    )


def _ask(model: LanguageModel, questions: Sequence[Continuation]) -> list[Array]:
    scores = model.score(questions) if questions else []
    if len(scores) != len(questions):
        raise RewardError(f"the model scored {len(scores)} of {len(questions)} continuations")
    for question, own in zip(questions, scores, strict=True):
        if np.shape(own) != (len(question.ids),):
            raise RewardError(f"the model scored {np.shape(own)} tokens of a continuation of {len(question.ids)}")
    return scores
