"""A digest of an episode of random play, by which two processes can compare what they saw."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

import numpy as np

from agentgym_web.miniwob.miniwob_env import MiniWoBEnv


def digest_tasks(names: Sequence[str], number: int, turns: int = 4, image: bool = False) -> dict[str, str]:
    """Play each task at random, by the numbers that it shows, and hash all that was seen and paid.

    Args:
        names: Names of tasks.
        number: Which task of each name, in the split ``train``.
        turns: Moves of an episode.
        image: Hash the screenshots, too.
    """
    env = MiniWoBEnv(task=names, image=image)
    digests = {}
    for name in names:
        chance = np.random.default_rng(number)
        seen, _ = env.reset(seed=number, options={"task_id": f"{name}/train/{number}"})
        digest = hashlib.sha256()
        for _ in range(turns):
            text = seen if isinstance(seen, str) else str(seen["text"])
            digest.update(text.encode())
            if not isinstance(seen, str):
                digest.update(seen["image"].tobytes())
            shown = re.findall(r"^\| *\[(\d+)\]", text, re.MULTILINE) or ["1"]
            verb = ("click {}", 'type {} "ab"', "drag {} 80,120", "hover {}")[int(chance.integers(4))]
            action = verb.format(shown[int(chance.integers(len(shown)))])
            seen, reward, terminated, _, info = env.step(action)
            digest.update(json.dumps([action, reward, terminated, info], sort_keys=True, default=str).encode())
            if terminated:
                break
        digests[name] = digest.hexdigest()
    env.close()
    return digests
