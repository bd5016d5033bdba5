"""Who owns a container, until when, and the removal of containers whose owner is gone.

Every container bears labels that name its owner and its end. It also ends by itself: its first process is
``sleep <lease>``, and the daemon removes a container that has ended (``AutoRemove``). So nothing of ours needs to be
alive for a killed run to leave nothing behind after its lease: a watchdog could be killed together with the run. What
``AutoRemove`` cannot reach, containers that were created and never started, and boxes of a dead run whose lease is
long, is removed here; each process does so once, when it starts its first container.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym_sandboxes.docker_engine import DockerError, ask

OWNER, EXPIRES, RUN = "agentgym.owner", "agentgym.expires", "agentgym.run"
_THREADS = 4
_log = logging.getLogger(__name__)
_leaked: set[str] = set()


@dataclass(frozen=True)
class Owner:
    """A process, named so that no other can be taken for it.

    Attributes:
        boot: Id of the boot of its kernel.
        pid: Its process id.
        start: When it started, in clock ticks since boot (field 22 of ``/proc/<pid>/stat``).
        pid_namespace: In which its id is valid; a daemon may serve processes of several.
    """

    boot: str
    pid: int
    start: int
    pid_namespace: int

    def __str__(self) -> str:
        return f"{self.boot}:{self.pid}:{self.start}:{self.pid_namespace}"

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Read it from a label; ``None`` if it is none."""
        boot, *numbers = text.split(":")
        if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
            return None
        pid, start, pid_namespace = map(int, numbers)
        return cls(boot, pid, start, pid_namespace)

    def is_dead(self) -> bool:
        """Whether it has provably ended: its kernel was restarted here, or its id is free or somebody else's.

        An owner of another host or of another PID namespace is never provably dead.
        """
        here = this_process()
        if (self.boot, self.pid_namespace) != (here.boot, here.pid_namespace):
            return False
        return _start_ticks(self.pid) != self.start


def this_process() -> Owner:
    """Return the owner that this process is."""
    return _owner(os.getpid())


@functools.cache
def _owner(pid: int) -> Owner:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    start = _start_ticks(pid)
    assert start is not None
    return Owner(boot, pid, start, Path("/proc/self/ns/pid").stat().st_ino)


def _start_ticks(pid: int) -> int | None:
    """Return when a process started, or ``None`` if there is none; a zombie has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def make_labels(run: str, lease_s: float) -> dict[str, str]:
    """Return the labels of a container that this process owns for so many seconds."""
    return {RUN: run, OWNER: str(this_process()), EXPIRES: str(int(time.time() + lease_s) + 1)}


def find_reason(labels: Mapping[str, str]) -> str | None:
    """Say why a container with these labels is garbage, or return ``None`` if it is not, or not ours."""
    owner = Owner.parse(labels.get(OWNER, ""))
    if owner is None:
        return None
    if owner.is_dead():
        return f"its owner, process {owner.pid}, is dead"
    expires = labels.get(EXPIRES, "")
    if expires.isascii() and expires.isdigit() and int(expires) < time.time():
        return "its lease is over"
    return None


def note_leak(name: str, error: Exception) -> None:
    """Report a container that could not be removed; the next :func:`collect_garbage` of this process tries again."""
    _leaked.add(name)
    _log.error("container %s could not be removed and ends with its lease: %s", name, error)


def collect_garbage(api: Any, *, dry_run: bool = False) -> list[str]:
    """Remove containers whose owner is provably dead or whose lease is over, in whatever state they are.

    Nothing is removed for its name. A container is looked at again, by its id, right before it is removed.

    Args:
        api: A ``docker.APIClient``.
        dry_run: Only say what would be removed.

    Returns:
        One line for each container that was removed, or that would be.

    Raises:
        DockerError: The daemon does not answer.
    """
    found = ask(api, "containers", all=True, filters={"label": [OWNER]})
    ids = [entry["Id"] for entry in found if _judge(entry["Labels"] or {}, entry["Names"])]
    with ThreadPoolExecutor(_THREADS) as pool:
        lines = list(pool.map(lambda container_id: _collect(api, container_id, dry_run), ids))
    return [line for line in lines if line]


def _judge(labels: Mapping[str, str], names: list[str]) -> str | None:
    if any(name.lstrip("/") in _leaked for name in names or ()):
        return "it could not be removed before"
    return find_reason(labels)


def _collect(api: Any, container_id: str, dry_run: bool) -> str | None:
    try:
        details = ask(api, "inspect_container", container_id)
        name = details["Name"].lstrip("/")
        why = _judge(details["Config"]["Labels"] or {}, [name])
        if why is None:
            return None
        if not dry_run:
            ask(api, "remove_container", container_id, force=True, v=True)
            _leaked.discard(name)
    except DockerError as error:
        if error.status in (404, 409):  # gone meanwhile, or being removed by somebody else
            return None
        raise
    return f"container {name} ({details['State']['Status']}): {why}"
