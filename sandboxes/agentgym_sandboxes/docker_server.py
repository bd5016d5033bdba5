"""A small server in a container that starts its commands, where the daemon would need three calls and runc for each.

It is ``command_server.pl``, started once as a program of the container and spoken to over that program's own stdin and
stdout; Perl is in every Debian. It runs as the agent and is no more trusted than a command: the agent can kill or stop
it, and what it sends is capped, checked and waited for until the deadline only, like what a command prints. What ends
badly is cleared away by the sweep, which goes through the daemon; where no server can be had, so does the command.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import socket
import time
from pathlib import Path

from agentgym_sandboxes.docker_exec import GRACE_S, Calls, Demultiplexer, Ending, Frames, Program, Stream

_log = logging.getLogger(__name__)
_PERL = "/usr/bin/perl"
_START_S = 15.0
_POLL_S = (1.0, 4.0)  # first and longest silence after which the daemon is asked whether it is still there
_ENDED, _LONGEST_LINE = 3, 300
KILLED = 137
"""Exit status of a command whose server was killed: as if the command itself had been."""


@functools.cache
def _script() -> str:
    return Path(__file__).with_name("command_server.pl").read_text(encoding="ascii")


class _Answer(Demultiplexer):
    """The server's frames about one command: its streams up to a cap, and the line that it ends with."""

    def __init__(self, cap_bytes: int) -> None:
        super().__init__(cap_bytes)
        self.line = bytearray()
        self.broken = False

    def take(self, kind: int, payload: memoryview) -> None:
        if self.ended:
            self.broken = True
        elif kind != _ENDED:
            super().take(kind, payload)
        elif len(self.line) + len(payload) <= _LONGEST_LINE:
            self.line += payload
        else:
            self.broken = True

    @property
    def ended(self) -> bool:
        return self.line.endswith(b"\n")

    def number(self) -> int | None:
        """Return the number on the line, or ``None`` if it holds none that a process could end with or be."""
        text = bytes(self.line[:-1])
        return int(text) if text.isdigit() and len(text) < 10 else None


