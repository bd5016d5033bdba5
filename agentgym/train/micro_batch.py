"""Micro-batches: token sequences as forward passes under a token budget, with what they begin with read once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from agentgym.train.batch import TokenSequence
from agentgym.train.token_tree import common_length

Sharing = Literal["none", "one", "many"]
"""How many beginnings a model can read once in a pass, each for the sequences that have it in common."""
_PASS_TOKENS = 128  # design: a pass of its own costs about as much as so many tokens more in one that runs anyway


@dataclass(frozen=True)
class MicroBatch:
    """Sequences of one forward pass.

    Padding stands on the right, where a causal model never looks, so that with one prefix no attention mask is needed
    and the fast causal kernels apply.

    Attributes:
        prefixes: Tokens that sequences begin with, which the model reads once for all of them, shape ``(prefixes,
            longest)``. None of them predicts a sampled token. No tokens where nothing is shared.
        prefix_lengths: Number of tokens of each prefix, shape ``(prefixes,)``.
        prefix_rows: Prefix of each sequence, shape ``(sequences,)``.
        ids: The rest of each sequence, shape ``(sequences, longest)``.
        predicts: Same shape: positions whose next token was sampled.
        targets: Those next tokens, flat in row order, shape ``(tokens,)``, as all below.
        logprobs: The sampler's.
        old_logprobs: Of the policy that the ratio is taken to.
        advantages: One per token.
        weights: Of each token's loss.
        rows: Sequence of each token.
    """

    prefixes: Tensor
    prefix_lengths: Tensor
    prefix_rows: Tensor
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
        return self.prefixes.numel() + self.ids.numel()


@dataclass(frozen=True)
class _Part:
    """Sequences whose first ``shared`` tokens are the same and are read once."""

    sequences: tuple[TokenSequence, ...]
    shared: int


def micro_batches(
    sequences: Sequence[TokenSequence], tokens_per_batch: int, *, sharing: Sharing = "many"
) -> Iterator[MicroBatch]:
    """Yield the sequences in micro-batches, those that begin alike together.

    Args:
        sequences: In any order.
        tokens_per_batch: Most tokens per micro-batch, padding included; one longer sequence stands alone.
        sharing: Let the model read what sequences of a micro-batch begin with once, as in Prefix Grouper (Liu et al.,
            2025, arXiv:2506.05433). A group's opening is most of a short episode.
    """
    chosen: list[_Part] = []
    for part in _alike(sequences, tokens_per_batch, sharing):
        joined = _join(chosen, part, sharing)
        if chosen and (_tokens(joined) > tokens_per_batch or _cost(joined) > _cost(chosen) + _cost([part])):
            yield _collate(chosen)
            joined = [part]
        chosen = joined
    if chosen:
        yield _collate(chosen)


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


def _alike(sequences: Sequence[TokenSequence], tokens_per_batch: int, sharing: Sharing) -> Iterator[_Part]:
    """Yield sequences with equal openings together, as many as the budget lets."""
    for _, group in itertools.groupby(in_batch_order(sequences), lambda sequence: sequence.opening.tobytes()):
        part: _Part | None = None
        for sequence in group:
            larger = _part([*(part.sequences if part else ()), sequence], sharing)
            if part and _tokens([larger]) > tokens_per_batch:
                yield part
                larger = _part([sequence], sharing)
            part = larger
        if part:
            yield part


def _join(chosen: Sequence[_Part], part: _Part, sharing: Sharing) -> list[_Part]:
    """Return how one pass reads all of it with the fewest tokens."""
    parts = [*chosen, part]
    as_one = [_part([sequence for own in parts for sequence in own.sequences], sharing)]
    return min(as_one, parts, key=_cost) if sharing == "many" else as_one


def _part(sequences: Sequence[TokenSequence], sharing: Sharing) -> _Part:
    """Let them share all that they have in common before the first prediction, unless that saves too little."""
    if len(sequences) < 2 or sharing == "none":
        return _Part(tuple(sequences), 0)
    first, *others = {sequence.opening.tobytes(): sequence.opening[:-1] for sequence in sequences}.values()
    length = min([len(first), *(common_length(first, other) for other in others)])
    return _Part(tuple(sequences), length if (len(sequences) - 1) * length > _PASS_TOKENS else 0)


def _tokens(parts: Sequence[_Part]) -> int:
    """Return how many tokens a micro-batch of the parts computes."""
    rests = [len(sequence.ids) - part.shared for part in parts for sequence in part.sequences]
    return len(parts) * max(part.shared for part in parts) + len(rests) * max(rests)


def _cost(parts: Sequence[_Part]) -> int:
    """Return what it costs to compute them, in tokens."""
    return _tokens(parts) + _PASS_TOKENS * (2 if any(part.shared for part in parts) else 1)


def with_old_logprobs(
    sequences: Sequence[TokenSequence],
    tokens_per_batch: int,
    logprobs_of: Callable[[MicroBatch], Tensor],
    *,
    sharing: Sharing = "many",
) -> list[TokenSequence]:
    """Return the sequences, in the order of micro-batches, with a model's present log-probabilities as the old ones."""
    ordered = in_batch_order(sequences)
    batches = micro_batches(ordered, tokens_per_batch, sharing=sharing)
    flat = torch.cat([logprobs_of(batch).cpu() for batch in batches]).numpy()
    parts = np.split(flat, np.cumsum([sequence.sampled_tokens for sequence in ordered])[:-1])
    renewed = []
    for sequence, part in zip(ordered, parts, strict=True):
        old = np.zeros_like(sequence.logprobs)
        old[sequence.sampled] = part
        renewed.append(replace(sequence, old_logprobs=old))
    return renewed


def collate(sequences: Sequence[TokenSequence]) -> MicroBatch:
    """Pad sequences to one micro-batch that shares nothing."""
    return _collate([_Part(tuple(sequences), 0)])


def _collate(parts: Sequence[_Part]) -> MicroBatch:
    sequences = [sequence for part in parts for sequence in part.sequences]
    starts = [part.shared for part in parts for _ in part.sequences]
    longest = max(len(sequence.ids) - start for sequence, start in zip(sequences, starts, strict=True))
    ids = np.zeros((len(sequences), longest), dtype=np.int64)
    predicts = np.zeros((len(sequences), longest), dtype=bool)
    for row, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        ids[row, : len(sequence.ids) - start] = sequence.ids[start:]
        predicts[row, : len(sequence.ids) - start - 1] = sequence.sampled[start + 1 :]
    lengths = [part.shared for part in parts]
    prefixes = np.zeros((len(parts), max(lengths)), dtype=np.int64)
    for row, part in enumerate(parts):
        prefixes[row, : part.shared] = part.sequences[0].ids[: part.shared]

    def flat(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(s, name)[1:][s.sampled[1:]] for s in sequences]))

    counts = [int(sequence.sampled[1:].sum()) for sequence in sequences]
    weights = np.repeat([sequence.weight for sequence in sequences], counts).astype(np.float32)
    return MicroBatch(
        prefixes=torch.from_numpy(prefixes),
        prefix_lengths=torch.tensor(lengths),
        prefix_rows=torch.from_numpy(np.repeat(np.arange(len(parts)), [len(part.sequences) for part in parts])),
        ids=torch.from_numpy(ids),
        predicts=torch.from_numpy(predicts),
        targets=flat("ids"),
        logprobs=flat("logprobs"),
        old_logprobs=flat("old_logprobs"),
        advantages=flat("advantages"),
        weights=torch.from_numpy(weights),
        rows=torch.from_numpy(np.repeat(np.arange(len(sequences)), counts)),
    )
