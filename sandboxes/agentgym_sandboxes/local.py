"""No box at all: commands run on the host, as you, in a directory of their own. For trying things out."""

from __future__ import annotations

import os
import re
import resource
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from agentgym.errors import AgentGymError, SandboxUnavailableError
from agentgym.sandbox import Command, ExecResult, Limits, Probe, Sandbox, SandboxSpec
from agentgym_sandboxes.process import HostCommand, HostProcess

ALLOW_VARIABLE = "AGENTGYM_ALLOW_LOCAL"
REMOVE_S = 120.0
# The path itself or what is below it, as a word of its own: not /usr/tmp, $HOME/tmp, /tmpfs or /workspace-2.
_BOX_PATH = re.compile(r"(?<![\w.~/})-])/(workspace|tmp)(?![\w.-])")
_HOST = "it runs on the host, as you"
_ESCAPE = "a child that calls setsid is not found again"


class LocalSandbox(Sandbox):
    """A directory of the host that plays ``/workspace``, and one that plays ``/tmp``.

    The two paths are replaced in the text of arguments and of environment variables; a program that puts them together
    by itself means the host's.

    Args:
        spec: What box is wanted; ``image`` is ignored, and of the limits only open files and sizes of files hold.
        allow_local: Must be true, or the environment variable ``AGENTGYM_ALLOW_LOCAL`` be 1.

    Raises:
        SandboxUnavailableError: It was not allowed.
    """

    name = "local"
    strength = 0
    exceptions: ClassVar[Mapping[str, str]] = {
        "deadline": _ESCAPE,
        "background": _ESCAPE,
        "zombies": "they are left to the host's first process, and in a container that may reap none",
        "no network": _HOST,
        "no capabilities": _HOST,
        "no host files": _HOST,
        "no host secrets": f"{_HOST}: /proc shows the environment of your processes",
        "no host processes": _HOST,
        "processes": "a limit of processes would count all of yours",
        "memory": "a limit of memory would hold for each process alone",
        "cpus": "nothing shares out the processor",
        "workspace size": "only the size of one file is limited",
        "inodes": "the disk is the host's",
        "reset": "only the two directories are made anew",
        "lease": "nothing watches over it once we are gone",
        "close": f"{_ESCAPE}, and the directory stays if we are killed",
    }

    def __init__(self, spec: SandboxSpec | None = None, *, allow_local: bool = False) -> None:
        if not (allow_local or os.environ.get(ALLOW_VARIABLE) == "1"):
            raise SandboxUnavailableError(
                f"the local sandbox is none: {_HOST}. Install Docker or bubblewrap; or, if you trust every command, "
                f"give allow_local=True or set {ALLOW_VARIABLE}=1"
            )
        super().__init__(spec)
        warnings.warn(f"the local sandbox holds nothing back: {_HOST}", stacklevel=2)
        self._root: Path | None = None

    @classmethod
    async def probe(cls) -> Sequence[Probe]:
        """Try to run one command; nothing else is promised."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            box = cls(allow_local=True)
        try:
            async with box:
                result = await box.exec("echo started", timeout_s=10)
        except AgentGymError as error:
            return [Probe("starts", False, str(error))]
        probes = [Probe("starts", result.stdout == b"started\n", f"outcome {result.outcome}")]
        return probes + [Probe(promise, False, reason) for promise, reason in cls.exceptions.items()]

    async def _start(self) -> None:
        self._root = _make_root()
        self._make_directories()

    async def _run(self, command: Command) -> ExecResult:
        limits = self.spec.limits
        command_line = HostCommand(
            argv=["/bin/sh", "-c", _limit_script(limits), "sh", *map(self._to_host, (command.cwd, *command.argv))],
            env=self._environment(command),
            output_bytes=command.output_bytes or limits.output_bytes,
            cwd="/",
            stdin=command.stdin,
        )
        async with HostProcess(command_line) as process:
            ending = await process.wait(command.timeout_s)
        stdout, stderr = process.output
        return ExecResult(
            exit_code=process.exit_code if ending == "exited" else None,
            stdout=stdout,
            stderr=stderr,
            truncated=ending == "truncated",
            timed_out=ending == "timed_out",
            duration_s=process.duration_s,
        )

    async def _reset(self) -> None:
        await self._remove(self._directory("workspace"), self._directory("tmp"))
        self._make_directories()

    async def _close(self) -> None:
        if self._root is not None:
            await self._remove(self._root)

    def _directory(self, name: str) -> Path:
        assert self._root is not None  # by the contract, only a started box is used
        return self._root / name

    def _make_directories(self) -> None:
        for name in ("workspace", "tmp"):
            self._directory(name).mkdir(0o755)

    def _to_host(self, text: str) -> str:
        return _BOX_PATH.sub(lambda found: str(self._directory(found[1])), text)

    def _environment(self, command: Command) -> dict[str, str]:
        given = {"HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", **command.env}
        return {"PATH": os.environ.get("PATH", os.defpath), **{k: self._to_host(v) for k, v in given.items()}}

    async def _remove(self, *directories: Path) -> None:
        """Remove what commands may have locked; by a process, since a thread could not be cancelled."""
        script = 'chmod -R u+rwX -- "$@" 2>/dev/null; exec rm -rf -- "$@"'
        argv = ["/bin/sh", "-c", script, "sh", *map(str, directories)]
        async with HostProcess(HostCommand(argv, {"PATH": os.defpath}, output_bytes=65_536)) as process:
            await process.wait(REMOVE_S)
        if process.exit_code != 0:
            why = process.output[1][-500:].decode(errors="replace")
            raise self._mark_lost(f"cannot remove its directories: {why}")


def _make_root() -> Path:
    """Make the directory of one box, and return its path without links: what commands print must begin with it."""
    return Path(tempfile.mkdtemp(prefix="agentgym-local-")).resolve()


def _limit_script(limits: Limits) -> str:
    """Return a line for ``sh`` that sets limits of one process, enters a directory and becomes the command."""
    open_files = min(limits.open_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    blocks = (limits.workspace_mb << 20) // 512
    return f'ulimit -c 0; ulimit -n {open_files}; ulimit -f {blocks}; cd -- "$1" || exit 126; shift; exec "$@"'
