"""What a conformance check finds."""

from __future__ import annotations

from dataclasses import dataclass

from agentgym.errors import AgentGymError


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: Name of the check.
        passed: Whether this part of the contract is kept.
        detail: Figures if it passed, what to mend if not.
        duration_s: Seconds that the check took.
        declared: Whether it was not run, because what is checked declares that it does not keep this part.
    """

    name: str
    passed: bool
    detail: str
    duration_s: float
    declared: bool = False


class CheckError(AgentGymError):
    """What is checked breaks the contract; the message says where."""


def require(condition: object, message: str) -> None:
    """Raise :class:`CheckError` unless ``condition`` holds."""
    if not condition:
        raise CheckError(message)
