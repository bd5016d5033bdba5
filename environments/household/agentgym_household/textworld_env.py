"""``agentgym/TextWorld-v0``: interactive fiction made and played by the genuine TextWorld engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from agentgym.actions import Move
from agentgym.env import AgentEnv, Opening, Transition
from agentgym.errors import UnknownNameError, UsageError
from agentgym.task import DrawnIds, Task, TaskSet
from agentgym_household.tw.cache import GameCache
from agentgym_household.tw.engine import GameSession, Glimpse, find_objection
from agentgym_household.tw.expert import GameExpert
from agentgym_household.tw.files import check_story, find_games
from agentgym_household.tw.options import (
    MAX_TURNS,
    SPLITS,
    TASKS_LIMIT,
    GameOptions,
    GameSpec,
    read_challenges,
    read_options,
)


class GameIds(DrawnIds):
    """The ids of a split's games, the challenges taking turns; nothing is stored."""

    def __init__(self, options: Sequence[GameOptions], split: str, length: int) -> None:
        super().__init__(length)
        self._options = options
        self._split = split

    def spec(self, position: int) -> GameSpec:
        """Return what the game at a position is made from."""
        index, turn = divmod(position, len(self._options))
        return GameSpec(self._options[turn], self._split, index)

    def position(self, task_id: str) -> int:
        """Return where an id stands.

        Raises:
            KeyError: It is no id of these games.
        """
        number = task_id.rpartition(":")[2]
        if number.isdecimal() and len(number) < 9:
            first = int(number) * len(self._options)
            for position in range(first, min(first + len(self._options), self._length)):
                if self.spec(position).task_id == task_id:
                    return position
        raise KeyError(task_id)

    def draw(self, position: int) -> str:
        """Return the id at a position."""
        return self.spec(position).task_id


