"""LaRe's decoder as the paper has it: a small network. Needs torch, so it is imported only when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import Array


class MlpDecoder:
    """One hidden layer, fitted with Adam at the paper's rate (arXiv 2412.11120).

    Design: the size, the epochs, and that each fit starts Adam anew, so that the weights are the whole state.

    Args:
        features: K.
        seed: Of the first weights.
        hidden: Units of the hidden layer.
        learning_rate: Of Adam.
        epochs: Steps per fit, each over the whole batch.

    Raises:
        RewardError: A setting cannot be.
    """

    def __init__(
        self, features: int, seed: int, hidden: int = 64, learning_rate: float = 3e-4, epochs: int = 100
    ) -> None:
        if not (hidden >= 1 and learning_rate > 0 and epochs >= 1):
            raise RewardError(f"lare's mlp cannot have {hidden=}, {learning_rate=}, {epochs=}")
        self.learning_rate, self.epochs = learning_rate, epochs
        self.network = torch.nn.Sequential(
            torch.nn.Linear(features, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1)
        ).double()
        chance = torch.Generator().manual_seed(seed)  # its own, so that nothing else's draws shift
        with torch.no_grad():
            for name, weights in self.network.named_parameters():
                bound = (features if name.startswith("0.") else hidden) ** -0.5
                weights.uniform_(-bound, bound, generator=chance)

    def decode(self, features: Array) -> Array:
        """Return rewards, shape ``(turns,)``, of features, shape ``(turns, K)``."""
        with torch.no_grad():
            rewards: Array = self.network(torch.from_numpy(features)).squeeze(-1).numpy()
        return rewards

    def learn(self, samples: Sequence[Array], targets: Array) -> None:
        """Take the epochs' steps."""
        rows = torch.from_numpy(np.concatenate(samples))
        owners = torch.from_numpy(np.repeat(np.arange(len(samples)), [len(own) for own in samples]))
        counts = torch.bincount(owners, minlength=len(samples)).double()
        aims = torch.from_numpy(targets)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)
        for _ in range(self.epochs):
            sums = torch.zeros(len(samples), dtype=torch.float64).index_add(0, owners, self.network(rows).squeeze(-1))
            loss = torch.mean((sums / counts - aims) ** 2)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights as lists."""
        return {name: weights.tolist() for name, weights in self.network.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        try:
            self.network.load_state_dict(
                {name: torch.tensor(weights, dtype=torch.float64) for name, weights in state.items()}
            )
        except RuntimeError as error:
            raise RewardError(f"lare's state does not fit its mlp: {error}") from error
