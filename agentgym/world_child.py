"""The inside of a child process that hosts environments, and the frames that it exchanges with its parent.

Several environments live in threads of their own, so that one that waits for its world lets the others go on. A single
one lives in the main thread, which some engines insist on.
"""

from __future__ import annotations

import fcntl
import logging
import os
import pickle
import queue
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import gymnasium

from agentgym.actions import ActionFormat

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0
READ_BYTES = 1 << 18
_HEADER = struct.Struct("!QQ")  # number of the call, length of what follows


@dataclass(frozen=True)
class Description:
    """What the parent learns about an environment when the child has made it."""

    action_format: ActionFormat
    action_space: gymnasium.Space[Any]
    observation_space: gymnasium.Space[Any]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """An exception on its way from the child."""

    type: type[Exception]
    message: str
    details: str


def pack(call: int, content: Any) -> bytes:
    """Return the frame of a call, ``(world, verb, arguments)``, or of its answer, which bears the same number."""
    body = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return _HEADER.pack(call, len(body)) + body


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take in what arrived and yield the number and pickled content of every frame that is whole now."""
        self._bytes += data
        while len(self._bytes) >= _HEADER.size:
            call, length = _HEADER.unpack_from(self._bytes)
            end = _HEADER.size + length
            if len(self._bytes) < end:
                return
            body = bytes(self._bytes[_HEADER.size : end])
            del self._bytes[:end]
            yield call, body


def serve(
    calls: socket.socket, lifeline: Connection, make_env: Callable[[], gymnasium.Env[Any, Any]], threaded: bool
) -> None:
    """Answer calls until the parent says ``close`` or hangs up; runs in the child."""
    die_with_parent(lifeline)
    os.dup2(2, 1)  # what an engine prints must not end up in the parent's output
    sending = threading.Lock()

    def answer(frame: bytes) -> None:
        with sending:
            calls.sendall(frame)

    worlds: dict[int, _World] = {}
    for number, body in _frames(calls):
        key, verb, arguments = pickle.loads(body)
        if verb == "close":
            break
        if key not in worlds:
            worlds[key] = _World(make_env, answer, threaded=threaded)
        worlds[key].take(number, verb, arguments)
    deadline_s = time.monotonic() + CLOSE_TIMEOUT_S
    for world in worlds.values():
        world.end()
    for world in worlds.values():
        world.join(deadline_s - time.monotonic())


def _frames(calls: socket.socket) -> Iterator[tuple[int, bytes]]:
    reader = FrameReader()
    while data := calls.recv(READ_BYTES):
        yield from reader.feed(data)


class _World:
    """An environment and, if it is to have one, its thread."""

    def __init__(
        self, make_env: Callable[[], gymnasium.Env[Any, Any]], answer: Callable[[bytes], None], *, threaded: bool
    ) -> None:
        self._make_env, self._answer = make_env, answer
        self._env: gymnasium.Env[Any, Any] | None = None
        self._calls: queue.SimpleQueue[tuple[int, str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._live, name="agentgym-world", daemon=True) if threaded else None
        if self._thread is not None:
            self._thread.start()

    def take(self, number: int, verb: str, arguments: dict[str, Any]) -> None:
        """Answer a call: soon, if there is a thread for it, else now."""
        if self._thread is None:
            self._do(number, verb, arguments)
        else:
            self._calls.put((number, verb, arguments))

    def end(self) -> None:
        """Close the environment: soon, if there is a thread for it, else now."""
        if self._thread is None:
            self._close()
        else:
            self._calls.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout_s))

    def _live(self) -> None:
        while (call := self._calls.get()) is not None:
            self._do(*call)
        self._close()

    def _do(self, number: int, verb: str, arguments: dict[str, Any]) -> None:
        try:
            frame = pack(number, self._carry_out(verb, arguments))
        except Exception as error:  # whatever it is, the parent is told
            frame = pack(number, _describe_failure(error))
        self._answer(frame)

    def _carry_out(self, verb: str, arguments: dict[str, Any]) -> Any:
        if verb == "start":
            return self._start()
        assert self._env is not None
        target: Any = self._env.unwrapped if verb == "expert_move" else self._env
        return getattr(target, verb)(**arguments)

    def _start(self) -> Description:
        self._close()
        env = self._env = self._make_env()
        base: Any = env.unwrapped
        return Description(base.action_format, env.action_space, env.observation_space, dict(env.metadata))

    def _close(self) -> None:
        env, self._env = self._env, None
        if env is None:
            return
        try:
            env.close()
        except Exception:  # it is being thrown away, perhaps because it crashed
            logger.exception("an environment could not be closed")


def _describe_failure(error: Exception) -> Failure:
    kind: type[Exception] = type(error)
    try:
        pickle.dumps(kind)
    except (pickle.PicklingError, AttributeError):
        kind = RuntimeError
    return Failure(kind, str(error) or kind.__name__, traceback.format_exc())


def die_with_parent(lifeline: Connection) -> None:
    """Have the kernel kill this process group when the parent's end of the pipe closes.

    A thread that waits for the end of the pipe could not run while a native engine holds the interpreter's lock, and
    PR_SET_PDEATHSIG fires when the parent's *thread* ends. Off Linux only an idle child notices the end of its pipe.
    """
    os.setpgid(0, 0)
    if sys.platform != "linux":
        return
    fd = lifeline.fileno()
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([fd], [], [], 0)[0]:  # the parent died before the kernel was told to watch
        os._exit(1)
