"""Spaces for text, which Gymnasium's own ``Text`` (an enumerated charset) cannot hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np

_SAMPLE_WORDS = ("look", "go", "take", "open", "the", "a", "1", "2", "é", "日本", "→", "\n", "…", "🙂")


class UnicodeText(gymnasium.Space[str]):
    """Any Unicode text of at most ``max_bytes`` bytes in UTF-8.

    Lone surrogates are not text (they have no UTF-8 form) and are not contained.

    Args:
        max_bytes: Largest length, in bytes of UTF-8.
        seed: Seed of ``sample``.
    """

    def __init__(self, max_bytes: int = 65_536, seed: int | np.random.Generator | None = None) -> None:
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be positive, got {max_bytes}")
        self.max_bytes = max_bytes
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: text has no fixed length."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Draw a short random text, mostly nonsense: fit for fuzzing, not for playing."""
        if mask is not None or probability is not None:
            raise gymnasium.error.Error("UnicodeText.sample takes neither mask nor probability")
        words = self.np_random.choice(np.asarray(_SAMPLE_WORDS, dtype=object), size=int(self.np_random.integers(1, 9)))
        return " ".join(words).encode()[: self.max_bytes].decode(errors="ignore")

    def contains(self, x: Any) -> bool:
        """Tell whether ``x`` is text of at most ``max_bytes`` bytes."""
        if not isinstance(x, str) or len(x) > self.max_bytes:
            return False
        if x.isascii():  # one byte each; most commands are, and need no encoding
            return True
        try:
            return len(x.encode()) <= self.max_bytes
        except UnicodeEncodeError:
            return False

    def to_jsonable(self, sample_n: Iterable[str]) -> list[str]:
        """Return the texts as they are."""
        return list(sample_n)

    def from_jsonable(self, sample_n: list[str]) -> list[str]:
        """Return the texts as they are."""
        return list(sample_n)

    def __repr__(self) -> str:
        return f"UnicodeText(max_bytes={self.max_bytes})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and other.max_bytes == self.max_bytes

    __hash__ = None  # type: ignore[assignment]  # mutable generator inside, as in gymnasium's own spaces
