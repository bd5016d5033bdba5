"""The contract of a sandbox: a box in which commands that nobody trusts run, and lose.

Commands run asynchronously; :meth:`Sandbox.sync` gives the same box a face without ``await``. A sandbox's author
writes ``_start``, ``_run``, ``_reset``, ``_close`` and ``probe``; what every box has in common is here and in
:mod:`agentgym.sandbox_files`. ``agentgym.checks.check_sandbox`` says whether it keeps the contract.
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from agentgym.errors import SandboxLostError, SandboxRefusedError, UsageError
from agentgym.sandbox_output import escape_output

if TYPE_CHECKING:
    from agentgym.sandbox_sync import SyncSandbox

WORKSPACE = "/workspace"
MAX_ARGUMENT_BYTES = 100_000  # Linux takes 128 KiB in one argument
MAX_COMMAND_BYTES = 1_000_000  # and 2 MiB in all with the usual stack, pointers included
MAX_TIMEOUT_S = 3600.0

Outcome = Literal[
    "ok", "failed", "timed_out", "oom", "truncated", "refused", "session_lost", "sandbox_lost", "cancelled"
]


@dataclass(frozen=True)
class Limits:
    """What a box may use.

    Attributes:
        cpus: Processor cores.
        memory_mb: Memory of all its processes and of its files in memory together.
        processes: Processes and threads at a time.
        workspace_mb: Size of ``/workspace``.
        tmp_mb: Size of ``/tmp``.
        inodes: Files in each of the two.
        open_files: Open files of one process.
        output_bytes: Most bytes kept of stdout, and of stderr; a command that writes more is ended.
        file_bytes: Largest file that is read out of or written into the box.
        archive_bytes: Most bytes of one upload or download, unpacked.
        archive_entries: Most files of one upload or download.
    """

    cpus: float = 1.0
    memory_mb: int = 1024
    processes: int = 256
    workspace_mb: int = 512
    tmp_mb: int = 256
    inodes: int = 65_536
    open_files: int = 1024
    output_bytes: int = 1 << 20
    file_bytes: int = 64 << 20
    archive_bytes: int = 256 << 20
    archive_entries: int = 20_000

    def __post_init__(self) -> None:
        check_limits("a box", self)


@dataclass(frozen=True)
class SandboxSpec:
    """What box is wanted.

    Attributes:
        image: Image of a container; boxes that use the host's own programs ignore it.
        limits: What it may use.
        network: ``none``: nothing but a loopback of its own.
        lease_s: The box is gone so many seconds after its start, whatever became of us.
        env: Environment variables of every command.
        labels: Marks for people who look at their host; nothing secret.
    """

    image: str = "agentgym/base"
    limits: Limits = field(default_factory=Limits)
    network: Literal["none"] = "none"
    lease_s: float = 3600.0
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.lease_s < math.inf:
            raise UsageError(f"a lease is a number of seconds above 0, got {self.lease_s!r}")
        if self.network != "none":
            raise UsageError(f"the only network policy is 'none', got {self.network!r}")


@dataclass(frozen=True)
class ExecResult:
    """How a command ended.

    Attributes:
        exit_code: Its exit status, 128 plus the signal if one ended it; ``None`` if we ended it.
        stdout: What it wrote, at most ``Limits.output_bytes``, as bytes.
        stderr: The same.
        truncated: It wrote more than the cap and was ended.
        timed_out: It was ended at its deadline.
        oom: The kernel ended a process of it for want of memory, as the box's counters say.
        duration_s: Seconds on the monotonic clock.
        session_lost: Ending it also ended what earlier commands had left running.
    """

    exit_code: int | None
    stdout: bytes
    stderr: bytes
    truncated: bool = False
    timed_out: bool = False
    oom: bool = False
    duration_s: float = 0.0
    session_lost: bool = False

    @property
    def outcome(self) -> Outcome:
        """The one word for it; a cause that we know comes before an exit status that the command chose."""
        if self.oom:
            return "oom"
        if self.timed_out:
            return "timed_out"
        if self.truncated:
            return "truncated"
        return "ok" if self.exit_code == 0 else "failed"

    def show(self, *, max_chars: int = 20_000) -> str:
        """Return stdout and stderr as text that is safe in a prompt: escaped, and cut in the middle if long."""
        parts = [escape_output(part) for part in (self.stdout, self.stderr)]
        text = "\n".join(part.rstrip("\n") for part in parts if part.strip())
        if len(text) > max_chars:
            half = max_chars // 2
            text = f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
        return text


@dataclass(frozen=True)
class Probe:
    """What one probe on this host found.

    Attributes:
        promise: A key of :data:`agentgym.sandbox_promises.PROMISES`, e.g. ``no network``.
        held: Whether it did, when it was tried.
        detail: What was seen.
    """

    promise: str
    held: bool
    detail: str = ""


class Sandbox(ABC):
    """A box. Use it as ``async with make_sandbox("auto") as box:``.

    Class attributes:
        name: Under which it is registered in the entry points ``agentgym.sandboxes``.
        strength: Order in which ``auto`` tries; 0 is never taken by ``auto``.
        exceptions: Promises that this kind of box cannot keep, each with the reason; keys as in
            :data:`agentgym.sandbox_promises.PROMISES`.
    """

    name: ClassVar[str]
    strength: ClassVar[int] = 0
    exceptions: ClassVar[Mapping[str, str]] = {}

    def __init__(self, spec: SandboxSpec | None = None) -> None:
        self.spec = spec or SandboxSpec()
        self._state: Literal["new", "open", "lost", "closed"] = "new"
        self._expires = math.inf

    # what an author writes

    @classmethod
    @abstractmethod
    async def probe(cls) -> Sequence[Probe]:
        """Try on this host what a box of this kind promises, by running it; never raises for a host that cannot.

        Each probe bears the name of a promise, a key of :data:`agentgym.sandbox_promises.PROMISES`.
        The first probe is ``starts``; if it was not held, the others may be absent.
        """

    @abstractmethod
    async def _start(self) -> None:
        """Make the box.

        Raises:
            SandboxUnavailableError: This host cannot; the message says what to install or to allow.
            SandboxLostError: It could, but failed. Nothing is left behind.
        """

    @abstractmethod
    async def _run(self, command: Command) -> ExecResult:
        """Run one command, at most to its deadline, and leave none of its processes if it was cut short.

        Raises:
            SandboxLostError: The box is gone, or cannot be trusted any more.
        """

    @abstractmethod
    async def _reset(self) -> None:
        """Bring back the bytewise initial state."""

    @abstractmethod
    async def _close(self) -> None:
        """End everything and remove everything. Called once, also after a failed start."""

    @classmethod
    def collect_garbage(cls, *, dry_run: bool = False) -> list[str]:
        """Remove what runs that are dead have left behind; return one line for each thing, removed or only found."""
        return []

    # what a user calls

    async def start(self) -> Self:
        """Make the box; see ``_start`` for errors. A second call does nothing."""
        if self._state == "new":
            try:
                await self._start()
            except BaseException:
                await self.close()
                raise
            self._state, self._expires = "open", time.monotonic() + self.spec.lease_s
        else:
            self._require_open()
        return self

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        timeout_s: float,
        cwd: str = WORKSPACE,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> ExecResult:
        """Run a command and wait until its main process ends; what it leaves in the background is not waited for.

        Args:
            command: A line for ``bash -c``, or a program with its arguments.
            timeout_s: Deadline in seconds, above 0; more than an hour is an hour.
            cwd: Directory in the box.
            env: Environment variables beside the spec's.
            stdin: What the command can read; then it meets the end of the file.

        Raises:
            SandboxRefusedError: No such command can be run: a NUL, more than 100 kB in one argument, a bad deadline.
            SandboxLostError: The box is gone; the episode must be masked.
        """
        self._require_open()
        return await self._run(make_command(command, timeout_s, cwd, {**self.spec.env, **(env or {})}, stdin))

    async def read_file(self, path: str) -> bytes:
        """Return a regular file's bytes; relative to ``/workspace``.

        Raises:
            SandboxRefusedError: It is no regular file, not there, or larger than ``Limits.file_bytes``.
        """
        from agentgym.sandbox_files import read_file

        return await read_file(self, path)

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Write a file below ``/workspace`` or ``/tmp``, with its directories; an existing one is replaced.

        Raises:
            SandboxRefusedError: The path leads elsewhere, or the file is too large or does not fit.
        """
        from agentgym.sandbox_files import write_file

        await write_file(self, path, data)

    async def upload(self, source: str | Path, target: str = WORKSPACE) -> None:
        """Copy a file or a directory's contents of the host into a directory of the box.

        Symbolic links are copied as links, and only if they stay below ``source``; set-uid bits are not copied. Every
        file belongs to the box's user and bears the same date, so that boxes with the same files are the same.

        Raises:
            SandboxRefusedError: A member or the target leads out of the workspace, a member is a device, pipe or
                socket, or it is too much.
        """
        from agentgym.sandbox_files import upload

        await upload(self, Path(source), target)

    async def download(self, source: str, target: str | Path) -> None:
        """Copy a file or directory of the box to a new directory of the host.

        Nothing of the host is followed or replaced: members that are no regular files or directories are refused.

        Raises:
            SandboxRefusedError: A member is a link, device or pipe, leads out of ``target``, or it is too much.
        """
        from agentgym.sandbox_files import download

        await download(self, source, Path(target))

    async def reset(self) -> None:
        """Bring the box back to its initial state, to the byte; every process of it ends.

        Raises:
            SandboxLostError: It could not be brought back; the box is closed.
        """
        self._require_open()
        try:
            await self._reset()
        except BaseException:
            self._state = "lost"
            raise

    async def close(self) -> None:
        """End and remove the box; a second call does nothing. A cancelled close goes on in the background."""
        if self._state != "closed":
            self._state = "closed"
            await asyncio.shield(asyncio.ensure_future(self._close()))

    def sync(self) -> SyncSandbox:
        """Return the same box without ``await``: ``with make_sandbox("auto").sync() as box: box.exec(...)``."""
        from agentgym.sandbox_sync import SyncSandbox

        return SyncSandbox(self)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _mark_lost(self, why: str) -> SandboxLostError:
        """Remember that the box cannot be used any more, and return the error to raise."""
        if self._state == "open":
            self._state = "lost"
        return SandboxLostError(f"{self.name} sandbox: {why}")

    def _require_open(self) -> None:
        if self._state == "open" and time.monotonic() > self._expires:
            raise self._mark_lost(f"its lease of {self.spec.lease_s:g} s is over; ask for a longer SandboxSpec.lease_s")
        if self._state == "new":
            raise UsageError('the sandbox was not started: use "async with", or await start()')
        if self._state != "open":
            raise SandboxLostError(f"{self.name} sandbox: it is {self._state}")


