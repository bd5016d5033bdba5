"""Muon in the precision of its weights.

torch has a Muon, but it orthogonalises in bfloat16. A CPU without such instructions emulates them, and a step of the
tiny model then takes longer than its forward and backward pass together. Matrices of one shape are stacked here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon).

    Momentum, Nesterov's look ahead and the scale for tall matrices are those of ``torch.optim.Muon``.

    Args:
        matrices: Weights of shape ``(rows, columns)``.
        lr: Learning rate; a step's singular values are about as large, times ``sqrt(rows / columns)`` if tall.
        weight_decay: Share of a weight that is taken off per step, times the learning rate.
        momentum: Of the running mean of gradients.
    """

    def __init__(
        self, matrices: Iterable[Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # losses are the learner's
        """Take one step."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[tuple(weight.shape)].append(weight)
            for weights in alike.values():
                self._step_alike(weights, group["lr"], group["weight_decay"], group["momentum"])

    def _step_alike(self, weights: list[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        ahead = []
        for weight in weights:
            gradient, state = weight.grad, self.state[weight]
            assert gradient is not None
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
            ahead.append(gradient.lerp(mean, momentum))
        rows, columns = weights[0].shape
        scale = math.sqrt(max(1.0, rows / columns))
        for weight, update in zip(weights, orthogonalise(torch.stack(ahead)), strict=True):
            weight.mul_(1 - lr * weight_decay).add_(update, alpha=-lr * scale)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring all singular values near 1 (between some 0.7 and 1.2) by five steps of a quintic Newton-Schulz iteration.

    Args:
        matrices: Shape ``(count, rows, columns)``.

    Returns:
        The same shape; singular vectors are kept.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.mT if tall else matrices
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = found @ found.mT
        found = a * found + (b * gram + c * gram @ gram) @ found
    return found.mT if tall else found
