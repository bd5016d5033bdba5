"""Every error that agentgym raises on purpose.

::

    AgentGymError
    ├── UsageError                 you asked for something that is not there; the message says what is
    │   ├── UnknownNameError       an environment, split, task, policy, recipe key that does not exist
    │   ├── RecipeError            a training recipe that cannot be run
    │   ├── ModelError             a model directory or checkpoint that cannot be loaded
    │   ├── TrajectoryFileError    a trajectory file that cannot be read
    │   ├── RewardError            a reward method misses what it needs; the message names environment, task and turn
    │   └── SandboxUnavailableError  this host cannot run such a sandbox; the message says what to install
    ├── ResetNeededError           step() before reset() or after the end
    ├── ActionParseError           what the model said is no move; becomes an observation, never escapes step()
    ├── SandboxRefusedError        a sandbox does not do what was asked (path, size, type); an observation for the agent
    ├── PageError                  a page did not do what was asked (hang, crash, nothing to click); an observation
    ├── ContextLimitError          the dialogue no longer fits the model's context; the episode is truncated
    ├── OffPolicyError             the sampler's weights are not the trainer's; training stops
    ├── DivergenceError            a loss or gradient is not finite; training stops
    └── InfrastructureError        our fault (worker gone, engine dead); the episode is masked, never scored 0
        ├── InvalidRewardError     an environment paid NaN or infinity
        └── SandboxLostError       the box is gone: daemon dead, lease over, reset failed

A bad rollout is data, not a crash: only ``InfrastructureError`` masks an episode, everything else that an
agent can cause is an observation.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

import gymnasium


class AgentGymError(Exception):
    """Base of all errors of agentgym."""


class UsageError(AgentGymError):
    """Something that the user asked for cannot be done as asked."""


class UnknownNameError(UsageError):
    """A name that is not registered, with the nearest ones that are.

    Args:
        kind: What was looked for, e.g. ``"policy"``.
        name: The name that was given.
        known: The names that exist.
        hint: One more sentence on what to do next.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(set(known))
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        shown = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
        parts = [f"unknown {kind} {name!r}."]
        if close:
            parts.append(f"Did you mean {' or '.join(repr(c) for c in close)}?")
        parts.append(f"Known: {shown}." if known else "None is known here.")
        if hint:
            parts.append(hint)
        super().__init__(" ".join(parts))


class RecipeError(UsageError):
    """A training recipe that cannot be run."""


class ModelError(UsageError):
    """A model directory or checkpoint that cannot be loaded."""


class TrajectoryFileError(UsageError):
    """A trajectory file that cannot be read."""


class RewardError(UsageError):
    """A trajectory, or a setting, that a reward method cannot work with."""


class SandboxUnavailableError(UsageError):
    """This host cannot run such a sandbox."""


class SandboxRefusedError(AgentGymError):
    """A sandbox refuses what was asked, before anything happened; outcome ``refused``."""


class ResetNeededError(AgentGymError, gymnasium.error.ResetNeeded):
    """``step`` was called before ``reset`` or after the end of the episode."""


class ActionParseError(AgentGymError):
    """What the model said is no move; the message is shown to it as the observation."""


class PageError(AgentGymError):
    """A page did not let an action be done; the message is safe to show to an agent.

    Args:
        message: What was tried and what became of it.
        outcome: ``failed`` or, at a deadline, ``timed_out``.
    """

    def __init__(self, message: str, outcome: Literal["failed", "timed_out"] = "failed") -> None:
        super().__init__(message)
        self.outcome = outcome


class ContextLimitError(AgentGymError):
    """The dialogue no longer fits the model's context window."""


class OffPolicyError(AgentGymError):
    """The sampler's log-probabilities differ from the trainer's own."""


class DivergenceError(AgentGymError):
    """A loss or a gradient is not a finite number."""


class InfrastructureError(AgentGymError):
    """A fault of ours, not of the agent: the episode is masked from training and never scored."""


class InvalidRewardError(InfrastructureError):
    """An environment paid a reward that is not a finite number."""


class SandboxLostError(InfrastructureError):
    """The box is gone or cannot be trusted any more; outcome ``sandbox_lost``."""
