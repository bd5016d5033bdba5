"""The scripted expert: the game's walkthrough, and a way back to it when somebody else has moved."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from agentgym.errors import UsageError
from agentgym_household.tw.engine import GameSession, Glimpse

_SEARCH_NODES = 3_000


class GameExpert:
    """Knows the next command of a winning plan.

    It follows the walkthrough while the world is where the walkthrough leaves it. Once off it, a second session
    replays the commands and asks TextWorld for its plan; where that is empty (cooking with ``drop``), a bounded
    search leads back to a state of the walkthrough.

    Args:
        session: The game that is played; it must have been reset.
    """

    def __init__(self, session: GameSession) -> None:
        self._story = session.story
        self._walkthrough = session.walkthrough
        self._plan: Sequence[str] = self._walkthrough
        self._next = 0
        self._history: list[str] = []
        self._on_plan = bool(self._walkthrough)

    def note(self, command: str, before: Glimpse, after: Glimpse) -> None:
        """Take down a command that was played."""
        self._history.append(command)
        if self._on_plan and self._next < len(self._plan) and command == self._plan[self._next]:
            self._next += 1
        elif before.state_key != after.state_key:
            self._on_plan = False

    def next_command(self) -> str:
        """Return the command to play now.

        Raises:
            UsageError: No way to win is known from here.
        """
        if not self._on_plan or self._next >= len(self._plan):
            self._plan, self._next, self._on_plan = self._replan(), 0, True
        return self._plan[self._next]

    def _replan(self) -> Sequence[str]:
        planner = GameSession(self._story, policy=True)
        try:
            planner.reset()
            for command in self._history:
                planner.step(command)
            plan: Sequence[str] = planner.policy or self._search_way_back(planner)
        finally:
            planner.close()
        if not plan:
            raise UsageError(
                f"no way to win {self._story.name} is known after {self._history[-3:]}: "
                "a needed thing may be spoilt; reset() to begin again"
            )
        return plan

    def _search_way_back(self, planner: GameSession) -> Sequence[str]:
        """Search breadth first, at most ``_SEARCH_NODES`` states, for one that the walkthrough passes through."""
        start = planner.world.copy()
        rules = list(planner.knowledge.rules.values())
        constants = planner.knowledge.types.constants_mapping
        planner.reset()
        stations = {frozenset(planner.world.facts): 0}
        for position, command in enumerate(self._walkthrough, start=1):
            planner.step(command)
            stations[frozenset(planner.world.facts)] = position
        here = frozenset(start.facts)
        parents: dict[frozenset[Any], tuple[frozenset[Any], Any] | None] = {here: None}
        queue = deque([(start, here)])
        while queue and len(parents) < _SEARCH_NODES:
            world, facts = queue.popleft()
            if stations.get(facts, len(self._walkthrough)) < len(self._walkthrough):
                return (*_trace(planner, parents, facts), *self._walkthrough[stations[facts] :])
            for action in world.all_applicable_actions(rules, constants):
                after = world.copy()
                after.apply(action)
                reached = frozenset(after.facts)
                if reached not in parents:
                    parents[reached] = (facts, action)
                    queue.append((after, reached))
        return ()


def _trace(
    planner: GameSession, parents: dict[frozenset[Any], tuple[frozenset[Any], Any] | None], facts: frozenset[Any]
) -> list[str]:
    commands = []
    step = parents[facts]
    while step is not None:
        facts, action = step
        commands.append(planner.write_command(action))
        step = parents[facts]
    return commands[::-1]
