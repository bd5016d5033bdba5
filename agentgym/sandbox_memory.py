"""What `auto` chose on this host is kept on disk, since probing takes ten seconds or more.

It is forgotten when the host starts anew, when other kinds or another agentgym are installed, and after a day;
`agentgym probe` renews it at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import agentgym
from agentgym.machine import cache_dir

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KEPT_S = 24 * 3600.0


def recall_choice(installed: Sequence[str]) -> str | None:
    """Return the name of the kind that was chosen here before; ``None`` if nobody knows."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
        fresh = 0 <= time.time() - float(kept["time"]) < _KEPT_S
        return str(kept["kind"]) if fresh and kept["host"] == _host(installed) else None
    except (OSError, ValueError, KeyError, TypeError):  # no file, or a torn one: it will be written anew
        return None


def keep_choice(name: str | None, installed: Sequence[str]) -> None:
    """Keep the name; ``None`` forgets. On a disk that cannot be written to, it is found out again each time."""
    with contextlib.suppress(OSError):
        if name is None:
            _file().unlink(missing_ok=True)
            return
        _file().parent.mkdir(parents=True, exist_ok=True)
        unfinished = _file().with_suffix(f".{os.getpid()}")
        text = json.dumps({"kind": name, "time": time.time(), "host": _host(installed)})
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(_file())


def _file() -> Path:
    return cache_dir() / "sandbox.json"


def _host(installed: Sequence[str]) -> list[str]:
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    return [boot, str(os.getuid()), agentgym.__version__, *installed]
