"""Batch: trajectories as token sequences.

What the sampler sampled is what is learned: ids are taken over as they are, never decoded and encoded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agentgym.errors import InfrastructureError
from agentgym.train.config import Aggregation
from agentgym.train.loss import aggregation_weights
from agentgym.trajectory import Trajectory


@dataclass(frozen=True)
class TokenSequence:
    """One episode as the trainer reads it; arrays of shape ``(length,)``.

    Attributes:
        ids: All tokens up to the last sampled one.
        sampled: Which of them the policy sampled; only these are learned.
        logprobs: The sampler's, 0 elsewhere.
        old_logprobs: Of the policy that the ratio is taken to, 0 elsewhere.
        advantages: Of the turn that the token belongs to, 0 elsewhere.
        weight: Of each token's loss.
    """

    ids: NDArray[np.int64]
    sampled: NDArray[np.bool_]
    logprobs: NDArray[np.float32]
    old_logprobs: NDArray[np.float32]
    advantages: NDArray[np.float32]
    weight: float = 0.0

    @property
    def opening(self) -> NDArray[np.int64]:
        """Tokens before the first sampled one; the members of a group have the same."""
        return self.ids[: int(self.sampled.argmax())]

    @property
    def sampled_tokens(self) -> int:
        """Number of tokens that are learned."""
        return int(self.sampled.sum())


def make_sequence(trajectory: Trajectory, advantages: NDArray[np.float64]) -> TokenSequence:
    """Lay out a trajectory as tokens.

    Args:
        trajectory: Played by a policy that reports tokens.
        advantages: One per turn.

    Raises:
        InfrastructureError: Spans, ids and logprobs of the trajectory do not fit together.
    """
    _check_spans(trajectory)
    ids, mask, logprobs = trajectory.token_ids()
    per_token = np.zeros(len(ids), dtype=np.float32)
    for turn, advantage in zip(trajectory.turns, advantages, strict=True):
        per_token[slice(*turn.span)] = advantage
    reported = np.array(logprobs, dtype=np.float32)
    return TokenSequence(
        ids=np.array(ids, dtype=np.int64),
        sampled=np.array(mask, dtype=bool),
        logprobs=reported,
        old_logprobs=reported,
        advantages=per_token,
    )


def weigh(
    sequences: Sequence[TokenSequence], aggregation: Aggregation, constant_length: int = 1
) -> list[TokenSequence]:
    """Return the sequences with the weights that make their token losses sum to the batch's loss."""
    weights = aggregation_weights([sequence.sampled_tokens for sequence in sequences], aggregation, constant_length)
    return [replace(sequence, weight=float(weight)) for sequence, weight in zip(sequences, weights, strict=True)]


def _check_spans(trajectory: Trajectory) -> None:
    end = 0
    for number, turn in enumerate(trajectory.turns):
        start = end + len(turn.prompt_ids)
        end = start + len(turn.token_ids)
        if turn.span != (start, end) or len(turn.logprobs) != len(turn.token_ids) or not turn.token_ids or start == 0:
            raise InfrastructureError(
                f"turn {number} of {trajectory.task_id!r} has span {turn.span}, {len(turn.token_ids)} sampled ids and "
                f"{len(turn.logprobs)} logprobs after {start} ids; was it played by a policy that reports its tokens?"
            )
