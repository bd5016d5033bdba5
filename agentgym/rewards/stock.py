"""Stock augmentation: tell the agent what it has left, so that it can aim at a target, a budget or a tail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from agentgym.errors import RewardError
from agentgym.rewards.terms import check_number
from agentgym.spaces import UnicodeText

_LONGEST_LINE = 256  # bytes that the line with the stock may add to an observation, its template aside


class StockWrapper(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds a line with the stock to every observation (stock-augmented return optimisation, arXiv 2501.13028).

    The stock starts at ``initial`` and after each reward becomes ``(stock + reward) / discount``, so that at every turn
    ``discount ** t * (stock_t + return from t on)`` is the same: ``initial`` plus the whole return. A policy that sees
    its stock can optimise what depends on the whole return, e.g. its lower tail, though a turn only looks ahead.
    With ``initial = -target`` it sees how far it is from the target, with a budget what is left of it.

    The update was checked for consistency, not against the paper; wording and place of the line are design. Every
    ``info`` has ``stock``.

    Args:
        env: Its observations are text, or mappings with ``"text"``; its reward is what the stock counts, so put it
            outside a wrapper that changes the reward.
        initial: Stock at the start.
        discount: Of later rewards, in (0, 1].
        template: The line; ``{stock}`` is the number.

    Raises:
        RewardError: A setting cannot be.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        initial: float = 0.0,
        *,
        discount: float = 1.0,
        template: str = "Stock: {stock:g}",
    ) -> None:
        if not 0 < discount <= 1:
            raise RewardError(f"stock needs a discount in (0, 1], not {discount}")
        try:
            if template.format(stock=1.0) == template.format(stock=2.0):
                raise RewardError(f"stock: the template {template!r} shows no {{stock}}")
        except (KeyError, IndexError, ValueError) as error:
            raise RewardError(f"stock: the template {template!r} cannot be filled in: {error!r}") from error
        RecordConstructorArgs.__init__(self, initial=initial, discount=discount, template=template)
        super().__init__(env)
        self.initial, self.discount, self.template = check_number(initial, "stock: initial"), discount, template
        self.stock = initial
        self.observation_space = _widened(env.observation_space, len(template.encode()) + _LONGEST_LINE)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode with the initial stock."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.stock = self.initial
        return self._shown(observation), {**info, "stock": self.stock}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one turn.

        Raises:
            RewardError: The reward is not finite, or an observation is no text.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        name = self.env.spec.id if self.env.spec else type(self.unwrapped).__name__
        check_number(float(reward), f"{name}: reward")
        self.stock = next_stock(self.stock, float(reward), self.discount)
        return self._shown(observation), float(reward), terminated, truncated, {**info, "stock": self.stock}

    def _shown(self, observation: Any) -> Any:
        line = self.template.format(stock=self.stock)
        if isinstance(observation, str):
            return f"{observation}\n{line}"
        if isinstance(observation, Mapping) and isinstance(observation.get("text"), str):
            return {**observation, "text": f"{observation['text']}\n{line}"}
        raise RewardError(f"{type(self.unwrapped).__name__} shows {type(observation).__name__}, and stock writes text")


def next_stock(stock: float, reward: float, discount: float) -> float:
    """Return the stock after a reward."""
    return (stock + reward) / discount


def stocks(initial: float, rewards: Sequence[float], discount: float) -> list[float]:
    """Return the stock before each turn and at the end: one more than there are rewards."""
    path = [initial]
    for reward in rewards:
        path.append(next_stock(path[-1], reward, discount))
    return path


def stock_invariant(initial: float, rewards: Sequence[float], discount: float) -> list[float]:
    """Return ``discount ** t * (stock_t + return from t on)`` for each t; all are ``initial`` plus the return."""
    to_come = [0.0]
    for reward in reversed(rewards):
        to_come.append(reward + discount * to_come[-1])
    path = stocks(initial, rewards, discount)
    return [discount**t * (stock + later) for t, (stock, later) in enumerate(zip(path, reversed(to_come), strict=True))]


def group_cvar(returns: Sequence[float], share: float) -> float:
    """Return the mean of the worst ``share`` of returns, the last of them weighted by the part that belongs (design).

    Raises:
        RewardError: There are no returns, one is not finite, or the share is not in (0, 1].
    """
    if not returns or not 0 < share <= 1:
        raise RewardError(f"the tail of {len(returns)} returns at a share of {share} has no mean")
    worst = np.sort([check_number(value, "a return") for value in returns])
    parts = np.clip(share * len(worst) - np.arange(len(worst)), 0.0, 1.0)
    return float(parts @ worst / parts.sum())


def _widened(space: gymnasium.Space[Any], more_bytes: int) -> gymnasium.Space[Any]:
    """Return the space with room for one more line."""
    if isinstance(space, UnicodeText):
        return UnicodeText(space.max_bytes + more_bytes)
    if isinstance(space, gymnasium.spaces.Dict) and "text" in space.spaces:
        return gymnasium.spaces.Dict({**space.spaces, "text": _widened(space.spaces["text"], more_bytes)})
    return space
