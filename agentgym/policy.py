"""The contract of a policy: who acts, and what it may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from agentgym.actions import ActionFormat, Move, PlainCommand


@dataclass(frozen=True)
class Message:
    """One side's text."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class SamplingParams:
    """How a language model samples.

    Attributes:
        temperature: 0 is greedy.
        top_p: Nucleus mass.
        max_tokens: Most tokens per turn.
        stop: Texts that end an action besides the model's own end of turn.
        seed: Seed of the sampler, where the backend takes one.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 64
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Completion:
    """What a policy said.

    Attributes:
        text: The action as the environment will read it.
        prompt_ids: Ids that the policy put before its answer since its last one: observation and template.
        token_ids: Exact sampled ids, the end-of-turn token included; empty for policies without tokens.
        logprobs: Natural log-probabilities of ``token_ids`` under the distribution that was sampled from.
        finish_reason: ``stop`` or ``length``.
        mistake: Said wrong on purpose; nobody should imitate it.
    """

    text: str
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: str = "stop"
    mistake: bool = False


@dataclass
class Dialogue:
    """One episode as the acting side sees it; the rollout keeps it, policies read it.

    Attributes:
        episode: Number of the episode in its run; seeds a policy's own chance.
        system_prompt: What the model is told first.
        messages: Observations (``user``) and actions (``assistant``) so far, ending in an observation.
        token_ids: All token ids so far, sampled and environment's; empty for policies without tokens.
        closed: The last sampled action ended in the model's own end-of-turn token.
        info: The environment's last ``info``. Language models must not read ``info["privileged"]``.
        action_format: How to write a move as text.
        expert: Asks the environment's scripted expert for its move; only for the expert policy.
    """

    episode: int
    seed: int
    system_prompt: str = ""
    action_format: ActionFormat = field(default_factory=PlainCommand)
    messages: list[Message] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    closed: bool = True
    info: Mapping[str, Any] = field(default_factory=dict)
    task_id: str = ""
    expert: ExpertCall | None = None

    @property
    def observation(self) -> str:
        """The text to answer now."""
        return self.messages[-1].content

    @property
    def turn(self) -> int:
        """Number of actions taken."""
        return sum(message.role == "assistant" for message in self.messages)

    def chat(self) -> Sequence[Message]:
        """Return all messages, the system prompt first."""
        return [Message("system", self.system_prompt), *self.messages] if self.system_prompt else self.messages


class ExpertCall(Protocol):
    """Asks the scripted expert for its move, off the event loop's thread."""

    async def __call__(self) -> Move:
        """Return the expert's move in the world's present state."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Chooses what to say.

    ``act`` is called concurrently for many dialogues; a policy keeps no state per dialogue beside the dialogue.
    """

    name: str

    async def act(self, dialogue: Dialogue) -> Completion:
        """Answer the last observation.

        Raises:
            ContextLimitError: The dialogue no longer fits the model; the episode is truncated.
            InfrastructureError: The backend failed; the episode is masked.
        """
        ...

    async def aclose(self) -> None:
        """Release what the policy holds."""
        ...
