"""What the machine that runs us has to give."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores() -> int:
    """Return the number of processor cores that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):  # Linux: what a container or taskset left to us
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_size() -> str:
    """Describe the machine that this code runs on, e.g. ``2 CPU cores and 24 GB of memory``."""
    cores = usable_cores()
    size = f"{cores} CPU core{'s' if cores != 1 else ''}"
    try:
        memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):  # a system that does not tell
        return size
    return f"{size} and {memory_gb:.0f}\u00a0GB of memory"


def cache_dir(part: str = "") -> Path:
    """Return where what was made once is kept: ``$AGENTGYM_CACHE``, or ``agentgym`` in the user's cache directory.

    Args:
        part: A folder in it.
    """
    root = os.environ.get("AGENTGYM_CACHE")
    base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "agentgym"
    return base.expanduser() / part
