"""Batch: trajectories as token sequences, and these as micro-batches under a token budget.

What the sampler sampled is what is learned: ids are taken over as they are, never decoded and encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    def sampled_tokens(self) -> int:
        """Number of tokens that are learned."""
        return int(self.sampled.sum())


@dataclass(frozen=True)
class MicroBatch:
    """Sequences of one forward pass.

    Padding stands on the right, where a causal model never looks, so no attention mask is needed and the fast causal
    kernels apply.

    Attributes:
        ids: Shape ``(sequences, longest)``.
        predicts: Same shape: positions whose next token was sampled.
        targets: Those next tokens, flat in row order, shape ``(tokens,)``, as all below.
        logprobs: The sampler's.
        old_logprobs: Of the policy that the ratio is taken to.
        advantages: One per token.
        weights: Of each token's loss.
        rows: Sequence of each token.
    """

    ids: Tensor
    predicts: Tensor
    targets: Tensor
    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    weights: Tensor
    rows: Tensor


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


def micro_batches(sequences: Sequence[TokenSequence], tokens_per_batch: int) -> Iterator[MicroBatch]:
    """Yield the sequences in micro-batches of similar lengths.

    Args:
        sequences: In any order.
        tokens_per_batch: Most tokens per micro-batch, padding included; one longer sequence stands alone.
    """
    chunk: list[TokenSequence] = []
    for sequence in by_length(sequences):
        if chunk and (len(chunk) + 1) * len(chunk[0].ids) > tokens_per_batch:
            yield collate(chunk)
            chunk = []
        chunk.append(sequence)
    if chunk:
        yield collate(chunk)


def by_length(sequences: Sequence[TokenSequence]) -> list[TokenSequence]:
    """Return the sequences as micro-batches take them: the longest first, so that memory runs out at once or never."""
    return sorted(sequences, key=lambda sequence: -len(sequence.ids))


def with_old_logprobs(
    sequences: Sequence[TokenSequence], tokens_per_batch: int, logprobs_of: Callable[[MicroBatch], Tensor]
) -> list[TokenSequence]:
    """Return the sequences, sorted by length, with the log-probabilities that a model gives now as the old ones."""
    ordered = by_length(sequences)
    flat = torch.cat([logprobs_of(batch).cpu() for batch in micro_batches(ordered, tokens_per_batch)]).numpy()
    parts = np.split(flat, np.cumsum([sequence.sampled_tokens for sequence in ordered])[:-1])
    renewed = []
    for sequence, part in zip(ordered, parts, strict=True):
        old = np.zeros_like(sequence.logprobs)
        old[sequence.sampled] = part
        renewed.append(replace(sequence, old_logprobs=old))
    return renewed


def collate(sequences: Sequence[TokenSequence]) -> MicroBatch:
    """Pad sequences to one micro-batch."""
    longest = max(len(sequence.ids) for sequence in sequences)
    ids = np.zeros((len(sequences), longest), dtype=np.int64)
    predicts = np.zeros((len(sequences), longest), dtype=bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence.ids)] = sequence.ids
        predicts[row, : len(sequence.ids) - 1] = sequence.sampled[1:]

    def flat(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(s, name)[1:][s.sampled[1:]] for s in sequences]))

    counts = [int(sequence.sampled[1:].sum()) for sequence in sequences]
    weights = np.repeat([sequence.weight for sequence in sequences], counts).astype(np.float32)
    return MicroBatch(
        ids=torch.from_numpy(ids),
        predicts=torch.from_numpy(predicts),
        targets=flat("ids"),
        logprobs=flat("logprobs"),
        old_logprobs=flat("old_logprobs"),
        advantages=flat("advantages"),
        weights=torch.from_numpy(weights),
        rows=torch.from_numpy(np.repeat(np.arange(len(sequences)), counts)),
    )


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
