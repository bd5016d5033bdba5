"""Boxes that are Docker containers.

Containers share the host's kernel: they hold back a model's code, not an exploit of the kernel. Where that is not
enough, :class:`RunscSandbox` runs the same box on gVisor's kernel.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from agentgym.errors import SandboxLostError, SandboxUnavailableError
from agentgym.sandbox import WORKSPACE, Command, ExecResult, Probe, Sandbox, SandboxSpec, make_command
from agentgym_sandboxes import reaper
from agentgym_sandboxes.docker_container import (
    AGENT,
    GRADER,
    Container,
    count_oom_kills,
    make_name,
    make_settings,
    remove_container,
    start_container,
    sweep,
)
from agentgym_sandboxes.docker_engine import QUICK_S, DockerError, Engine, connect, settle
from agentgym_sandboxes.docker_exec import GRACE_S, Calls, Ending, Program, run_program
from agentgym_sandboxes.docker_server import CommandServer

_log = logging.getLogger(__name__)


class DockerSandbox(Sandbox):
    """A box that is a Docker container, reached over the daemon's API.

    The image needs ``bash``, GNU coreutils and no user of ours: see ``docker/README.md``. With ``perl``, commands start
    ten times faster: see :mod:`agentgym_sandboxes.docker_server`. One command runs at a time. A reset gives a new
    container: nothing else is the initial state to the byte. From the first reset on, the next container is made ready
    meanwhile.

    Attributes:
        image_id: Digest of the image that the box was made from; empty before ``start``.
    """

    name: ClassVar[str] = "docker"
    strength: ClassVar[int] = 20
    runtime: ClassVar[str | None] = None

    def __init__(self, spec: SandboxSpec | None = None) -> None:
        super().__init__(spec)
        self.image_id = ""
        self._run_id = uuid.uuid4().hex
        self._calls: Calls | None = None
        self._container: Container | None = None
        self._spare: asyncio.Task[Container] | None = None
        self._names: set[str] = set()
        self._servers: dict[str, CommandServer] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turn = asyncio.Lock()
        self._sweeping: asyncio.Task[bool] | None = None
        self._ends = 0.0
        self._oom_kills = 0

    @classmethod
    async def probe(cls) -> Sequence[Probe]:
        """See :meth:`agentgym.sandbox.Sandbox.probe`."""
        from agentgym_sandboxes.box_probe import probe

        return await probe(cls)

    @classmethod
    def collect_garbage(cls, *, dry_run: bool = False) -> list[str]:
        """See :func:`agentgym_sandboxes.reaper.collect_garbage`. Where no daemon answers, there is none."""
        try:
            api = connect(QUICK_S)
        except SandboxUnavailableError:
            return []
        try:
            return reaper.collect_garbage(api, dry_run=dry_run)
        finally:
            api.close()

    async def grade(
        self, command: str | Sequence[str], *, timeout_s: float, cwd: str = WORKSPACE, stdin: bytes = b""
    ) -> ExecResult:
        """Run a command as the user ``grader`` (uid 10002), whom the agent can neither signal nor trace.

        It can read what the agent left readable. Its own programs and files belong on stdin or in the image: what lies
        in the box is the agent's. See :meth:`exec` for the rest.
        """
        self._require_open()
        # No home and no setting that the agent could have written: Python would run its sitecustomize from there.
        env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return await self._run_as(GRADER, make_command(command, timeout_s, cwd, env, stdin))

    async def is_running(self) -> bool:
        """Whether the daemon says that the box's container runs.

        Raises:
            SandboxLostError: The daemon does not answer.
        """
        if self._calls is None or self._container is None:
            return False
        try:
            details = await self._calls("inspect_container", self._container.id)
        except DockerError as error:
            if error.status == 404:
                return False
            raise
        return bool(details["State"]["Running"])

    async def _start(self) -> None:
        self._ends = time.monotonic() + self.spec.lease_s
        engine = Engine.acquire()
        self._calls = Calls(engine)
        if await engine.connect(self._calls.pending):
            self._spawn(self._tidy())
        self.image_id = await engine.image_id(self._calls.pending, self.spec.image)
        try:
            self._container = await self._make()
        except DockerError as error:
            if error.status == 400:  # the daemon understands, and cannot: an unknown runtime, no cgroups
                raise SandboxUnavailableError(str(error)) from error
            raise

    async def _tidy(self) -> None:
        """Remove what dead runs have left, in the background of this process's first box."""
        assert self._calls is not None
        try:
            for line in await self._calls.engine.run(self._calls.pending, reaper.collect_garbage):
                _log.info("removed %s", line)
        except DockerError as error:
            _log.warning("containers of dead runs could not be looked for: %s", error)

    async def _make(self) -> Container:
        assert self._calls is not None
        name = make_name()
        self._names.add(name)
        lease_s = self._ends - time.monotonic()
        settings = make_settings(self._calls.engine.api, self.image_id, self.spec.limits, lease_s, self.runtime)
        labels = {**self.spec.labels, **reaper.make_labels(self._run_id, lease_s)}
        container = await start_container(self._calls, name, settings, labels)
        self._servers[name] = container.server
        return container

    async def _run(self, command: Command) -> ExecResult:
        return await self._run_as(AGENT, command)

    async def _run_as(self, user: str, command: Command) -> ExecResult:
        async with self._turn:
            started = time.monotonic()
            try:
                lost_before = await self._finish_sweep()
                result = await self._attempt(user, command, started)
                return replace(result, session_lost=True) if lost_before else result
            except asyncio.CancelledError:
                # What was cancelled may be running still: it is ended in the background, before the next command.
                self._sweeping = self._spawn(self._sweep_cancelled(user, self._sweeping))
                raise
            except DockerError as error:
                raise self._mark_lost(str(error)) from error

    async def _attempt(self, user: str, command: Command, started: float) -> ExecResult:
        assert self._calls is not None
        container = self._require_container()
        program = Program(
            argv=command.argv,
            user=user,
            env=command.env,
            stdin=command.stdin,
            deadline=started + command.timeout_s,
            output_bytes=command.output_bytes or self.spec.limits.output_bytes,
            cwd=command.cwd,
        )
        ending = await self._run_program(container, program)
        session_lost = False
        if not _has_begun(ending):
            # The agent's processes have taken all that a box may have: they end, and the command has its turn.
            session_lost = await self._sweep(AGENT)
            ending = await self._run_program(container, program)
            if not ending.started:
                raise DockerError(f"no command can start: {ending.stdout.decode(errors='replace').strip()}")
        if ending.exit_code is None or ending.orphaned:
            session_lost = await self._sweep(user) or session_lost
        return ExecResult(
            ending.exit_code,
            ending.stdout,
            ending.stderr,
            truncated=ending.truncated,
            timed_out=ending.timed_out,
            oom=await self._was_oom(container, ending),
            duration_s=time.monotonic() - started,
            session_lost=session_lost,
        )

    async def _run_program(self, container: Container, program: Program) -> Ending:
        assert self._calls is not None
        if program.user == AGENT:  # a grader trusts nothing that is the agent's
            ending = await container.server.run(program)
            if ending is not None:
                return ending
        return await run_program(self._calls, container.id, replace(program, argv=_wrap(program)))

    async def _was_oom(self, container: Container, ending: Ending) -> bool:
        assert self._calls is not None
        if container.oom_counter is None and ending.exit_code == 0:
            return False  # asking would take as long as the command itself
        before, self._oom_kills = self._oom_kills, await count_oom_kills(self._calls, container)
        return self._oom_kills > before

    def _require_container(self) -> Container:
        if self._container is None:
            raise DockerError("there is no container")
        return self._container

    async def _sweep(self, user: str) -> bool:
        assert self._calls is not None
        # To its end, whoever is cancelled: half a sweep may leave the container frozen.
        self._sweeping = self._spawn(sweep(self._calls, self._require_container(), user))
        return await self._finish_sweep()

    async def _sweep_cancelled(self, user: str, former: asyncio.Task[bool] | None) -> bool:
        assert self._calls is not None
        lost = former is not None and await former
        await settle(self._calls.pending)  # the command may be about to start
        return await sweep(self._calls, self._require_container(), user) or lost

    async def _finish_sweep(self) -> bool:
        if self._sweeping is None:
            return False
        lost = await asyncio.shield(self._sweeping)
        self._sweeping = None
        return lost

    async def _reset(self) -> None:
        async with self._turn:
            try:
                fresh = await asyncio.shield(self._spare or self._spawn(self._make()))
            except SandboxLostError as error:
                raise self._mark_lost(f"it could not be reset: {error}") from error
            old, self._container, self._oom_kills, self._sweeping = self._container, fresh, 0, None
            if old is not None:
                self._spawn(self._remove(old.name))
            self._spare = self._spawn(self._make())

    async def _close(self) -> None:
        if self._calls is None:
            return
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await settle(self._calls.pending)
        await asyncio.gather(*(self._remove(name) for name in tuple(self._names)))
        self._calls.engine.release()
        self._calls = None

    async def _remove(self, name: str) -> None:
        assert self._calls is not None
        if server := self._servers.pop(name, None):
            server.close()
        try:
            await remove_container(self._calls, name)
        except DockerError as error:
            reaper.note_leak(name, error)
        self._names.discard(name)

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever needs its result gets the error, too; perhaps nobody does any more


class RunscSandbox(DockerSandbox):
    """The same box on gVisor, a kernel of its own in user space, where the daemon knows the runtime ``runsc``."""

    name: ClassVar[str] = "docker-runsc"
    strength: ClassVar[int] = 30
    runtime: ClassVar[str | None] = "runsc"


def _has_begun(ending: Ending) -> bool:
    """Whether the command itself was reached. ``timeout`` ends with 125 and a message when it cannot fork."""
    fork_failed = ending.exit_code == 125 and not ending.stdout and ending.stderr.startswith(b"/usr/bin/timeout: ")
    return ending.started and not fork_failed


def _wrap(program: Program) -> list[str]:
    """Return the command below ``timeout``, a second line of defence should this process die before its deadline.

    It ends the command after a time of grace, and after as much again by SIGKILL.
    """
    limit_s = f"{max(0.0, program.deadline - time.monotonic()) + GRACE_S:.3f}"
    return ["/usr/bin/env", "-C", program.cwd, "/usr/bin/timeout", "-k", str(GRACE_S), limit_s, *program.argv]
