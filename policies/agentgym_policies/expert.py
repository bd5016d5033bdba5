"""The environment's own scripted expert as a policy."""

from __future__ import annotations

from agentgym.errors import UsageError
from agentgym.policy import Completion, Dialogue


class ExpertPolicy:
    """Says what the environment's scripted expert would do: the ceiling, and the source of demonstrations.

    Raises:
        UsageError: In ``act``, if the environment has no expert.
    """

    name = "expert"

    async def act(self, dialogue: Dialogue) -> Completion:
        """Ask the expert for its move and write it in the environment's action format."""
        if dialogue.expert is None:
            raise UsageError("the expert policy plays only inside a rollout, where it can reach the environment")
        return Completion(text=dialogue.action_format.render(await dialogue.expert()))

    async def aclose(self) -> None:
        """Hold nothing, release nothing."""
