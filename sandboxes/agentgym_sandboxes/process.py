"""A process of this host that nobody trusts: what it writes is capped while it is read, and it ends when we say so.

``asyncio.subprocess`` is not used: ``communicate`` waits until every background child has closed the pipes and buffers
without a cap, and the watcher of children that Python 3.11 takes by default is one thread a process. Needs pidfd, which
Linux has since 5.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Literal, Self

from agentgym.errors import SandboxLostError, SandboxRefusedError

Ending = Literal["exited", "timed_out", "truncated"]
CHUNK_BYTES = 65_536
KILL_GRACE_S = 10.0
"""A killed process that is not gone after this hangs in the kernel."""


@dataclass(frozen=True)
class HostCommand:
    """What is started on the host.

    Attributes:
        argv: Program with its arguments; no shell.
        env: Its whole environment.
        output_bytes: Most bytes kept of stdout, and of stderr.
        cwd: Directory, or ``None`` for ours.
        stdin: What it can read; then it meets the end of the file.
        pass_fds: File descriptors that it inherits.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    output_bytes: int
    cwd: str | None = None
    stdin: bytes = b""
    pass_fds: tuple[int, ...] = ()


class HostProcess:
    """A process in a session of its own; leaving ``async with`` kills its process group and reaps it.

    Cancelled at any await, it is killed and reaped before the cancellation goes on.

    Raises:
        SandboxRefusedError: Its arguments are longer than the kernel takes.
        SandboxLostError: It could not be started: no program, no memory, no file descriptors.
    """

    def __init__(self, command: HostCommand) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[Ending] = self._loop.create_future()
        self._reaped: asyncio.Future[None] = self._loop.create_future()
        self._started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                list(command.argv),
                env=dict(command.env),
                cwd=command.cwd,
                stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=command.pass_fds,
                start_new_session=True,
            )
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise SandboxRefusedError(
                    "the arguments and the environment are longer than the system takes"
                ) from error
            raise SandboxLostError(f"cannot start {command.argv[0]!r}: {error}") from error
        self.pid = self._process.pid
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError as error:
            self._process.kill()
            with self._process:  # closes the pipes and reaps
                raise SandboxLostError(f"cannot watch {command.argv[0]!r}: {error}") from error
        self._loop.add_reader(self._pidfd, self._reap)
        pipes = [pipe for pipe in (self._process.stdout, self._process.stderr) if pipe is not None]
        self._drains = [
            _Drain(self._loop, pipe, command.output_bytes, lambda: self._settle("truncated")) for pipe in pipes
        ]
        self._feed = _Feed(self._loop, self._process.stdin, command.stdin) if self._process.stdin else None

    @property
    def exit_code(self) -> int | None:
        """Exit status, 128 plus the signal if one ended it; ``None`` while it runs."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    @property
    def duration_s(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._started

    @property
    def output(self) -> tuple[bytes, bytes]:
        """What it wrote to stdout and to stderr so far, both capped."""
        return bytes(self._drains[0].kept), bytes(self._drains[1].kept)

    async def wait(self, timeout_s: float) -> Ending:
        """Wait for the end of the main process, for too much output, or for ``timeout_s`` seconds since the start.

        A child in the background that still holds the pipes is not waited for: what can be read is read.
        """
        timer = self._loop.call_later(max(0.0, timeout_s - self.duration_s), self._settle, "timed_out")
        try:
            return await asyncio.shield(self._ending)
        finally:
            timer.cancel()

    def kill(self) -> None:
        """Send SIGKILL to its process group; children in sessions of their own are not met."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        try:
            if not await outlast(self._reaped, KILL_GRACE_S):
                raise SandboxLostError(f"process {self.pid} does not end although it was killed")
        finally:
            self._close_pidfd()
            for drain in self._drains:
                drain.close()
            if self._feed is not None:
                self._feed.close()

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it left in its group, while its number cannot be taken
        self._process.wait()
        for drain in self._drains:
            drain.finish()
        self._settle("exited")
        self._reaped.set_result(None)

    def _settle(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)

    def _close_pidfd(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


async def outlast(future: asyncio.Future[None], timeout_s: float) -> bool:
    """Wait for a future even if we are cancelled meanwhile; the cancellation is raised afterwards.

    Returns:
        Whether it was done after ``timeout_s``.
    """
    cancelled: asyncio.CancelledError | None = None
    deadline = time.monotonic() + timeout_s
    while not future.done() and (left := deadline - time.monotonic()) > 0:
        try:
            await asyncio.wait([future], timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return future.done()


class _Drain:
    """Reads a pipe as soon as there is something, and never holds more than its cap."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pipe: IO[bytes], cap_bytes: int, on_excess: Callable[[], None]
    ) -> None:
        self.kept = bytearray()
        self._loop, self._pipe, self._cap, self._on_excess = loop, pipe, cap_bytes, on_excess
        os.set_blocking(pipe.fileno(), False)
        loop.add_reader(pipe.fileno(), self._read)

    def _read(self) -> bool:
        """Read once; return whether there may be more."""
        try:
            data = os.read(self._pipe.fileno(), min(CHUNK_BYTES, self._cap + 1 - len(self.kept)))
        except BlockingIOError:
            return False
        self.kept += data
        if len(self.kept) > self._cap:
            del self.kept[self._cap :]
            self._on_excess()
        elif data:
            return True
        self.close()
        return False

    def finish(self) -> None:
        """Take what is already in the pipe, and no more."""
        while not self._pipe.closed and self._read():
            pass
        self.close()

    def close(self) -> None:
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()


class _Feed:
    """Writes to a pipe as it takes it; a reader that closes its end is no error."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipe: IO[bytes], data: bytes) -> None:
        self._loop, self._pipe, self._rest = loop, pipe, memoryview(data)
        os.set_blocking(pipe.fileno(), False)
        loop.add_writer(pipe.fileno(), self._write)

    def _write(self) -> None:
        try:
            written = os.write(self._pipe.fileno(), self._rest[:CHUNK_BYTES])
        except BlockingIOError:
            return
        except BrokenPipeError:
            written = len(self._rest)
        self._rest = self._rest[written:]
        if not self._rest:
            self.close()

    def close(self) -> None:
        if not self._pipe.closed:
            self._loop.remove_writer(self._pipe.fileno())
            self._pipe.close()
