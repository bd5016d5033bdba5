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
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

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


class Capture:
    """The three streams of a process: its stdin is fed, its stdout and stderr are read up to a cap, all at once.

    Args:
        output_bytes: Most bytes kept of stdout, and of stderr.
        stdin: What the process can read; ``None`` if that is said later, to :meth:`begin`.

    Attributes:
        child_fds: What the process gets as its stdin, stdout and stderr; closed by :meth:`hand_over`.
    """

    def __init__(self, output_bytes: int, stdin: bytes | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[Ending] = self._loop.create_future()
        self._started = time.monotonic()
        fds: list[int] = []
        try:
            fds += os.pipe2(os.O_CLOEXEC)
            fds += os.pipe2(os.O_CLOEXEC)
            has_pipe = stdin != b""
            fds += os.pipe2(os.O_CLOEXEC) if has_pipe else [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
        except OSError as error:
            for fd in fds:
                os.close(fd)
            raise SandboxLostError(f"no pipes for a process: {error}") from error
        self.child_fds = [fds[4], fds[1], fds[3]]
        self._drains = [
            _Drain(self._loop, fd, output_bytes, lambda: self.settle("truncated")) for fd in (fds[0], fds[2])
        ]
        self._feed = _Feed(self._loop, fds[5]) if has_pipe else None
        if self._feed is not None and stdin is not None:
            self._feed.begin(stdin)

    def begin(self, output_bytes: int, stdin: bytes) -> None:
        """Say what was left open when it was made; time counts from now."""
        self._started = time.monotonic()
        for drain in self._drains:
            drain.cap = output_bytes
        if self._feed is not None:
            self._feed.begin(stdin)

    @property
    def duration_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._started

    @property
    def output(self) -> tuple[bytes, bytes]:
        """What came through stdout and stderr so far, both capped."""
        return bytes(self._drains[0].kept), bytes(self._drains[1].kept)

    def hand_over(self) -> None:
        """Close our copies of what the process now holds; without this, its pipes would never end."""
        while self.child_fds:
            os.close(self.child_fds.pop())

    async def wait(self, timeout_s: float) -> Ending:
        """Wait for :meth:`settle`, or until ``timeout_s`` seconds after it was made."""
        timer = self._loop.call_later(max(0.0, timeout_s - self.duration_s), self.settle, "timed_out")
        try:
            return await asyncio.shield(self._ending)
        finally:
            timer.cancel()

    def settle(self, ending: Ending) -> None:
        """Say how the process ended; only the first word counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    def finish(self) -> None:
        """Take what is already in the pipes, whoever still holds them."""
        for drain in self._drains:
            drain.finish()

    def close(self) -> None:
        """Close all that is still open."""
        self.hand_over()
        for stream in (*self._drains, self._feed):
            if stream is not None:
                stream.close()


class HostProcess:
    """A process in a session of its own; leaving ``async with`` kills its process group and reaps it.

    Cancelled at any await, it is killed and reaped before the cancellation goes on.

    Raises:
        SandboxRefusedError: Its arguments are longer than the kernel takes.
        SandboxLostError: It could not be started: no program, no memory, no file descriptors.
    """

    def __init__(self, command: HostCommand) -> None:
        self._loop = asyncio.get_running_loop()
        self._reaped: asyncio.Future[None] = self._loop.create_future()
        self._capture = Capture(command.output_bytes, command.stdin)
        stdin, stdout, stderr = self._capture.child_fds
        try:
            self._process = subprocess.Popen(
                list(command.argv),
                env=dict(command.env),
                cwd=command.cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=command.pass_fds,
                start_new_session=True,
            )
        except OSError as error:
            self._capture.close()
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
            self._process.wait()
            self._capture.close()
            raise SandboxLostError(f"cannot watch {command.argv[0]!r}: {error}") from error
        self._capture.hand_over()
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def exit_code(self) -> int | None:
        """Exit status, 128 plus the signal if one ended it; ``None`` while it runs."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    @property
    def duration_s(self) -> float:
        """Seconds since its start."""
        return self._capture.duration_s

    @property
    def output(self) -> tuple[bytes, bytes]:
        """What it wrote to stdout and to stderr so far, both capped."""
        return self._capture.output

    def has_ended(self) -> bool:
        """Whether its main process has ended, even if the event loop has not been told yet."""
        if self._process.returncode is not None:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    async def wait(self, timeout_s: float) -> Ending:
        """Wait for the end of the main process, for too much output, or for ``timeout_s`` seconds since the start.

        A child in the background that still holds the pipes is not waited for: what can be read is read.
        """
        return await self._capture.wait(timeout_s)

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
        await self.end()

    async def end(self) -> None:
        """Kill it if it still runs, and reap it; must be called, once, where ``async with`` is not used.

        Raises:
            SandboxLostError: It hangs in the kernel.
        """
        self.kill()
        try:
            if not await outlast(self._reaped, KILL_GRACE_S):
                raise SandboxLostError(f"process {self.pid} does not end although it was killed")
        finally:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._capture.close()

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it left in its group, while its number cannot be taken
        self._process.wait()
        self._capture.finish()
        self._capture.settle("exited")
        self._reaped.set_result(None)


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

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, cap_bytes: int, on_excess: Callable[[], None]) -> None:
        self.kept = bytearray()
        self.cap = cap_bytes
        self._loop, self._fd, self._on_excess = loop, fd, on_excess
        os.set_blocking(fd, False)
        loop.add_reader(fd, self._read)

    def _read(self) -> bool:
        """Read once; return whether there may be more."""
        try:
            data = os.read(self._fd, min(CHUNK_BYTES, self.cap + 1 - len(self.kept)))
        except BlockingIOError:
            return False
        self.kept += data
        if len(self.kept) > self.cap:
            del self.kept[self.cap :]
            self._on_excess()
        elif data:
            return True
        self.close()
        return False

    def finish(self) -> None:
        """Take what is already in the pipe, and no more."""
        while self._fd >= 0 and self._read():
            pass
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


class _Feed:
    """Writes to a pipe as it takes it; a reader that closes its end is no error."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop, self._fd, self._rest = loop, fd, memoryview(b"")
        os.set_blocking(fd, False)

    def begin(self, data: bytes) -> None:
        """Write this, then close the pipe."""
        self._rest = memoryview(data)
        if data:
            self._loop.add_writer(self._fd, self._write)
        else:
            self.close()

    def _write(self) -> None:
        try:
            written = os.write(self._fd, self._rest[:CHUNK_BYTES])
        except BlockingIOError:
            return
        except BrokenPipeError:
            written = len(self._rest)
        self._rest = self._rest[written:]
        if not self._rest:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