@dataclass(frozen=True)
class Command:
    """A command that was found fit to run: no NUL, no giant argument, a finite deadline, an absolute directory.

    ``output_bytes`` is the cap of stdout and of stderr; ``None`` is ``Limits.output_bytes``.
    """

    argv: tuple[str, ...]
    timeout_s: float
    cwd: str
    env: Mapping[str, str]
    stdin: bytes
    output_bytes: int | None = None


def check_limits(whose: str, limits: object) -> None:
    """Raise ``UsageError`` unless every field of a dataclass of limits is a finite number above 0."""
    for name, value in vars(limits).items():
        if not (isinstance(value, int | float) and 0 < value < math.inf):
            raise UsageError(f"{whose} needs {name} above 0, got {value!r}")


def make_command(
    command: str | Sequence[str], timeout_s: float, cwd: str, env: Mapping[str, str], stdin: bytes
) -> Command:
    """Return a command that is fit to run; for arguments and errors see :meth:`Sandbox.exec`."""
    argv = ("/bin/bash", "-c", command) if isinstance(command, str) else tuple(command)
    if not argv or not argv[0]:
        raise SandboxRefusedError("there is no command")
    texts = [*argv, cwd, *env.keys(), *env.values()]
    if any("\0" in text for text in texts):
        raise SandboxRefusedError("a command cannot hold a NUL character")
    try:
        sizes = [len(text.encode()) for text in texts]
    except UnicodeEncodeError as error:
        raise SandboxRefusedError("a command cannot hold lone surrogates") from error
    if max(sizes) > MAX_ARGUMENT_BYTES or sum(sizes) + 8 * len(sizes) > MAX_COMMAND_BYTES:
        raise SandboxRefusedError(
            f"a command holds at most {MAX_ARGUMENT_BYTES} bytes in one argument and {MAX_COMMAND_BYTES} in all: "
            "write a longer script to a file and run that"
        )
    if any("=" in key or not key for key in env):
        raise SandboxRefusedError("a name of an environment variable is not empty and holds no '='")
    if not (isinstance(timeout_s, int | float) and 0 < timeout_s < math.inf):
        raise SandboxRefusedError(f"timeout_s must be a number of seconds above 0, got {timeout_s!r}")
    directory = str(PurePosixPath(WORKSPACE) / cwd)
    return Command(argv, min(float(timeout_s), MAX_TIMEOUT_S), directory, dict(env), bytes(stdin))
