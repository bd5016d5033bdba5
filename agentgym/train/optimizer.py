"""Optimizers by name: ``adamw`` for any model, ``muon`` to train a small one from scratch in fewer steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from agentgym.train.config import OptimizerName
from agentgym.train.muon import Muon

_BETAS = (0.9, 0.95)
_MUON_SCALE = 10.0  # design: Muon's steps have a norm of their own, so its rate is ten times AdamW's


class Optimizer:
    """One or two optimizers that step together; every rate is a fixed multiple of one.

    Args:
        model: Whose weights to train.
        name: ``adamw``; or ``muon``, which is :class:`agentgym.train.muon.Muon` for the
            matrices of the layers, and AdamW for embeddings, head and norms.
        learning_rate: AdamW's; Muon's is ten times as large.
        weight_decay: Of all of them.
    """

    def __init__(self, model: nn.Module, name: OptimizerName, learning_rate: float, weight_decay: float) -> None:
        trained = {path: weight for path, weight in model.named_parameters() if weight.requires_grad}
        inner = [path for path, weight in trained.items() if name == "muon" and _is_inner(path, weight)]
        matrices = [trained.pop(path) for path in inner]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = [
            (
                torch.optim.AdamW(
                    list(trained.values()), lr=learning_rate, weight_decay=weight_decay, betas=_BETAS, fused=True
                ),
                1.0,
            )
        ]
        if matrices:
            muon = Muon(matrices, lr=_MUON_SCALE * learning_rate, weight_decay=weight_decay)
            self._parts.append((muon, _MUON_SCALE))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part, _ in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Take one step."""
        for part, _ in self._parts:
            part.step()

    def set_learning_rate(self, rate: float) -> None:
        """Set AdamW's rate, and Muon's with it."""
        for part, scale in self._parts:
            for group in part.param_groups:
                group["lr"] = scale * rate

    def state_dict(self) -> dict[str, Any]:
        """Return all states, as torch's optimizers do."""
        return {"parts": [part.state_dict() for part, _ in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the states back.

        Raises:
            ValueError: They are of another model or optimizer.
            KeyError: They are no states at all.
        """
        for (part, _), own in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(own)


def _is_inner(path: str, weight: Tensor) -> bool:
    return weight.ndim == 2 and not any(mark in path for mark in ("embed", "lm_head", "wte", "wpe"))
