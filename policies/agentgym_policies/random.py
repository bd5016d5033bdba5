"""A policy that picks any admissible action."""

from __future__ import annotations

import numpy as np

from agentgym.actions import Move
from agentgym.errors import UsageError
from agentgym.policy import Completion, Dialogue


class RandomPolicy:
    """Draws uniformly from ``info["admissible_actions"]``, by the episode's seed.

    Args:
        fallback: Command to give where the engine lists no admissible actions.

    Raises:
        UsageError: In ``act``, if the engine lists none and there is no fallback.
    """

    name = "random"

    def __init__(self, fallback: str = "") -> None:
        self.fallback = fallback

    async def act(self, dialogue: Dialogue) -> Completion:
        """Pick one action; the same seed, episode and turn pick the same one."""
        choices = dialogue.info.get("admissible_actions") or ([self.fallback] if self.fallback else [])
        if not choices:
            raise UsageError("this environment lists no admissible actions: give the random policy a fallback command")
        chance = np.random.default_rng([dialogue.seed, dialogue.episode, dialogue.turn])
        command = str(choices[int(chance.integers(len(choices)))])
        return Completion(text=dialogue.action_format.render(Move(command=command)))

    async def aclose(self) -> None:
        """Hold nothing, release nothing."""
