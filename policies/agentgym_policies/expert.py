"""The environment's own scripted expert as a policy."""

from __future__ import annotations

import numpy as np

from agentgym.actions import Move
from agentgym.errors import UsageError
from agentgym.policy import Completion, Dialogue


class ExpertPolicy:
    """Says what the environment's scripted expert would do: the ceiling, and the source of demonstrations.

    An expert that never errs never shows how to recover. With ``mistakes`` it slips at random and then goes on from
    where that led, so that demonstrations cover what a learner will meet (DART: Laskey et al., 2017,
    arXiv:1703.09327; which slips are made is design).

    Args:
        mistakes: Share of turns, from 0 to below 1, that are slips: some admissible action, or an action of an
            earlier turn again. They are marked ``mistake``.

    Raises:
        UsageError: ``mistakes`` is no such share; or in ``act``, the environment has no expert.
    """

    name = "expert"

    def __init__(self, mistakes: float = 0.0) -> None:
        if not 0 <= mistakes < 1:
            raise UsageError(f"mistakes is a share of the turns, from 0 to below 1; got {mistakes}")
        self.mistakes = mistakes

    async def act(self, dialogue: Dialogue) -> Completion:
        """Ask the expert for its move and write it in the environment's action format."""
        if dialogue.expert is None:
            raise UsageError("the expert policy plays only inside a rollout, where it can reach the environment")
        move = await dialogue.expert()
        slip = self._slip(dialogue, move)
        return Completion(text=dialogue.action_format.render(slip or move), mistake=slip is not None)

    def _slip(self, dialogue: Dialogue, move: Move) -> Move | None:
        """Return a wrong move under the right thought, or ``None`` if this turn is no slip."""
        chance = np.random.default_rng([dialogue.seed, dialogue.episode, dialogue.turn])
        if chance.random() >= self.mistakes:
            return None
        said = [message.content for message in dialogue.messages if message.role == "assistant"]
        if said and chance.random() < 0.5:
            again = dialogue.action_format.parse(said[int(chance.integers(len(said)))])
            return again._replace(thought=move.thought)
        choices = dialogue.info.get("admissible_actions") or [move.command]
        command = str(choices[int(chance.integers(len(choices)))])
        return Move(command=command, thought=move.thought)

    async def aclose(self) -> None:
        """Hold nothing, release nothing."""
