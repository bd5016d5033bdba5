"""Scripted experts: one function for a task, from all that is on its page to the next move."""

from __future__ import annotations

from agentgym.actions import Move
from agentgym.errors import UsageError
from agentgym_web.miniwob.experts import clicks, fields, mail, shapes
from agentgym_web.miniwob.experts.page import Expert, ExpertPage, Stuck, wait

EXPERTS: dict[str, Expert] = {**clicks.EXPERTS, **fields.EXPERTS, **mail.EXPERTS, **shapes.EXPERTS}


def find_expert(task: str) -> Expert:
    """Return the expert for a task; where it is at a loss, it waits.

    Raises:
        UsageError: The task has none.
    """
    if task not in EXPERTS:
        raise UsageError(f"MiniWoB's task {task!r} has no scripted expert; {len(EXPERTS)} others have one")
    expert = EXPERTS[task]

    def next_move(page: ExpertPage) -> Move:
        try:
            return expert(page)
        except (Stuck, LookupError, StopIteration, ValueError):
            return wait()

    return next_move
