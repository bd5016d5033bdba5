"""``agentgym/Household-v0``: household tasks on ALFWorld's genuine engine."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agentgym.actions import Move
from agentgym.env import AgentEnv, Opening, Transition
from agentgym.errors import UnknownNameError, UsageError
from agentgym.task import DrawnIds, Task, TaskSet
from agentgym_household.alfred.goal import TASK_TYPES, Goal, read_goal

if TYPE_CHECKING:
    from agentgym_household.alfred.beliefs import Beliefs, Reader
    from agentgym_household.alfred.engine import MemoPddlEnv
    from agentgym_household.alfred.expert import Expert
    from agentgym_household.alfred.walk import Walk

# Parser, translator and grammar keep state of the process; the interpreter runs one thread of them at a time anyway.
_ENGINE_LOCK = threading.RLock()
# One game starts at a time, but while it is translated the others may go on.
_START_LOCK = threading.Lock()
EXPERTS = ("oracle", "searching", "sweeping", "wandering")
_PUT = re.compile(r"put (.+?) (?:in/on|into|onto|in|on) (.+)", re.IGNORECASE)


class TaskIds(DrawnIds):
    """Ids of generated tasks; drawn when asked for."""

    def __init__(self, split: str, length: int, task_types: Sequence[str]) -> None:
        super().__init__(length)
        self._split = split
        self._turns = [TASK_TYPES.index(kind) for kind in TASK_TYPES if kind in task_types]

    def draw(self, position: int) -> str:
        """Return the id at a position."""
        from agentgym_household.alfred.generate import draw_recipe

        rounds, turn = divmod(position, len(self._turns))
        return draw_recipe(self._split, rounds * len(TASK_TYPES) + self._turns[turn]).task_id

    def position(self, task_id: str) -> int:
        """Return where an id stands.

        Raises:
            KeyError: It is no id of this split.
        """
        number = task_id.rpartition("/")[2]
        if re.fullmatch(r"[0-9]{1,9}", number):
            rounds, turn = divmod(int(number), len(TASK_TYPES))
            if turn in self._turns:
                position = rounds * len(self._turns) + self._turns.index(turn)
                if position < self._length and self[position] == task_id:
                    return position
        raise KeyError(task_id)


class HouseholdEnv(AgentEnv):
    """Find things in a room, clean, heat or cool them, and put them where they are wanted, by text commands.

    World and text are those of ALFWorld 0.4.2 (Shridhar et al., 2021, arXiv:2010.03768), on TextWorld's PDDL engine.
    Games are generated over the 120 AI2-THOR floor plans, or read from a user's own ``json_2.1.1`` tree. The only
    reward term is ``outcome``: 1 on the step that reaches the goal. Commands in the older wording
    ``put X in/on Y`` are read as ``move X to Y``.

    Args:
        data_dir: Folder with the ALFWorld release (``json_2.1.1/…``); by default ``$ALFWORLD_DATA``, and if that is
            unset, or this is ``"generated"``, tasks are generated.
        task_types: Types of task to play; all six by default.
        expert: ``"oracle"`` knows where things are; ``"searching"`` knows what it has read and looks first where such
            things tend to be; ``"sweeping"`` looks from place to place as they are listed, ``"wandering"`` in an order
            of chance. A mapping of these to weights draws one for each episode, by the seed of ``reset``.
        tasks_per_split: Number of generated tasks in a split.
        trust_game_files: Play game files with any grammar, which the engine evaluates as Python code.
        progress_reward: Weight of the reward term ``progress``, the change in the share of the goal's stages that are
            reached (:mod:`agentgym_household.alfred.progress`); 0: the outcome alone is paid.
        **kwargs: As for :class:`agentgym.env.AgentEnv`.

    Raises:
        UnknownNameError: A type, style or split does not exist.
        GameFileError: ``data_dir`` is no folder.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "valid_seen", "valid_unseen")
    instructions: ClassVar[str] = (
        "You are in a room and have a household task. Commands: look, inventory, go to (receptacle), "
        "open (receptacle), close (receptacle), take (object) from (receptacle), move (object) to (receptacle), "
        "examine (something), use (object), heat (object) with (receptacle), clean (object) with (receptacle), "
        "cool (object) with (receptacle)."
    )

    def __init__(
        self,
        *,
        data_dir: str | Path | None = None,
        task_types: Sequence[str] | None = None,
        expert: str | Mapping[str, float] = "oracle",
        tasks_per_split: int = 10_000,
        trust_game_files: bool = False,
        progress_reward: float = 0.0,
        **kwargs: Any,
    ) -> None:
        from agentgym_household.alfred.dataset import find_data_dir

        super().__init__(**kwargs)
        self._task_types = _read_types(task_types)
        if not 1 <= tasks_per_split < 10**8:
            raise UsageError(f"tasks_per_split must be from 1 to 99999999, got {tasks_per_split}")
        self._experts = _read_experts(expert)
        self._tasks_per_split = tasks_per_split
        self._trust = trust_game_files
        if not 0 <= progress_reward < math.inf:
            raise UsageError(f"progress_reward is a number from 0, got {progress_reward}")
        self._progress_reward, self._progress = progress_reward, 0.0
        self._folder = None if data_dir == "generated" else find_data_dir(data_dir)
        self._task_sets: dict[tuple[str, tuple[str, ...]], TaskSet] = {}
        self._engine: MemoPddlEnv | None = None
        self._walk: Walk | None = None
        self._expert: Expert | None = None
        self._reader: Reader | None = None
        self._goal: Goal | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; besides the usual options, ``task_types`` restricts the types for this draw."""
        options = dict(options or {})
        before = self._task_types
        if "task_types" in options:
            self._task_types = _read_types(options.pop("task_types"))
        try:
            return super().reset(seed=seed, options=options)
        finally:
            self._task_types = before

    def task_set(self, split: str) -> TaskSet:
        """Return the tasks of a split; a generated game is made when it is played.

        Raises:
            UnknownNameError: There is no such split.
            GameFileError: The user's folder has no game of this split.
        """
        key = (self._known_split(split), self._task_types)
        if key not in self._task_sets:
            self._task_sets[key] = self._own_tasks(split) if self._folder is not None else self._made_tasks(split)
        return self._task_sets[key]

    def expert_move(self) -> Move:
        """Return the scripted expert's next command with a thought; ``look`` where it knows no way on.

        Raises:
            UsageError: No game is being played.
        """
        with _ENGINE_LOCK:
            if self._expert is None:
                raise UsageError("no game is being played: call reset() first")
            known = self._beliefs()
            command = self._expert.next_command(known)
            if command not in (self.admissible_actions or ()):
                command = "look"
            return Move(command=command, thought=self._expert.think(known, command))

    def close(self) -> None:
        """Free the engine."""
        with _ENGINE_LOCK:
            if self._engine is not None:
                self._engine.close()
        self._engine = self._walk = self._expert = self._reader = None
        super().close()

    def _made_tasks(self, split: str) -> TaskSet:
        ids = TaskIds(split, self._tasks_per_split, self._task_types)

        def build(task_id: str) -> Task:
            index = int(task_id.rpartition("/")[2])
            return self.make_task(task_id, split, kind=TASK_TYPES[index % len(TASK_TYPES)], data={"index": index})

        return TaskSet(split, ids, build, index=ids.position)

    def _own_tasks(self, split: str) -> TaskSet:
        from agentgym_household.alfred.dataset import find_games, task_type_of

        assert self._folder is not None
        games = find_games(self._folder, split, self._task_types)

        def build(task_id: str) -> Task:
            data = {"path": str(games[task_id])}
            return self.make_task(task_id, split, kind=task_type_of(task_id), data=data)

        return TaskSet(split, list(games), build)

    def _start(self, task: Task) -> Opening:
        from agentgym_household.alfred.engine import GAMES
        from agentgym_household.alfred.generate import draw_recipe, generate_game

        with _START_LOCK:
            if "path" in task.data:
                game = task.data["path"]
            else:
                game = generate_game(draw_recipe(task.split, task.data["index"]))
                GAMES.prepare(game)
            with _ENGINE_LOCK:
                return self._start_alone(game)

    def _move(self, move: Move) -> Transition:
        with _ENGINE_LOCK:
            return self._move_alone(move)

    def _start_alone(self, game: str | Mapping[str, Any]) -> Opening:
        from agentgym_household.alfred.beliefs import Reader
        from agentgym_household.alfred.engine import MemoPddlEnv
        from agentgym_household.alfred.expert import Expert
        from agentgym_household.alfred.walk import Walk

        if self._engine is None:
            self._engine = MemoPddlEnv(trust_game_files=self._trust)
        engine = self._engine
        engine.load(game)
        self._goal = read_goal(engine._game_data["pddl_problem"])
        # Not the expert's next move: it costs several steps of the engine, and who wants it calls expert_move().
        self._walk = Walk(engine, {"goal": repr(self._goal)})
        opening = self._walk.opening
        style = str(self.np_random.choice(list(self._experts), p=list(self._experts.values())))
        self._expert = Expert(self._goal, style, int(self.np_random.integers(2**31)))
        self._reader = Reader(str(opening.observation))
        self._progress = self._measure_progress(won=False)
        return opening

    def _move_alone(self, move: Move) -> Transition:
        walk, reader = self._walk, self._reader
        if walk is None or reader is None:
            raise UsageError("the environment was closed: call reset() first")
        command = read_command(move.command)
        transition = walk.step(command)
        reader.note(command, str(transition.observation))
        if not self._progress_reward:
            return transition
        before, self._progress = self._progress, self._measure_progress(transition.success)
        progress = self._progress_reward * (self._progress - before)
        return transition._replace(reward_terms={**transition.reward_terms, "progress": progress})

    def _measure_progress(self, won: bool) -> float:
        from agentgym_household.alfred.progress import measure_progress

        if won or not self._progress_reward:
            return float(won)
        assert self._goal is not None
        assert self._walk is not None
        return measure_progress(self._goal, *self._walk.catch_up().facts_and_names())

    def _beliefs(self) -> Beliefs:
        from agentgym_household.alfred.beliefs import read_facts

        assert self._expert is not None
        assert self._walk is not None
        assert self._reader is not None
        if self._expert.style == "oracle":
            return read_facts(*self._walk.catch_up().facts_and_names())
        return self._reader.beliefs


def read_command(command: str) -> str:
    """Return a command in the engine's wording: ``put X in/on Y`` becomes ``move X to Y``."""
    command = " ".join(command.split())
    found = _PUT.fullmatch(command)
    return f"move {found[1]} to {found[2]}" if found else command


def _read_types(task_types: Sequence[str] | None) -> tuple[str, ...]:
    if task_types is None:
        return TASK_TYPES
    given = [task_types] if isinstance(task_types, str) else list(task_types)
    for kind in given:
        if kind not in TASK_TYPES:
            raise UnknownNameError("task type", str(kind), TASK_TYPES)
    if not given:
        raise UsageError(f"task_types is empty; name some of {', '.join(TASK_TYPES)}")
    return tuple(kind for kind in TASK_TYPES if kind in given)


def _read_experts(expert: str | Mapping[str, float]) -> dict[str, float]:
    """Return the share of episodes that each style of expert demonstrates; the shares sum to 1."""
    weights = {expert: 1.0} if isinstance(expert, str) else dict(expert)
    for style in weights:
        if style not in EXPERTS:
            raise UnknownNameError("expert", str(style), EXPERTS)
    if not all(isinstance(weight, int | float) and 0 <= weight < math.inf for weight in weights.values()):
        raise UsageError(f"the weights of experts are numbers from 0, got {weights}")
    total = sum(weights.values())
    if not total:
        raise UsageError(f"expert needs weights of which one is above 0, got {weights}")
    return {style: weight / total for style, weight in weights.items()}
