"""The policy as reward methods see it: the probability of given tokens after a context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import Array, Continuation
from agentgym.train.batch import TokenSequence
from agentgym.train.engine import VllmEngine
from agentgym.train.learner import Learner, log_distributions
from agentgym.train.micro_batch import in_batch_order, with_old_logprobs
from agentgym.train.replicas import EngineReplicas
from agentgym.train.token_tree import TokenTree, grow_trees, pad_trees

_CPU_TOKENS = 1024  # design: the activations of more do not stay in a core's cache


class LearnerModel:
    """Scores with the model in training, teacher-forced in batches, without gradient, dropout or temperature.

    What continuations begin with is read once: the turns of an episode and the members of a group share most of it.

    Args:
        learner: The model; its adapters count.
        tokens_per_batch: Most tokens of one forward pass, padding included.
    """

    def __init__(self, learner: Learner, tokens_per_batch: int) -> None:
        self.learner, self.tokens_per_batch = learner, tokens_per_batch

    def encode(self, text: str) -> list[int]:
        """Return token ids, without special tokens."""
        return _encode(self.learner.tokenizer, text)

    def score(self, continuations: Sequence[Continuation]) -> list[Array]:
        """Return the log-probability of each token of each continuation.

        Raises:
            RewardError: A context or a continuation is empty.
        """
        _check(continuations)
        if not continuations:
            return []
        training = self.learner.model.training
        self.learner.model.eval()
        try:
            with torch.no_grad():
                return (self._score_trees if self.learner.takes_trees else self._score_apart)(continuations)
        finally:
            self.learner.model.train(training)

    def _score_trees(self, continuations: Sequence[Continuation]) -> list[Array]:
        # Nothing is predicted from the last token.
        read = [np.array([*one.context_ids, *one.ids][:-1], dtype=np.int64) for one in continuations]
        trees = list(grow_trees(read, self.tokens_per_batch))
        scores: dict[int, Array] = {}
        on_cpu = self.learner.device.type == "cpu"
        for batch in _tree_batches(trees, min(self.tokens_per_batch, _CPU_TOKENS) if on_cpu else self.tokens_per_batch):
            scores |= self._score_batch(batch, continuations)
        return [scores[place] for place in range(len(continuations))]

    def _score_batch(
        self, trees: Sequence[tuple[list[int], TokenTree]], continuations: Sequence[Continuation]
    ) -> dict[int, Array]:
        """Return the scores of the trees' continuations by their places."""
        ids, sees, depths = pad_trees([tree for _, tree in trees])
        predicts = np.zeros(ids.shape, dtype=bool)
        asked: list[tuple[int, NDArray[np.int64]]] = []
        for row, (places, tree) in enumerate(trees):
            for place, path in zip(places, tree.paths, strict=True):
                nodes = path[-len(continuations[place].ids) :]
                predicts[row, nodes] = True
                asked.append((place, row * ids.shape[1] + nodes))
        given = [torch.from_numpy(array) for array in (ids, sees, depths, predicts)]
        distributions = log_distributions(self.learner.tree_logits(*given))
        rows = predicts.ravel().cumsum() - 1  # of the distributions, by node
        nodes = rows[np.concatenate([own for _, own in asked])]
        targets = np.concatenate([np.asarray(continuations[place].ids) for place, _ in asked])
        picked = distributions[torch.from_numpy(nodes), torch.from_numpy(targets)].cpu().numpy().astype(np.float64)
        ends = np.cumsum([len(own) for _, own in asked])[:-1]
        return {place: part for (place, _), part in zip(asked, np.split(picked, ends), strict=True)}

    def _score_apart(self, continuations: Sequence[Continuation]) -> list[Array]:
        """Score one after the other, equal ones once."""
        asked = [(tuple(one.context_ids), tuple(one.ids)) for one in continuations]
        different = {one: _sequence(*one) for one in asked}
        sequences = list(different.values())
        sharing = self.learner.sharing
        scored = with_old_logprobs(sequences, self.tokens_per_batch, self.learner.logprobs, sharing=sharing)
        scores = {
            id(sequence): result.old_logprobs[result.sampled].astype(np.float64)
            for sequence, result in zip(in_batch_order(sequences), scored, strict=True)
        }
        return [scores[id(different[one])] for one in asked]


def _tree_batches(
    trees: Sequence[tuple[list[int], TokenTree]], tokens_per_batch: int
) -> Iterator[list[tuple[list[int], TokenTree]]]:
    """Yield trees of similar sizes together, the largest first."""
    batch: list[tuple[list[int], TokenTree]] = []
    for own in sorted(trees, key=lambda pair: -len(pair[1].ids)):
        if batch and (len(batch) + 1) * len(batch[0][1].ids) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(own)
    if batch:
        yield batch


class EngineModel:
    """Scores with vLLM, which must hold the policy's weights; one request per continuation, all at once.

    Args:
        engine: The sampler.
        tokenizer: Of its model.
    """

    def __init__(self, engine: VllmEngine | EngineReplicas, tokenizer: Any) -> None:
        self.engine, self.tokenizer = engine, tokenizer

    def encode(self, text: str) -> list[int]:
        """Return token ids, without special tokens."""
        return _encode(self.tokenizer, text)

    def score(self, continuations: Sequence[Continuation]) -> list[Array]:
        """Return the log-probability of each token of each continuation.

        Raises:
            RewardError: A context or a continuation is empty.
            ContextLimitError: One is longer than the engine's context.
        """
        _check(continuations)
        futures = [self.engine.submit_score([*one.context_ids, *one.ids]) for one in continuations]
        return [np.array(future.result()[-len(one.ids) :]) for one, future in zip(continuations, futures, strict=True)]


def _encode(tokenizer: Any, text: str) -> list[int]:
    # As the chat renderer does: text that spells a special token is text.
    return list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))


def _check(continuations: Sequence[Continuation]) -> None:
    for number, one in enumerate(continuations):
        if not one.context_ids or not one.ids:
            raise RewardError(
                f"continuation {number} has a context of {len(one.context_ids)} tokens and {len(one.ids)} to score: "
                "both need at least one"
            )


def _sequence(context_ids: Sequence[int], answer_ids: Sequence[int]) -> TokenSequence:
    ids = np.array([*context_ids, *answer_ids], dtype=np.int64)
    zeros = np.zeros(len(ids), dtype=np.float32)
    return TokenSequence(ids, np.arange(len(ids)) >= len(context_ids), zeros, zeros, zeros)