class _Wire(Frames):
    """The daemon's frames around the server's."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = _Answer(0)
        self.complaint = bytearray()

    def take(self, kind: int, payload: memoryview) -> None:
        if kind == 1:
            self.answer.feed(payload)
        else:
            self.complaint += payload[: _LONGEST_LINE - len(self.complaint)]


class CommandServer:
    """The server of one container and user. One command at a time.

    Attributes:
        pid: Its process id in the container; 0 if the last command had none.
    """

    def __init__(self, call: Calls, container_id: str, user: str) -> None:
        self._call, self._container_id, self._user = call, container_id, user
        self._stream: Stream | None = None
        self._wire = _Wire()
        self._exec_id = ""
        self._usable = False
        self._impossible = False
        self.pid = 0

    async def start(self) -> bool:
        """Start it if it does not run; say whether it does now. Where there is no Perl, it never will.

        Raises:
            DockerError: The daemon or the container is gone, or hangs.
        """
        if self._usable and self._is_silent():
            return True
        self.close()
        self.pid = 0
        if self._impossible:
            return False
        argv = [_PERL, "-C0", "-e", _script()]
        self._exec_id = (await self._call("exec_create", self._container_id, argv, user=self._user, stdin=True))["Id"]
        raw = await self._call("exec_start", self._exec_id, socket=True, undo=lambda raw: Stream(raw).close())
        self._stream, self._wire = Stream(raw), _Wire()
        try:
            self._wire.feed(self._stream.head)
            if await self._read(self._wire.answer, time.monotonic() + _START_S):
                self.pid = self._wire.answer.number() or 0
                self._usable = self.pid > 0
            else:
                state = await self._call("exec_inspect", self._exec_id)
                self._impossible = state["ExitCode"] in (126, 127)
                _log.info("no command server in %s: %s", self._container_id[:12], bytes(self._wire.complaint))
        finally:
            if not self._usable:
                self.close()
        return self._usable

    def close(self) -> None:
        """Close the connection to it, whereupon it ends. A second call does nothing."""
        self._usable = False
        if self._stream is not None:
            asyncio.get_running_loop().remove_reader(self._stream.socket)
            self._stream.close()
            self._stream = None

    async def run(self, program: Program) -> Ending | None:
        """Run a program as :func:`agentgym_sandboxes.docker_exec.run_program` does.

        If it does not end by itself, or we are cancelled, the server still runs, so that a sweep can tell its command
        from what others have left; no other command gets it.

        Returns:
            How it ended, or ``None`` if no server can be had: nothing has begun.
        """
        if not await self.start():
            return None
        assert self._stream is not None
        self._usable = False
        answer = self._wire.answer = _Answer(program.output_bytes)
        writing = _send(self._stream.socket, _pack(program), program.stdin)
        ended = False
        try:
            ended = await self._read(answer, program.deadline)
            if ended and writing is not None:  # the command left some of its stdin unread, which the server skips
                await asyncio.wait({writing}, timeout=max(0.0, program.deadline - time.monotonic()))
        finally:
            ended = ended and not answer.broken
            if writing is not None and not writing.done():
                ended = False
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            self._usable = ended
            if not ended:
                # The daemon reports the end of no program, not even of a sweep, before it has got rid of all output.
                asyncio.get_running_loop().add_reader(self._stream.socket, self._drop)
        stdout, stderr = (bytes(stream) for stream in answer.streams.values())
        if answer.truncated:
            return Ending(None, stdout, stderr, truncated=True)
        if not answer.ended:
            if time.monotonic() >= program.deadline:
                return Ending(None, stdout, stderr, timed_out=True)
            return Ending(KILLED, stdout, stderr, orphaned=True)
        if answer.line.startswith(b"-"):
            return Ending(None, bytes(answer.line[1:]), b"", started=False)
        code = answer.number()
        if code is None or code > 255:
            self._usable = False
            return Ending(KILLED, stdout, stderr, orphaned=True)
        return Ending(code, stdout, stderr)

    def _drop(self) -> None:
        assert self._stream is not None
        try:
            data = self._stream.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._stream.socket)

    def _is_silent(self) -> bool:
        """Whether the connection is open and nothing came since the last answer, as it must be."""
        assert self._stream is not None
        try:
            self._stream.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def _read(self, answer: _Answer, deadline: float) -> bool:
        """Read until the answer has ended, and say so; else it is too long, makes no sense, or time or server is gone.

        Raises:
            DockerError: The connection broke, or the daemon hangs.
        """
        assert self._stream is not None
        pause_s, longest_s = _POLL_S
        while not answer.ended:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or answer.truncated or answer.broken:
                return False
            data = await self._stream.receive(min(pause_s, left_s))
            if data is None:
                # Silence: it computes, or the daemon hangs, which only a question tells.
                await self._call("exec_inspect", self._exec_id)
                pause_s = min(2 * pause_s, longest_s)
            elif data:
                self._wire.feed(data)
            else:
                return False
        return not answer.truncated


def _send(connection: socket.socket, head: bytes, stdin: bytes) -> asyncio.Task[None] | None:
    """Send what the connection takes at once, and return a task for the rest."""
    try:
        sent = connection.sendmsg([head, stdin])
    except BlockingIOError:
        sent = 0
    except OSError:  # it has been killed, as reading will tell
        return None
    rest = [memoryview(head)[sent:], memoryview(stdin)[max(0, sent - len(head)) :]]
    return asyncio.ensure_future(_send_rest(connection, rest)) if any(rest) else None


async def _send_rest(connection: socket.socket, parts: list[memoryview]) -> None:
    with contextlib.suppress(OSError):  # it has been killed, as reading will tell
        for part in parts:
            await asyncio.get_running_loop().sock_sendall(connection, part)


def _pack(program: Program) -> bytes:
    limit_s = math.ceil(program.deadline - time.monotonic() + GRACE_S)
    env = [f"{name}={value}" for name, value in program.env.items()]
    words = [program.cwd, str(max(1, limit_s)), str(len(program.stdin)), str(len(env)), *env, *program.argv]
    head = "\0".join(words).encode()
    return len(head).to_bytes(4, "big") + head
