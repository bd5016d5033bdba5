"""Pictures of episodes: PNG files in a folder beside the trajectories, which name them by the hash of their pixels."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agentgym.errors import UsageError


def pictures_beside(file: Path) -> Path:
    """Return the folder that holds the pictures of a file of trajectories: ``run.jsonl`` has ``run.pictures``."""
    return file.with_suffix(".pictures")


class PictureFolder:
    """A folder of pictures, each of which is there once however often it was seen.

    Args:
        folder: Made when the first picture comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, pixels: NDArray[np.uint8]) -> str:
        """Write a picture, if it is not there, and return the name of its file.

        Args:
            pixels: uint8, H×W×3.

        Raises:
            UsageError: Pillow is not installed.
        """
        try:
            from PIL import Image
        except ImportError as error:
            raise UsageError(f"keeping screenshots needs pillow: pip install pillow ({error})") from error
        digest = hashlib.sha256(f"{pixels.shape}".encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
        path = self.folder / f"{digest.hexdigest()[:32]}.png"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            # A name of its own until it is whole: two episodes may see the same picture at once, and a writer may die.
            handle, unfinished = tempfile.mkstemp(prefix=".", suffix=".png", dir=self.folder)
            with os.fdopen(handle, "wb") as file:
                Image.fromarray(pixels).save(file, "PNG", compress_level=6)
            os.chmod(unfinished, 0o644)
            os.replace(unfinished, path)
        return path.name
