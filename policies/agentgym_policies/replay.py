"""Plays recorded episodes again."""

from __future__ import annotations

import os

from agentgym.errors import UsageError
from agentgym.policy import Completion, Dialogue
from agentgym.trajectory import read_trajectories


class ReplayPolicy:
    """Says what a recorded trajectory of the same task and seed said.

    Args:
        file: JSON lines written by ``agentgym run`` or :func:`agentgym.write_trajectories`.

    Raises:
        TrajectoryFileError: The file cannot be read.
        UsageError: In ``act``, if no episode of this task and seed was recorded, or it was shorter.
    """

    name = "replay"

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = file
        self._actions = {(t.task_id, t.seed): [turn.action for turn in t.turns] for t in read_trajectories(file)}

    async def act(self, dialogue: Dialogue) -> Completion:
        """Repeat the recorded action of this turn."""
        actions = self._actions.get((dialogue.task_id, dialogue.seed))
        if actions is None:
            raise UsageError(f"{self.file} holds no episode of task {dialogue.task_id!r} with seed {dialogue.seed}")
        if dialogue.turn >= len(actions):
            raise UsageError(
                f"{self.file}: the episode of task {dialogue.task_id!r} ended after {len(actions)} turns and this one "
                "goes on: it was recorded on another version of the environment, or was cut"
            )
        return Completion(text=actions[dialogue.turn])

    async def aclose(self) -> None:
        """Hold nothing, release nothing."""
