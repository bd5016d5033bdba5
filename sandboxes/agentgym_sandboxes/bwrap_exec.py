"""The parent's side of a bubblewrap box: its keeper, and one command in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from agentgym.errors import SandboxLostError, SandboxUnavailableError
from agentgym_sandboxes.bwrap_keeper import GO_FD, KEEPER_SCRIPT, WORDS_FD
from agentgym_sandboxes.process import KILL_GRACE_S, Capture, Ending, HostCommand, HostProcess, outlast
from agentgym_sandboxes.seccomp import make_filter

LAUNCHER = (
    *("/bin/bash", "--norc", "-c"),
    f"""
    read -rd '' -u {GO_FD} || exit
    mapfile -d '' -t words <&{WORDS_FD}
    exec {GO_FD}<&- {WORDS_FD}<&-
    [ "${{words[0]}}" = pipe ] || exec </dev/null
    cd -P -- "${{words[1]}}" || exit 126
    export -n PWD OLDPWD
    exec -- "${{words[@]:2}}"
    """,
    "agentgym",
)
"""What becomes a command, once it is told which: in a file in memory, as soon as there is a byte in a pipe."""
ANSWER_S = 20.0
"""A keeper answers within milliseconds; later than this, the host is beyond use."""


class KeeperLink:
    """A running keeper.

    Args:
        settings: What :mod:`agentgym_sandboxes.bwrap_keeper` is told.

    Raises:
        SandboxLostError: It could not be started.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._uid = settings["uid"]
        with theirs:
            given = {**settings, "channel_fd": str(theirs.fileno())}
            argv = [sys.executable, "-I", "-S", KEEPER_SCRIPT, *(f"{key}={value}" for key, value in given.items())]
            try:
                self._process = HostProcess(HostCommand(argv, {}, output_bytes=65_536, pass_fds=(theirs.fileno(),)))
            except BaseException:
                self._channel.close()
                raise
        self._channel.setblocking(False)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._process.has_ended()

    async def wait_until_ready(self) -> None:
        """Wait until the box can be used.

        Raises:
            SandboxUnavailableError: This host does not let it.
            SandboxLostError: It ended, or is silent.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                said = await asyncio.get_running_loop().sock_recv(self._channel, 4096)
                if said == b"map":
                    self._map_users()
                    said = await asyncio.get_running_loop().sock_recv(self._channel, 4096)
        except (TimeoutError, OSError) as error:
            raise SandboxLostError(f"the keeper of a bubblewrap box does not answer: {error}") from error
        if said != b"ready":
            why = said.decode(errors="replace") or self._process.output[1][-1000:].decode(errors="replace")
            raise SandboxUnavailableError(f"bubblewrap: {why.removeprefix('error ')}")

    def _map_users(self) -> None:
        """Make the keeper, whom the host's root started, an unprivileged user of the host."""
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{self._process.pid}/{name}", "w") as file:
                file.write(f"0 {self._uid} 1")
        self._channel.send(b"mapped")

    def send(self, request: bytes, fds: Sequence[int]) -> None:
        """Send a request with file descriptors.

        Raises:
            SandboxLostError: Nobody takes it.
        """
        try:
            socket.send_fds(self._channel, [request], list(fds))
        except OSError as error:
            raise SandboxLostError(f"the keeper of a bubblewrap box is gone: {error}") from error

    async def reset(self) -> None:
        """Let it replace what commands could write.

        Raises:
            SandboxLostError: It could not.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            self.send(b"reset", [theirs.fileno()])
            theirs.close()
            try:
                async with asyncio.timeout(ANSWER_S):
                    said = await loop.sock_recv(ours, 4096)
            except (TimeoutError, OSError) as error:
                raise SandboxLostError("the keeper of a bubblewrap box does not answer") from error
        if said != b"done\n":
            raise SandboxLostError(f"bubblewrap box: {said.decode(errors='replace') or 'its keeper is gone'}")

    async def end(self) -> None:
        """End it, and with it all that it keeps."""
        self._channel.close()
        await self._process.end()


class BoxProcess:
    """One command in a box; leaving ``async with`` ends its whole tree.

    It can be made before the command is known, since namespaces and mounts take longer than most commands: what bwrap
    starts is :data:`LAUNCHER`, which waits until :meth:`begin` says what to become.

    bwrap says on a pipe of its own, which the command does not have, the id of the box's first process and later the
    exit status. Until we have a handle on that first process, and have set its limits, the launcher does not begin.

    Args:
        link: The box's keeper.
        options: Options of bwrap.
        argv: The path of bwrap and what stands before the launcher.
        capture: The streams, with what is for stdin left open; closed at the end.
        on_birth: Called with the id of the first process before the launcher begins.

    Attributes:
        exit_code: As bwrap says, once it has ended.
        error: Why it could not be started.
        born: Its first process is known.
        begun: Once ended, whether the launcher had read what to become.
        abandoned: For whoever ends it while somebody waits for it.
    """

    def __init__(
        self,
        link: KeeperLink,
        options: Sequence[str],
        argv: Sequence[str],
        capture: Capture,
        on_birth: Callable[[int], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.exit_code: int | None = None
        self.error: tuple[int, str] | None = None
        self.born = False
        self.begun = False
        self.abandoned = False
        self._capture, self._on_birth = capture, on_birth
        self._known: asyncio.Future[None] = self._loop.create_future()  # the first process is known, or never will be
        self._monitor_ended: asyncio.Future[None] = self._loop.create_future()
        self._tree_ended: asyncio.Future[None] = self._loop.create_future()
        self._said = b""
        self._pidfd = -1
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as ours:
            try:
                self._status, status = self._pipe(ours, stack)
                block, self._release = self._pipe(stack, ours)
                go, self._go = self._pipe(stack, ours)
                self._words = _share(ours, b"")
                given = [_share(stack, _join(options) + b"\0"), _share(stack, make_filter()), go, self._words]
                started = _share(stack, _join([*argv, *LAUNCHER]))
                link.send(b"run", [*capture.child_fds, status, block, *given, started])
            except OSError as error:
                capture.close()
                raise SandboxLostError(f"no file descriptors for a command: {error}") from error
            except SandboxLostError:
                capture.close()
                raise
            ours.pop_all()
        capture.hand_over()
        os.set_blocking(self._status, False)
        self._loop.add_reader(self._status, self._read_status)

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._monitor_ended.done()

    def begin(self, words: Sequence[str], stdin: bytes, output_bytes: int) -> None:
        """Let the command begin; called once.

        Args:
            words: Its directory, its program and the arguments.
            stdin: What it can read.
            output_bytes: Most bytes kept of stdout, and of stderr.
        """
        self._capture.begin(output_bytes, stdin)
        data = memoryview(_join(["pipe" if stdin else "null", *words]) + b"\0")
        at = 0
        while at < len(data):  # without moving the offset, which the launcher has in common with us
            at += os.pwrite(self._words, data[at:], at)
        with contextlib.suppress(BrokenPipeError):  # it has been killed
            os.write(self._go, b"\0")

    @property
    def output(self) -> tuple[bytes, bytes]:
        """What it wrote to stdout and to stderr so far, both capped."""
        return self._capture.output

    @property
    def duration_s(self) -> float:
        """Seconds since its start."""
        return self._capture.duration_s

    async def wait(self, timeout_s: float) -> Ending:
        """See :meth:`agentgym_sandboxes.process.Capture.wait`."""
        return await self._capture.wait(timeout_s)

    def kill(self) -> None:
        """Kill the first process of the box, and so all of them; nothing that a command did to it can prevent that."""
        if self._pidfd >= 0 and not self._tree_ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def end(self) -> None:
        """End its whole tree; must be called, once, where ``async with`` is not used.

        Raises:
            SandboxLostError: It hangs in the kernel.
        """
        # Not before bwrap has said who its first process is: it would go on without us.
        cancelled: asyncio.CancelledError | None = None
        ended = True
        try:
            for future in (self._known, self._tree_ended, self._monitor_ended):
                self.kill()
                try:
                    ended = await outlast(future, KILL_GRACE_S) and ended
                except asyncio.CancelledError as again:
                    cancelled = again
        finally:
            self._loop.remove_reader(self._status)
            self._drop_pidfd()
            # Not by what is left in the pipe: a launcher that is being killed may still take the byte, in the kernel.
            self.begun = os.lseek(self._words, 0, os.SEEK_CUR) > 0
            for fd in (self._status, self._release, self._go, self._words):
                os.close(fd)
            self._capture.close()
        if cancelled is not None:
            raise cancelled
        if not ended:
            raise SandboxLostError("a command in a bubblewrap box does not end although it was killed")

    @staticmethod
    def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        reader.callback(os.close, read_end)
        writer.callback(os.close, write_end)
        return read_end, write_end

    def _read_status(self) -> None:
        data = os.read(self._status, 65_536)
        if not data:
            self._loop.remove_reader(self._status)
            self._note_end()
            return
        self._said += data
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            if line.startswith(b"error "):
                _, number, text = line.decode(errors="replace").split(" ", 2)
                self.error = (int(number), text)
            elif "child-pid" in (said := json.loads(line)):
                self._note_birth(said["child-pid"])
            elif "exit-code" in said:
                self.exit_code = said["exit-code"]

    def _note_birth(self, pid: int) -> None:
        try:
            self._pidfd = os.pidfd_open(pid)  # its own: it waits for us, so its number cannot have been freed
            self._on_birth(pid)
        except OSError as error:  # ended already, with its keeper
            self.error = (error.errno or 0, str(error))
        else:
            self.born = True
        if self._pidfd >= 0:
            self._loop.add_reader(self._pidfd, self._note_tree_end)
        if self.born:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._release, b"x")
        _finish(self._known)

    def _note_tree_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        _finish(self._tree_ended)

    def _note_end(self) -> None:
        self.kill()
        _finish(self._known)
        if self._pidfd < 0:
            _finish(self._tree_ended)
        _finish(self._monitor_ended)
        self._capture.finish()
        self._capture.settle("exited")

    def _drop_pidfd(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _join(words: Sequence[str]) -> bytes:
    return b"\0".join(os.fsencode(word) for word in words)


def _share(stack: contextlib.ExitStack, data: bytes) -> int:
    """Return a descriptor of a file in memory: what is in it, other users of the host cannot see."""
    fd = os.memfd_create("agentgym-command")
    stack.callback(os.close, fd)
    with open(fd, "wb", buffering=0, closefd=False) as file:
        file.write(data)
        file.seek(0)
    return fd
