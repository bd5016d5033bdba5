"""A space for pictures of any size, which Gymnasium's ``Box`` cannot hold."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray


class Picture(gymnasium.Space[NDArray[np.uint8]]):
    """RGB pictures, uint8 of shape (H, W, 3), of at most so many pixels.

    Args:
        most_pixels: Largest height times width.
        seed: Seed of ``sample``.
    """

    def __init__(self, most_pixels: int, seed: int | np.random.Generator | None = None) -> None:
        self.most_pixels = most_pixels
        super().__init__(shape=None, dtype=np.uint8, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: pictures differ in size."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> NDArray[np.uint8]:
        """Draw a small picture of noise."""
        if mask is not None or probability is not None:
            raise gymnasium.error.Error("Picture.sample takes neither mask nor probability")
        side = max(1, min(32, int(self.most_pixels**0.5)))
        return self.np_random.integers(0, 256, size=(side, side, 3), dtype=np.uint8)

    def contains(self, x: Any) -> bool:
        """Tell whether ``x`` is such a picture."""
        return (
            isinstance(x, np.ndarray)
            and x.dtype == np.uint8
            and x.ndim == 3
            and x.shape[2] == 3
            and 0 < x.shape[0] * x.shape[1] <= self.most_pixels
        )

    def __repr__(self) -> str:
        return f"Picture(most_pixels={self.most_pixels})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and other.most_pixels == self.most_pixels

    __hash__ = None  # type: ignore[assignment]  # mutable generator inside, as in gymnasium's own spaces
