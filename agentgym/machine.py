"""What the machine that runs us has to give."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return the number of processor cores that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):  # Linux: what a container or taskset left to us
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
