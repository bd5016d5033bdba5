"""What can be wrong with a game."""

from __future__ import annotations

from agentgym.errors import UsageError


class GameFileError(UsageError):
    """A game file that cannot be read or played; the message names the file and the fault."""


class UntrustedGameError(GameFileError):
    """A game file whose rules are none of ALFWorld's own; the engine would evaluate them as Python."""
