"""One command in a container: started over the daemon's API, its streams told apart, and capped while they are read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from agentgym_sandboxes.docker_engine import DockerError, Engine

GRACE_S = 5.0  # after its deadline a command ends even if this process has died
_CHUNK_BYTES = 1 << 16
_POLL_S = (0.15, 1.0)  # first and longest pause between two questions to the daemon while a stream is silent
_REST_S = 0.5  # what was written before the end may arrive so much later


@dataclass(frozen=True)
class Program:
    """What to run in a container.

    Attributes:
        argv: Program and arguments.
        user: ``uid:gid`` as whom.
        env: Environment variables beside the image's.
        stdin: What it can read.
        deadline: When it must have ended, on the monotonic clock.
        output_bytes: Cap of stdout and of stderr.
        cwd: Its directory.
    """

    argv: Sequence[str]
    user: str
    env: Mapping[str, str]
    stdin: bytes
    deadline: float
    output_bytes: int
    cwd: str = "/"


@dataclass(frozen=True)
class Ending:
    """How it ended; without an exit code, it may still be running.

    ``started`` is false if the container could not take one more process: then ``stdout`` says why. ``orphaned`` is
    true if what had started it was killed, so that it may still be running, too.
    """

    exit_code: int | None
    stdout: bytes
    stderr: bytes
    truncated: bool = False
    timed_out: bool = False
    started: bool = True
    orphaned: bool = False


class Frames(ABC):
    """Splits a connection into frames, 8 bytes of header and a payload, and keeps none of it.

    The format is that of ``POST /containers/{id}/attach`` in Docker's Engine API.
    """

    def __init__(self) -> None:
        self._header = bytearray()
        self._kind = self._left = 0

    @abstractmethod
    def take(self, kind: int, payload: memoryview) -> None:
        """Take some of the payload of a frame."""

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the connection, wherever they were cut."""
        view = memoryview(data)
        while view:
            if not self._left:
                missing = 8 - len(self._header)
                self._header += view[:missing]
                view = view[missing:]
                if len(self._header) == 8:
                    self._kind, self._left = self._header[0], int.from_bytes(self._header[4:], "big")
                    self._header.clear()
                continue
            payload, view = view[: self._left], view[self._left :]
            self._left -= len(payload)
            self.take(self._kind, payload)


class Demultiplexer(Frames):
    """Keeps the frames of stdout and stderr, each up to a cap."""

    def __init__(self, cap_bytes: int) -> None:
        super().__init__()
        self.streams = {1: bytearray(), 2: bytearray()}
        self.truncated = False
        self._cap = cap_bytes

    def take(self, kind: int, payload: memoryview) -> None:
        """See :meth:`Frames.take`."""
        kept = self.streams[2 if kind == 2 else 1]
        room = self._cap - len(kept)
        self.truncated = self.truncated or len(payload) > room
        kept += payload[:room]


class Stream:
    """The connection of one running program, taken over from the SDK."""

    def __init__(self, raw: Any) -> None:
        self._response = raw._response
        self.socket: socket.socket = raw._sock
        self.socket.setblocking(False)
        # The SDK hands over the bare socket, but what came right behind the answer's head is in a buffer before it.
        self.head = bytes(self._response.raw._fp.fp.peek())

    async def receive(self, timeout_s: float) -> bytes | None:
        """Return what comes next, nothing at the end, or ``None`` if it is silent for so long.

        A deadline around ``loop.sock_recv`` would lose data: what was read in the moment of the timeout is thrown away.

        Raises:
            DockerError: The connection broke.
        """
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.socket, ready.set)
        try:
            async with asyncio.timeout(timeout_s):
                await ready.wait()
            return self.socket.recv(_CHUNK_BYTES)
        except (TimeoutError, BlockingIOError):
            return None
        except OSError as error:
            raise DockerError(f"the connection to a command broke: {error}") from error
        finally:
            loop.remove_reader(self.socket)

    def close(self) -> None:
        """Close it. A second call does nothing."""
        self._response.close()
        self.socket.close()


class Calls:
    """An engine, together with the calls to it that one box has under way."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.pending: set[Future[Any]] = set()

    async def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of ``docker.APIClient``; see :meth:`Engine.call`."""
        return await self.engine.call(self.pending, method, *args, **options)


async def run_program(call: Calls, container_id: str, program: Program) -> Ending:
    """Run a program and wait until its main process ends, its deadline comes or a stream exceeds the cap.

    In the latter two cases, and if the caller is cancelled, the program is still running: the caller must end it.

    Raises:
        DockerError: The daemon or the container is gone, or hangs.
    """
    exec_id = (
        await call(
            "exec_create",
            container_id,
            list(program.argv),
            user=program.user,
            environment=dict(program.env),
            stdin=bool(program.stdin),
        )
    )["Id"]
    raw = await call("exec_start", exec_id, socket=True, undo=lambda raw: Stream(raw).close())
    stream = Stream(raw)
    try:
        return await _Follower(call, exec_id, stream, program).follow()
    finally:
        stream.close()


class _Follower:
    """Follows one program to its end."""

    def __init__(self, call: Calls, exec_id: str, stream: Stream, program: Program) -> None:
        self.call, self.exec_id, self.stream, self.program = call, exec_id, stream, program
        self.output = Demultiplexer(program.output_bytes)

    async def follow(self) -> Ending:
        writing = asyncio.ensure_future(self._write()) if self.program.stdin else None
        try:
            state = await self._read()
        finally:
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        stdout, stderr = (bytes(stream) for stream in self.output.streams.values())
        if self.output.truncated:
            return Ending(None, stdout, stderr, truncated=True)
        if state is None:
            return Ending(None, stdout, stderr, timed_out=True)
        # The daemon sets the process id when the program has started, and says 126 or 127 also when it never did.
        return Ending(state["ExitCode"], stdout, stderr, started=bool(state["Pid"]))

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        # A program that reads no more, or ends, is no error.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await loop.sock_sendall(self.stream.socket, self.program.stdin)
            self.stream.socket.shutdown(socket.SHUT_WR)

    async def _read(self) -> Mapping[str, Any] | None:
        """Read until the main process has ended; return its state, or ``None`` at the deadline or the cap."""
        deadline = self.program.deadline
        self.output.feed(self.stream.head)
        pause_s, longest_s = _POLL_S
        while not self.output.truncated:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            data = await self.stream.receive(min(pause_s, left_s))
            if data is None:
                # Silence: it computes, or it has ended and a child of it holds the stream open, or the daemon hangs.
                state = await self._ask()
                if not state["Running"]:
                    await self._read_rest()
                    return None if self.output.truncated else state
                pause_s = min(2 * pause_s, longest_s)
                continue
            if not data:
                return await self._wait()
            self.output.feed(data)
        return None

    async def _read_rest(self) -> None:
        """Read until the streams end or rest: a child that lives on may hold them open, and may write for ever."""
        until = time.monotonic() + 4 * _REST_S
        with contextlib.suppress(DockerError):  # the exit status is there already
            while not self.output.truncated and time.monotonic() < until:
                data = await self.stream.receive(_REST_S)
                if not data:
                    return
                self.output.feed(data)

    async def _wait(self) -> Mapping[str, Any] | None:
        """Wait for the exit status: the end of the streams comes a moment earlier, or long before if it closed them."""
        pause_s = 0.002
        while (state := await self._ask())["Running"]:
            if time.monotonic() > self.program.deadline:
                return None
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S[1])
        return state

    async def _ask(self) -> Mapping[str, Any]:
        state: Mapping[str, Any] = await self.call("exec_inspect", self.exec_id)
        return state
