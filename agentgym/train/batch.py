"""Batch: trajectories as token sequences, and these as micro-batches under a token budget.

What the sampler sampled is what is learned: ids are taken over as they are, never decoded and encoded again.
"""

from __future__ import annotations

import itertools
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

_PASS_TOKENS = 128  # design: a pass of its own costs about as much as so many tokens more in one that runs anyway


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


@dataclass(frozen=True)
class MicroBatch:
    """Sequences of one forward pass.

    Padding stands on the right, where a causal model never looks, so no attention mask is needed and the fast causal
    kernels apply.

    Attributes:
        prefix: Tokens that all sequences begin with, which the model reads once for all, shape ``(shared,)``. None of
            them predicts a sampled token.
        ids: The rest of each sequence, shape ``(sequences, longest)``.
        predicts: Same shape: positions whose next token was sampled.
        targets: Those next tokens, flat in row order, shape ``(tokens,)``, as all below.
        logprobs: The sampler's.
        old_logprobs: Of the policy that the ratio is taken to.
        advantages: One per token.
        weights: Of each token's loss.
        rows: Sequence of each token.
    """

    prefix: Tensor
    ids: Tensor
    predicts: Tensor
    targets: Tensor
    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    weights: Tensor
    rows: Tensor

    @property
    def tokens(self) -> int:
        """Number of tokens that the model computes, padding included."""
        return self.prefix.numel() + self.ids.numel()


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


def micro_batches(
    sequences: Sequence[TokenSequence], tokens_per_batch: int, *, share: bool = True
) -> Iterator[MicroBatch]:
    """Yield the sequences in micro-batches, those that begin alike together.

    Args:
        sequences: In any order.
        tokens_per_batch: Most tokens per micro-batch, padding included; one longer sequence stands alone.
        share: Let the model read what the sequences of a micro-batch begin with once, as in Prefix Grouper (Liu et al.,
            2025, arXiv:2506.05433). A group's opening is most of a short episode.
    """
    chosen: list[TokenSequence] = []
    for part in _alike(sequences, tokens_per_batch, share):
        apart = _cost(chosen, share) + _cost(part, share) + _PASS_TOKENS
        if chosen and _cost([*chosen, *part], share) > min(tokens_per_batch, apart):
            yield collate(chosen, _shared(chosen, share))
            chosen = []
        chosen = [*chosen, *part]
    if chosen:
        yield collate(chosen, _shared(chosen, share))


def in_batch_order(sequences: Sequence[TokenSequence]) -> list[TokenSequence]:
    """Return the sequences as micro-batches take them.

    Equal openings stand together, and the longest come first, so that memory runs out at once or never.
    """
    longest: dict[bytes, int] = {}
    for sequence in sequences:
        opening = sequence.opening.tobytes()
        longest[opening] = max(len(sequence.ids), longest.get(opening, 0))

    def place(sequence: TokenSequence) -> tuple[int, bytes, int]:
        opening = sequence.opening.tobytes()
        return -longest[opening], opening, -len(sequence.ids)

    return sorted(sequences, key=place)


def _alike(sequences: Sequence[TokenSequence], tokens_per_batch: int, share: bool) -> Iterator[list[TokenSequence]]:
    """Yield sequences with equal openings together, as many as the budget lets."""
    for _, group in itertools.groupby(in_batch_order(sequences), lambda sequence: sequence.opening.tobytes()):
        part: list[TokenSequence] = []
        for sequence in group:
            if part and _cost([*part, sequence], share) > tokens_per_batch:
                yield part
                part = []
            part.append(sequence)
        yield part


def _cost(sequences: Sequence[TokenSequence], share: bool) -> int:
    """Return how many tokens a micro-batch of the sequences computes."""
    shared = _shared(sequences, share)
    return shared + len(sequences) * (max((len(sequence.ids) for sequence in sequences), default=0) - shared)


def _shared(sequences: Sequence[TokenSequence], share: bool) -> int:
    """Return how many leading tokens to read once: all before the first prediction; none if that saves too little."""
    if len(sequences) < 2 or not share:
        return 0
    openings = [sequence.opening[:-1] for sequence in sequences]
    length = min(map(len, openings))
    for opening in openings[1:]:
        differs = opening[:length] != openings[0][:length]
        length = int(differs.argmax()) if differs.any() else length
    return length if (len(sequences) - 1) * length > _PASS_TOKENS else 0


def with_old_logprobs(
    sequences: Sequence[TokenSequence],
    tokens_per_batch: int,
    logprobs_of: Callable[[MicroBatch], Tensor],
    *,
    share: bool = True,
) -> list[TokenSequence]:
    """Return the sequences, in the order of micro-batches, with a model's present log-probabilities as the old ones."""
    ordered = in_batch_order(sequences)
    batches = micro_batches(ordered, tokens_per_batch, share=share)
    flat = torch.cat([logprobs_of(batch).cpu() for batch in batches]).numpy()
    parts = np.split(flat, np.cumsum([sequence.sampled_tokens for sequence in ordered])[:-1])
    renewed = []
    for sequence, part in zip(ordered, parts, strict=True):
        old = np.zeros_like(sequence.logprobs)
        old[sequence.sampled] = part
        renewed.append(replace(sequence, old_logprobs=old))
    return renewed


def collate(sequences: Sequence[TokenSequence], shared: int = 0) -> MicroBatch:
    """Pad sequences to one micro-batch; their first ``shared`` tokens are the same and become its prefix."""
    longest = max(len(sequence.ids) for sequence in sequences) - shared
    ids = np.zeros((len(sequences), longest), dtype=np.int64)
    predicts = np.zeros((len(sequences), longest), dtype=bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence.ids) - shared] = sequence.ids[shared:]
        predicts[row, : len(sequence.ids) - shared - 1] = sequence.sampled[shared + 1 :]

    def flat(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(s, name)[1:][s.sampled[1:]] for s in sequences]))

    counts = [int(sequence.sampled[1:].sum()) for sequence in sequences]
    weights = np.repeat([sequence.weight for sequence in sequences], counts).astype(np.float32)
    return MicroBatch(
        prefix=torch.from_numpy(sequences[0].ids[:shared]),
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
