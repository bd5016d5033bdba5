"""An episode that does not trouble the engine where somebody has been before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentgym.env import Opening, Transition
from agentgym_household.alfred.engine import NOTHING_HAPPENS, MemoPddlEnv

_TERMS: Mapping[bool, Mapping[str, float]] = {won: {"outcome": float(won)} for won in (False, True)}


class Walk:
    """One episode of the game that an engine has loaded.

    What a command leads to depends on the facts that hold and on nothing else, so it is kept with the game, for this
    episode and all others that play it. At a command that was carried out in the same place before, the engine stands
    still; it catches up, by the same commands, when it is needed.

    Args:
        engine: Has loaded the game, and is not stepped by others until the next episode.
        privileged: Ground truth of the game, the same in all its episodes.

    Attributes:
        opening: What the episode starts with.
    """

    def __init__(self, engine: MemoPddlEnv, privileged: Mapping[str, Any]) -> None:
        state = engine.reset()
        self.opening = Opening(state.feedback, engine.state_key, state["admissible_commands"], privileged)
        self._engine = engine
        self._game = engine.game
        self._place = engine.place
        self._unplayed: list[str] = []

    def step(self, command: str) -> Transition:
        """Carry out a command; the reward term ``outcome`` is 1 if it wins.

        The transition is shared with other episodes, so nobody may change what is in it.
        """
        landing = self._game.landings.get((self._place, command))
        if landing is None:
            landing = self._explore(command)
        else:
            self._unplayed.append(command)
        self._place, transition = landing
        return transition

    def catch_up(self) -> MemoPddlEnv:
        """Return the engine, in the state that the episode has reached."""
        for command in self._unplayed:
            self._engine.advance(command)
        self._unplayed.clear()
        return self._engine

    def _explore(self, command: str) -> tuple[int, Transition]:
        engine = self.catch_up()
        feedback = engine.advance(command)
        won = engine.won
        transition = Transition(
            observation=feedback,
            reward_terms=_TERMS[won],
            terminated=won,
            success=won,
            executable=feedback != NOTHING_HAPPENS,
            state_key=engine.state_key,
            admissible_actions=tuple(engine.admissible_commands),
            privileged=self.opening.privileged,
        )
        landing = engine.place, transition
        if transition.executable:  # of what is refused there is no end
            self._game.remember_landing((self._place, command), landing)
        return landing
