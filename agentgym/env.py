"""The contract of an environment: text in, text out, on Gymnasium's five values."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import gymnasium

from agentgym.actions import NOTHING, ActionFormat, Move, make_action_format
from agentgym.errors import ActionParseError, InvalidRewardError, ResetNeededError, UnknownNameError, UsageError
from agentgym.spaces import UnicodeText
from agentgym.task import Task, TaskSet, Validation
from agentgym.trajectory import Mark

Observation = str | dict[str, Any]


class Opening(NamedTuple):
    """What an episode starts with.

    Attributes:
        observation: First observation; text, or a mapping with ``"text"`` and ``"image"`` (uint8, H×W×3).
        state_key: Names the world's state; equal keys mean equal states. Empty if the engine cannot tell.
        admissible_actions: Commands that the engine would accept now; ``None`` if it does not know.
        privileged: Ground truth. No prompt ever shows it.
    """

    observation: Observation
    state_key: str = ""
    admissible_actions: Sequence[str] | None = None
    privileged: Mapping[str, Any] = NOTHING


class Transition(NamedTuple):
    """What one move led to: the fields of :class:`Opening`, and six more.

    Attributes:
        reward_terms: Named parts of the reward; the scalar reward is their sum.
        terminated: The task ended: won, lost or submitted.
        success: Whether it ended well; read only when the episode is over.
        executable: The move acted on the world.
        measures: Named figures of the move that nothing is paid for; reward methods may read them.
        mark: Where the move acted on the picture before it, for who watches.
    """

    observation: Observation
    reward_terms: Mapping[str, float] = NOTHING
    terminated: bool = False
    success: bool = False
    executable: bool = True
    state_key: str = ""
    admissible_actions: Sequence[str] | None = None
    privileged: Mapping[str, Any] = NOTHING
    measures: Mapping[str, float] = NOTHING
    mark: Mark | None = None


class AgentEnv(gymnasium.Env[Observation, str]):
    """Base class of every environment here; a pack writes ``task_set``, ``_start`` and ``_move``.

    ``reset`` and ``step`` hold the contract, so that no pack can break it: seeds, task selection, action
    formats, turn limits, the keys of ``info``. Every ``info`` has ``task``, ``reward_terms``,
    ``invalid_action``, ``executable``, ``state_key``, ``privileged``, ``admissible_actions`` where the engine knows
    them; ``reset`` adds ``tools`` and ``system_prompt``, a step adds ``measures`` and ``mark`` where there are any, the
    last step adds ``success``.

    Args:
        split: Split that ``reset`` draws tasks from unless its options say otherwise.
        action_format: ``"plain"``, ``"thought"``, ``"tag"`` or ``"json"``; see :mod:`agentgym.actions`.
        system_prompt: What a model is told first, instead of the environment's own words; ``""``: nothing.
        max_turns: Turns after which the episode is truncated.
        max_action_bytes: Longest action that is read; a longer one is an invalid action.

    Raises:
        UnknownNameError: The split or the action format does not exist.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}  # type: ignore[misc]  # not ClassVar in gymnasium
    action_space: UnicodeText
    splits: ClassVar[tuple[str, ...]] = ("train",)
    instructions: ClassVar[str] = ""
    tools: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    def __init__(
        self,
        *,
        split: str = "train",
        action_format: str = "plain",
        system_prompt: str | None = None,
        max_turns: int = 50,
        max_action_bytes: int = 16_384,
        render_mode: str | None = None,
    ) -> None:
        if max_turns < 1:
            raise UsageError(f"max_turns must be at least 1, got {max_turns}")
        self.split = self._known_split(split)
        self.action_format: ActionFormat = make_action_format(action_format, self.tools)
        self._system_prompt = system_prompt
        self.max_turns = max_turns
        self.render_mode = render_mode
        self.action_space = UnicodeText(max_bytes=max_action_bytes)
        self.observation_space = UnicodeText(max_bytes=1_048_576)
        self.task: Task | None = None
        self._turn = 0
        self._over = True
        self._last: Opening | Transition = Opening("")

    # -- what a pack writes ---------------------------------------------------------------------------

    @abstractmethod
    def task_set(self, split: str) -> TaskSet:
        """Return the tasks of a split.

        Raises:
            UnknownNameError: There is no such split.
        """

    @abstractmethod
    def _start(self, task: Task) -> Opening:
        """Set the world up for a task. Draws chance only from ``self.np_random``."""

    @abstractmethod
    def _move(self, move: Move) -> Transition:
        """Carry out one move. A move that the world refuses is a transition with ``executable=False``."""

    def expert_move(self) -> Move:
        """Return the move that the scripted expert would make now.

        Raises:
            UsageError: This environment has no expert.
        """
        raise UsageError(f"{type(self).__name__} has no scripted expert")

    # -- Gymnasium ------------------------------------------------------------------------------------

    @property
    def system_prompt(self) -> str:
        """What a model is told before the first observation."""
        if self._system_prompt is not None:
            return self._system_prompt
        return f"{self.instructions}\n{self.action_format.instructions}".strip()

    @property
    def admissible_actions(self) -> Sequence[str] | None:
        """Commands that the engine would accept now; ``None`` if it does not know."""
        return self._last.admissible_actions

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Same seed and options, same episode, to the byte, in any process.
            options: ``split``: a split's name. ``task_id``: the task to play; drawn at random if absent.

        Raises:
            UnknownNameError: The split, the task or an option does not exist.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        tasks = self.task_set(self._known_split(options.pop("split", self.split)))
        task_id = options.pop("task_id", None)
        if options:
            raise UnknownNameError("reset option", next(iter(options)), ("split", "task_id"))
        task = tasks[int(self.np_random.integers(len(tasks)))] if task_id is None else tasks.get(task_id)
        self._over = True  # a failing _start leaves no half-made episode behind
        self.task = task
        self._last = self._start(task)
        self._turn, self._over = 0, False
        info = self._info(self._last, {}, invalid=False, executable=True)
        info["tools"] = [dict(tool) for tool in self.tools]
        info["system_prompt"] = self.system_prompt
        return self._last.observation, info

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one turn with what the model said.

        Text that is no move costs a turn and is answered by an observation that says what was wrong.

        Raises:
            ResetNeededError: There is no running episode.
            InvalidRewardError: The environment paid a reward that is not finite.
        """
        if self._over or self.task is None:
            state = "is over" if self.task is not None else "has not begun"
            raise ResetNeededError(f"the episode {state}: call reset() before step()")
        self._turn += 1
        try:
            move = self._read(action)
        except ActionParseError as error:
            transition = self._refuse(str(error))
            invalid = True
        else:
            transition = self._move(move)
            invalid = False
        reward = _sum_terms(transition.reward_terms, self.task)
        truncated = not transition.terminated and self._turn >= self.max_turns
        self._over = transition.terminated or truncated
        self._last = transition
        info = self._info(transition, transition.reward_terms, invalid=invalid, executable=transition.executable)
        if self._over:
            info["success"] = bool(transition.success)
        return transition.observation, reward, transition.terminated, truncated, info

    def render(self) -> str | None:
        """Return the last observation as text."""
        seen = self._last.observation
        return seen if isinstance(seen, str) else str(seen["text"])

    # -- shared -----------------------------------------------------------------------------------------

    def make_task(self, task_id: str, split: str, kind: str = "", data: Mapping[str, Any] | None = None) -> Task:
        """Make a task whose ``validate`` plays this environment's expert on it."""
        return Task(id=task_id, split=split, kind=kind, data=data or {}, prover=self._prove)

    def _prove(self, task: Task) -> Validation:
        _, info = self.reset(seed=0, options={"split": task.split, "task_id": task.id})
        episode_return, turns = 0.0, 0
        while not self._over:
            action = self.action_format.render(self.expert_move())
            _, reward, _, truncated, info = self.step(action)
            episode_return, turns = episode_return + reward, turns + 1
        solved = bool(info["success"])
        detail = "" if solved else f"the expert {'ran out of turns' if truncated else 'ended without success'}"
        return Validation(solved=solved, episode_return=episode_return, turns=turns, detail=detail)

    def _known_split(self, split: str) -> str:
        if split not in self.splits:
            raise UnknownNameError("split", str(split), self.splits)
        return split

    def _read(self, action: str) -> Move:
        if self.action_space.contains(action):
            return self.action_format.parse(action)
        if not isinstance(action, str):
            raise ActionParseError(f"An action is text; this was {type(action).__name__}.")
        limit = self.action_space.max_bytes
        if len(action) > limit or len(action.encode(errors="replace")) > limit:
            raise ActionParseError(f"Your answer was longer than {limit} bytes. Answer with one short command.")
        raise ActionParseError("Your answer held lone surrogates, which are no text. Answer in plain Unicode.")

    def _refuse(self, message: str) -> Transition:
        """Turn a parse error into an observation; the world stays as it was."""
        last = self._last
        observation: Observation = message
        if not isinstance(last.observation, str):  # a copy: whoever kept the last picture keeps it to himself
            observation = {**copy.deepcopy(last.observation), "text": message}
        return Transition(
            observation=observation,
            executable=False,
            state_key=last.state_key,
            admissible_actions=last.admissible_actions,
            privileged=last.privileged,
        )

    def _info(
        self, seen: Opening | Transition, terms: Mapping[str, float], *, invalid: bool, executable: bool
    ) -> dict[str, Any]:
        task = self.task
        info: dict[str, Any] = {
            "task": {"id": task.id, "split": task.split, "kind": task.kind} if task else {},
            "reward_terms": dict(terms),
            "invalid_action": invalid,
            "executable": executable,
            "state_key": seen.state_key,
            "privileged": dict(seen.privileged),
        }
        if isinstance(seen, Transition) and seen.measures:
            info["measures"] = dict(seen.measures)
        if isinstance(seen, Transition) and seen.mark is not None:
            info["mark"] = {"kind": seen.mark.kind, "place": list(seen.mark.place)}
        if seen.admissible_actions is not None:
            info["admissible_actions"] = list(seen.admissible_actions)
        return info


def _sum_terms(terms: Mapping[str, float], task: Task) -> float:
    total = 0.0
    for name, value in terms.items():
        if not math.isfinite(value):
            raise InvalidRewardError(f"reward term {name!r} of task {task.id!r} is {value}; a reward must be finite")
        total += float(value)
    return total
