"""SPA's own progress estimator: a language model with a scalar head."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import Array, check_spans, place
from agentgym.trajectory import Trajectory


class BackboneProgress:
    """A contribution read off a language model at the last token of each action (SPA, arXiv 2505.20732).

    As in the released code, the logits at that token pass through a linear map to one scalar, and the sum of an
    episode's scalars is regressed on its outcome. The defaults of the optimizer are the released ones; the number of
    passes per batch and the tokens of a step are design.

    Args:
        model_dir: Hugging Face directory of the backbone, whose tokenizer is the policy's: it reads the sampled ids.
        learning_rate: Of Adam.
        weight_decay: Of Adam.
        warmup_steps: Steps over which the learning rate rises.
        max_grad_norm: Gradients are scaled down to this norm.
        max_length: Most tokens of an episode.
        epochs: Passes over each batch.
        tokens_per_step: Tokens of an optimizer step, padding included; a longer episode stands alone.
        seed: Of the head's first weights and of the order of episodes.

    Raises:
        RewardError: The model cannot be loaded.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        *,
        learning_rate: float = 3e-6,
        weight_decay: float = 0.01,
        warmup_steps: int = 500,
        max_grad_norm: float = 1.0,
        max_length: int = 4096,
        epochs: int = 1,
        tokens_per_step: int = 8192,
        seed: int = 0,
    ) -> None:
        from transformers import AutoModelForCausalLM

        try:
            self.model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
        except (OSError, ValueError, KeyError) as error:
            raise RewardError(f"progress: the backbone in {model_dir} cannot be loaded: {error}") from error
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.vocabulary = int(self.model.config.vocab_size)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = torch.nn.Linear(self.model.get_output_embeddings().out_features, 1).to(self.model.device)
        self.learning_rate, self.warmup_steps, self.max_grad_norm = learning_rate, warmup_steps, max_grad_norm
        self.max_length, self.epochs, self.tokens_per_step, self.seed = max_length, epochs, tokens_per_step, seed
        self.parameters = [*self.model.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=learning_rate, weight_decay=weight_decay)
        self.steps = 0

    @property
    def fitted(self) -> bool:
        """It has taken at least one step."""
        return self.steps > 0

    def contributions(self, trajectories: Sequence[Trajectory]) -> list[Array]:
        """Return an array of shape ``(turns,)`` for each episode.

        Raises:
            RewardError: An episode has no tokens, too many, or ids that the backbone does not know.
        """
        found: dict[int, Array] = {}
        self.model.eval()
        with torch.no_grad():
            for chosen in self._batches(trajectories, range(len(trajectories))):
                for i, own in zip(chosen, self._scalars([trajectories[i] for i in chosen]), strict=True):
                    found[i] = own.double().cpu().numpy()
        return [found[i] for i in range(len(trajectories))]

    def fit(self, trajectories: Sequence[Trajectory], outcomes: Sequence[float]) -> Mapping[str, float]:
        """Pass over a batch, an optimizer step for each ``tokens_per_step``."""
        self.model.train()
        chance = np.random.default_rng([self.seed, self.steps])
        losses = []
        for _ in range(self.epochs):
            for chosen in self._batches(trajectories, chance.permutation(len(trajectories)).tolist()):
                sums = torch.stack([own.sum() for own in self._scalars([trajectories[i] for i in chosen])])
                goals = torch.tensor([outcomes[i] for i in chosen], dtype=sums.dtype, device=sums.device)
                losses.append(self._step(((sums - goals) ** 2).mean()))
        return {"train_loss": float(np.mean(losses)), "steps": float(self.steps)}

    def state_dict(self) -> dict[str, Any]:
        """Return model, head, optimizer and the number of steps."""
        return {
            "model": dict(self.model.state_dict()),
            "head": dict(self.head.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            RewardError: It is of another model.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.head.load_state_dict(state["head"])
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # it would keep these very tensors
        except (RuntimeError, ValueError, KeyError) as error:
            raise RewardError(f"progress: the saved estimator is of another model: {error}") from error
        self.steps = int(state["steps"])

    def _step(self, loss: Tensor) -> float:
        if not torch.isfinite(loss):
            raise RewardError(f"progress: the estimator's loss is {float(loss)}; lower its learning rate")
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * min(1.0, (self.steps + 1) / max(1, self.warmup_steps))
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.optimizer.step()
        self.steps += 1
        return float(loss.detach())

    def _scalars(self, trajectories: Sequence[Trajectory]) -> list[Tensor]:
        """Return one scalar per turn; padding stands on the right, where a causal model never looks."""
        rows = [self._ids(trajectory) for trajectory in trajectories]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long, device=self.model.device)
        for row, own in enumerate(rows):
            ids[row, : len(own)] = torch.tensor(own)
        logits = self.model(input_ids=ids, use_cache=False).logits
        return [
            self.head(logits[row, [turn.span[1] - 1 for turn in trajectory.turns]])[:, 0]
            for row, trajectory in enumerate(trajectories)
        ]

    def _ids(self, trajectory: Trajectory) -> list[int]:
        check_spans(trajectory)
        ids = trajectory.token_ids()[0]
        if len(ids) > self.max_length:
            raise RewardError(f"{place(trajectory)} has {len(ids)} tokens, and progress reads {self.max_length}")
        if max(ids) >= self.vocabulary:
            raise RewardError(f"{place(trajectory)} has token {max(ids)}, which the backbone of progress does not know")
        return ids

    def _batches(self, trajectories: Sequence[Trajectory], order: Sequence[int]) -> Iterator[list[int]]:
        chosen: list[int] = []
        longest = 0
        for i in order:
            length = trajectories[i].turns[-1].span[1]
            if chosen and max(longest, length) * (len(chosen) + 1) > self.tokens_per_step:
                yield chosen
                chosen, longest = [], 0
            chosen.append(i)
            longest = max(longest, length)
        if chosen:
            yield chosen