class TextWorldEnv(AgentEnv):
    """Plays TextWorld games: generated ones, or a user's own.

    Games are made offline by TextWorld's generator and compilers when first played (1–5 s each) and kept in a cache;
    :meth:`prepare` makes many beforehand. The reward term ``score`` is the rise of the game's own score over its
    maximum, so a win sums to 1. The engine is textworld 1.7 (Côté et al., 2018, arXiv:1806.11532); the cooking games
    are those of First TextWorld Problems.

    Splits draw from disjoint ranges of seeds; cooking's ``valid_unseen`` also has recipes that ``train`` never shows.

    Args:
        challenge: ``"custom"``, ``"cooking"``, ``"treasure_hunter"``, ``"coin_collector"``, several of them, or
            ``"mixture"`` of all.
        difficulty: ``"easy"``, ``"medium"`` or ``"hard"``: preset of every option, and of ``max_turns``
            (30, 50, 100).
        game_options: Options over the preset, named as in ``tw-make``: by name for one challenge, by challenge and
            name for several. E.g. ``{"level": 12}`` or ``{"cooking": {"recipe": 2}}``.
        tasks_per_split: Number of tasks in each split.
        games_dir: Folder of your own ``.z8`` + ``.json`` games, played instead of generated ones.
        cache_dir: Where generated games are kept; ``$AGENTGYM_CACHE/textworld`` or ``~/.cache/agentgym/textworld``.
        **kwargs: As for :class:`agentgym.env.AgentEnv`.

    Raises:
        UnknownNameError: A challenge, difficulty, option or split does not exist.
        UsageError: An option is out of range, or ``games_dir`` holds no whole game.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS
    instructions: ClassVar[str] = (
        "You are playing a text adventure. Explore with commands such as: look, inventory, go north, open door, "
        "take key from table, examine cookbook. Reach the goal that the game states, or find it out."
    )

    def __init__(
        self,
        *,
        challenge: str | Sequence[str] = "mixture",
        difficulty: str = "medium",
        game_options: Mapping[str, Any] | None = None,
        tasks_per_split: int = 100,
        games_dir: str | Path | None = None,
        cache_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        if not 1 <= tasks_per_split <= TASKS_LIMIT:
            raise UsageError(f"tasks_per_split must be from 1 to {TASKS_LIMIT}, got {tasks_per_split}")
        self._options = _read_all_options(read_challenges(challenge), difficulty, game_options or {})
        self._tasks_per_split = tasks_per_split
        self._cache = GameCache(Path(cache_dir) if cache_dir else None)
        self._own_games = find_games(Path(games_dir).expanduser()) if games_dir else None
        kwargs.setdefault("max_turns", MAX_TURNS[difficulty])
        if self._own_games is not None:
            self.splits = tuple(self._own_games)  # type: ignore[misc]  # a folder has the splits that it has
            kwargs.setdefault("split", self.splits[0])
        super().__init__(**kwargs)
        self._session: GameSession | None = None
        self._expert: GameExpert | None = None
        self._seen: Glimpse | None = None
        self._privileged: Mapping[str, Any] = {}
        self._scale = 0.0

    def task_set(self, split: str) -> TaskSet:
        """Return the tasks of a split; a game is made when it is first played.

        Raises:
            UnknownNameError: There is no such split.
        """
        self._known_split(split)
        if self._own_games is not None:
            names = list(self._own_games[split])
            return TaskSet(split, names, lambda name: self.make_task(name, split, kind="own"))
        ids = self._game_ids(split)

        def build(task_id: str) -> Task:
            return self.make_task(task_id, split, kind=task_id.partition(":")[0])

        return TaskSet(split, ids, build, index=ids.position)

    def prepare(self, split: str, count: int | None = None, *, jobs: int | None = None, progress: bool = True) -> int:
        """Make the first games of a split now, in parallel, with a progress bar.

        Args:
            split: Name of the split.
            count: Number of games; all of the split by default.
            jobs: Generator processes at once; by default one per core.
            progress: Show the bar.

        Returns:
            Number of games that are ready.

        Raises:
            UnknownNameError: There is no such split.
            UsageError: The generator finds no game with the options.
        """
        self._known_split(split)
        if self._own_games is not None:
            return len(self._own_games[split])
        ids = self._game_ids(split)
        count = len(ids) if count is None else min(count, len(ids))
        self._cache.prepare([ids.spec(i) for i in range(count)], jobs, progress)
        return count

    def find_story(self, task: Task) -> Path:
        """Return the story file of a task, made now if need be.

        Raises:
            UsageError: It cannot be made, or it is broken.
        """
        if self._own_games is not None:
            story = self._own_games[task.split][task.id]
            check_story(story)
            return story
        ids = self._game_ids(task.split)
        return self._cache.find(ids.spec(ids.position(task.id)))

    def expert_move(self) -> Move:
        """Return the walkthrough's next command, or the first one of a way back to it.

        Raises:
            UsageError: No game is being played, or none can be won from here.
        """
        if self._expert is None:
            raise UsageError("no game is being played: call reset() first")
        return Move(command=self._expert.next_command())

    def close(self) -> None:
        """Free the engine."""
        if self._session is not None:
            self._session.close()
        self._session = self._expert = None
        super().close()

    def _game_ids(self, split: str) -> GameIds:
        return GameIds(self._options, split, self._tasks_per_split)

    def _start(self, task: Task) -> Opening:
        story = self.find_story(task)
        if self._session is None or self._session.story != story:
            self.close()
            self._session = GameSession(story)
        seen = self._session.reset()
        max_score = self._session.max_score
        self._scale = 1.0 / max_score if math.isfinite(max_score) and max_score > 0 else 0.0
        self._expert = GameExpert(self._session)
        self._seen = seen
        # One text, since a single command ("go north") may well stand in the goal that the game states.
        self._privileged = {"walkthrough": "\n".join(self._session.walkthrough)}
        return Opening(seen.text, seen.state_key, seen.admissible, self._privileged)

    def _move(self, move: Move) -> Transition:
        before, session, expert = self._seen, self._session, self._expert
        if before is None or session is None or expert is None:
            raise UsageError("the environment was closed: call reset() first")
        objection = find_objection(move.command)
        if objection:
            return self._refuse(objection)
        seen = session.step(move.command)
        expert.note(move.command, before, seen)
        self._seen = seen
        # A game without points, or with endless ones, pays for the win alone.
        gain = (seen.score - before.score) * self._scale if self._scale else float(seen.won)
        return Transition(
            observation=seen.text,
            reward_terms={"score": gain},
            terminated=seen.won or seen.lost,
            success=seen.won,
            executable=seen.acted,
            state_key=seen.state_key,
            admissible_actions=seen.admissible,
            privileged=self._privileged,
        )


def _read_all_options(challenges: Sequence[str], difficulty: str, given: Mapping[str, Any]) -> tuple[GameOptions, ...]:
    if len(challenges) == 1 and challenges[0] not in given:
        given = {challenges[0]: given}
    for name, options in given.items():
        if name not in challenges:
            raise UnknownNameError("challenge in game_options", str(name), challenges, "Give options by challenge.")
        if not isinstance(options, Mapping):
            raise UsageError(f"game_options[{name!r}] must map options to values, got {options!r}")
    return tuple(read_options(name, difficulty, given.get(name, {})) for name in challenges)
