"""The policy as reward methods see it: the probability of given tokens after a context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import Array, Continuation
from agentgym.train.batch import TokenSequence, in_batch_order, with_old_logprobs
from agentgym.train.engine import VllmEngine
from agentgym.train.learner import Learner
from agentgym.train.replicas import EngineReplicas


class LearnerModel:
    """Scores with the model in training, teacher-forced in batches, without gradient, dropout or temperature.

    What continuations of a batch begin with is read once, as in training, and equal ones are scored once: before its
    first turn, all members of a group have read the same.

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
        asked = [(tuple(one.context_ids), tuple(one.ids)) for one in continuations]
        different = {one: _sequence(*one) for one in asked}
        scores: dict[int, Array] = {}
        training = self.learner.model.training
        self.learner.model.eval()
        try:
            with torch.no_grad():
                scored = with_old_logprobs(
                    list(different.values()),
                    self.tokens_per_batch,
                    self.learner.logprobs,
                    share=self.learner.shares_prefixes,
                )
        finally:
            self.learner.model.train(training)
        for sequence, result in zip(in_batch_order(list(different.values())), scored, strict=True):
            scores[id(sequence)] = result.old_logprobs[result.sampled].astype(np.float64)
        return [scores[id(different[one])] for one in asked]


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
