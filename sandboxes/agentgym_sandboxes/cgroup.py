"""A control group for each box: memory, processes and processor of all that runs in it, and why something was ended.

Version 1 (one hierarchy a controller) and version 2. A group bears its owner's identity in its name, so that the groups
of dead runs can be told from those of live ones.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentgym.sandbox import Limits
from agentgym_sandboxes.reaper import Owner, this_process

CONTROLLERS = ("memory", "pids", "cpu")
_PERIOD_US = 100_000
_OVERHEAD_PROCESSES = 3  # the keeper, bwrap outside and bwrap as the box's first process
_NAME = re.compile(r"agentgym-(?P<owner>[0-9a-f-]{36}:\d+:\d+:\d+)-[0-9a-f]{8}")


@dataclass(frozen=True)
class Counters:
    """What the kernel did to a group so far.

    Attributes:
        oom_kills: Processes that it ended for want of memory.
        refused_forks: Processes that it did not let be made, since there were too many.
    """

    oom_kills: int = 0
    refused_forks: int = 0


@dataclass(frozen=True)
class Cgroup:
    """The group of one box.

    Attributes:
        directories: By controller; in version 2 it is the same for all.
        version: 1 or 2.
    """

    directories: dict[str, Path]
    version: int

    @property
    def member_files(self) -> list[Path]:
        """Where a process writes ``0`` to join; its children are then in it, too.

        Joining costs a grace period of the kernel (5 to 16 ms were measured), being born in it costs nothing.
        """
        return [directory / "cgroup.procs" for directory in sorted(set(self.directories.values()))]

    def count(self) -> Counters:
        """Read the counters."""
        memory, pids = self.directories.get("memory"), self.directories.get("pids")
        events = "memory.oom_control" if self.version == 1 else "memory.events"
        return Counters(
            find_field((memory / events).read_text(), "oom_kill") or 0 if memory else 0,
            find_field((pids / "pids.events").read_text(), "max") or 0 if pids else 0,
        )

    def kill(self) -> None:
        """Send SIGKILL to all that is in it."""
        for directory in set(self.directories.values()):
            if (directory / "cgroup.kill").exists():
                with contextlib.suppress(FileNotFoundError):  # another process removes it, too
                    (directory / "cgroup.kill").write_text("1")
            else:
                _kill_members(directory / "cgroup.procs")

    def remove(self) -> bool:
        """Remove it; return whether it is gone. It is not while a process in it is still ending."""
        for directory in set(self.directories.values()):
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
        return True


def make_cgroup(limits: Limits) -> Cgroup | None:
    """Make a group with these limits, or return ``None`` where no controller can be written.

    Those controllers that can be had are used; ``directories`` says which.
    """
    name = f"agentgym-{this_process()}-{uuid.uuid4().hex[:8]}"
    directories: dict[str, Path] = {}
    version = 1
    for controllers, root, found_version in _hierarchies():
        wanted = [controller for controller in CONTROLLERS if controller in controllers]
        if not wanted or not os.access(root, os.W_OK):
            continue
        directory = root / name
        try:
            if found_version == 2:
                (root / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in wanted))
            directory.mkdir()
            for controller in wanted:
                _write_limits(directory, controller, limits, found_version)
        except OSError:  # read-only, not delegated, or a limit above the parent's: a group that holds nothing is none
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()
            continue
        directories.update(dict.fromkeys(wanted, directory))
        version = found_version
    return Cgroup(directories, version) if directories else None


def find_controllers() -> frozenset[str]:
    """Return those of :data:`CONTROLLERS` that boxes of this process get, found by making a group."""
    cgroup = make_cgroup(Limits())
    if cgroup is None:
        return frozenset()
    cgroup.remove()
    return frozenset(cgroup.directories)


def find_stale() -> Iterator[Cgroup]:
    """Yield the groups whose owner is provably dead."""
    for _, root, version in _hierarchies():
        for directory in root.glob("agentgym-*"):
            match = _NAME.fullmatch(directory.name)
            owner = Owner.parse(match["owner"]) if match else None
            if owner is not None and owner.is_dead():
                yield Cgroup({"": directory}, version)


def _hierarchies() -> list[tuple[set[str], Path, int]]:
    """Return the mounted hierarchies: their controllers, the directory, the version."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        mount_point = Path(left.split(" ")[4])
        if kind == "cgroup":
            found.append(({*options.split(",")}, mount_point, 1))
        elif kind == "cgroup2":
            with contextlib.suppress(OSError):
                controllers = (mount_point / "cgroup.controllers").read_text().split()
                found.append(({*controllers}, mount_point, 2))
    return found


def _write_limits(directory: Path, controller: str, limits: Limits, version: int) -> None:
    memory_bytes, quota_us = str(limits.memory_mb << 20), str(max(1000, int(limits.cpus * _PERIOD_US)))
    if controller == "pids":
        (directory / "pids.max").write_text(str(limits.processes + _OVERHEAD_PROCESSES))
    elif controller == "memory" and version == 1:
        (directory / "memory.limit_in_bytes").write_text(memory_bytes)
        _write_if_there(directory / "memory.memsw.limit_in_bytes", memory_bytes)
    elif controller == "memory":
        (directory / "memory.max").write_text(memory_bytes)
        _write_if_there(directory / "memory.swap.max", "0")
    elif version == 1:
        (directory / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (directory / "cpu.cfs_quota_us").write_text(quota_us)
    else:
        (directory / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")


def _write_if_there(path: Path, value: str) -> None:
    """Write a limit of swap; a kernel that does not count swap has no such file."""
    if path.exists():
        path.write_text(value)


def find_field(text: str, name: str) -> int | None:
    """Return a number from one of the kernel's files with a name and a number in each line; ``None`` if it has none."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None


def _kill_members(member_file: Path) -> None:
    """Kill the members of a group of version 1; a number that was freed meanwhile is not taken for theirs."""
    for pid in _read_members(member_file):
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if pid in _read_members(member_file):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            os.close(pidfd)


def _read_members(member_file: Path) -> list[int]:
    try:
        return [int(pid) for pid in member_file.read_text().split()]
    except FileNotFoundError:
        return []
