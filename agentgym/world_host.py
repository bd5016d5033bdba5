"""Many environments in a few child processes, for rollouts in one event loop.

The worlds' work then takes neither this process's interpreter nor its lock, which a sampler in a thread needs. A call
costs the loop one write and one read of a socket and no thread. What a process costs when it hangs or is killed is the
episodes of all its lanes: with as many processes as lanes, for engines that are not trusted, it is one again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium

from agentgym.actions import ActionFormat, Move, PlainCommand
from agentgym.errors import InfrastructureError
from agentgym.machine import usable_cores
from agentgym.world_child import READ_BYTES, Description, pack
from agentgym.world_process import WorldProcess, read_answer


def open_lanes(
    make_env: Callable[[], gymnasium.Env[Any, Any]], count: int, *, processes: int = 0, call_timeout_s: float = 120.0
) -> list[HostedLane]:
    """Return lanes, dealt over child processes that start at their first calls.

    Args:
        make_env: Makes one environment; it is pickled to the children.
        count: Number of lanes.
        processes: Number of children, at most one per lane; 0 takes the usable cores but one, which the sampler needs.
        call_timeout_s: Longest that a call may take, waiting for neighbours in the same child included.
    """
    number = min(processes or max(1, usable_cores() - 1), count)
    hosts = [WorldHost(make_env, threaded=number < count, call_timeout_s=call_timeout_s) for _ in range(number)]
    return [HostedLane(hosts[i % number], i) for i in range(count)]


@dataclass(frozen=True)
class _Pending:
    """A call without its answer."""

    verb: str
    future: asyncio.Future[bytes]
    timer: asyncio.TimerHandle


class WorldHost:
    """A child process with its environments, as seen from an event loop; after a loss there is a new one.

    It may be used from one loop after another, not from two at once.

    Args:
        make_env: Makes one environment; it is pickled to the child.
        threaded: Give each environment a thread; else there can be only one, in the main thread.
        call_timeout_s: Longest that one call may take before the child is killed.
        start_timeout_s: The same for ``start``, the child's imports included.

    Attributes:
        losses: Children that are gone; a world that was started before the last loss is gone, too.
        fate: What became of the last one.
    """

    def __init__(
        self,
        make_env: Callable[[], gymnasium.Env[Any, Any]],
        *,
        threaded: bool = True,
        call_timeout_s: float = 120.0,
        start_timeout_s: float = 120.0,
    ) -> None:
        self._make_env, self._threaded = make_env, threaded
        self.call_timeout_s, self.start_timeout_s = call_timeout_s, start_timeout_s
        self.losses, self.fate = 0, ""
        self._process: WorldProcess | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: dict[int, _Pending] = {}
        self._unsent = bytearray()
        self._numbers = itertools.count()

    @property
    def pid(self) -> int | None:
        """Process id of the child; ``None`` while there is none."""
        return self._process.pid if self._process else None

    async def call(self, world: int, verb: str, arguments: dict[str, Any]) -> Any:
        """Have a world in the child do something and return what it answers.

        Args:
            world: Its number; numbers are the caller's.
            verb: ``start``, which makes it, anew if it is there; ``reset``, ``step`` or ``expert_move``.
            arguments: Of the verb.

        Raises:
            AgentGymError: As it was raised in the child.
            InfrastructureError: The environment crashed, or the child died or hung, with all its worlds.
        """
        loop = asyncio.get_running_loop()
        if self._process is None:
            self._process = WorldProcess(self._make_env, threaded=self._threaded)
            self._process.calls.setblocking(False)
        if loop is not self._loop:
            self._attach(loop, self._process)
        number, future = next(self._numbers), loop.create_future()
        timeout_s = self.start_timeout_s if verb == "start" else self.call_timeout_s
        timer = loop.call_later(timeout_s, self._lose, verb, timeout_s)
        # A caller that is cancelled leaves its call here, so that a hang is noticed still.
        self._pending[number] = _Pending(verb, future, timer)
        self._send(pack(number, (world, verb, arguments)))
        return read_answer(await future, verb)

    def close(self) -> None:
        """End the child, gently if it answers, and reap it."""
        process = self._process
        if process is not None:
            self._let_go("was closed")
            process.close()

    def _attach(self, loop: asyncio.AbstractEventLoop, process: WorldProcess) -> None:
        """Read in this loop from now on; answers to who called in an earlier one are dropped."""
        self._detach()
        self._loop = loop
        loop.add_reader(process.calls, self._read)
        if self._unsent:
            loop.add_writer(process.calls, self._flush)

    def _detach(self) -> list[_Pending]:
        """Leave the loop and return the calls without an answer, whose deadlines no longer count."""
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed() and self._process is not None:
            loop.remove_reader(self._process.calls)
            loop.remove_writer(self._process.calls)
        pending = list(self._pending.values())
        self._pending.clear()
        for call in pending:
            call.timer.cancel()
        return pending

    def _send(self, frame: bytes) -> None:
        if not self._unsent:
            frame = frame[self._write(frame) :]
            if frame and self._loop is not None and self._process is not None:
                self._loop.add_writer(self._process.calls, self._flush)
        self._unsent += frame

    def _flush(self) -> None:
        del self._unsent[: self._write(self._unsent)]
        if not self._unsent and self._loop is not None and self._process is not None:
            self._loop.remove_writer(self._process.calls)

    def _write(self, data: bytes | bytearray) -> int:
        """Return how many bytes the child's socket took; nothing waits for it."""
        assert self._process is not None
        try:
            return self._process.calls.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._lose()
            return len(data)

    def _read(self) -> None:
        assert self._process is not None
        try:
            data = self._process.calls.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        for number, body in self._process.frames.feed(data):
            call = self._pending.pop(number, None)
            if call is not None:
                call.timer.cancel()
                if not call.future.done():
                    call.future.set_result(body)

    def _lose(self, verb: str = "", overdue_s: float | None = None) -> None:
        """Bury the child and tell everybody who waits for it."""
        process = self._process
        assert process is not None
        pending = self._let_go("was lost")
        self.fate = str(process.bury(verb or (pending[0].verb if pending else ""), overdue_s))
        for call in pending:
            if not call.future.done():
                call.future.set_exception(InfrastructureError(self.fate))

    def _let_go(self, fate: str) -> list[_Pending]:
        pending = self._detach()
        self._unsent.clear()
        self._process = None
        self.losses, self.fate = self.losses + 1, f"the environment's worker {fate}"
        return pending


class HostedLane:
    """A lane whose environment lives in a host; the lanes of one host close together.

    Args:
        host: The host, which other lanes share.
        world: Number of this lane's environment in it.
    """

    def __init__(self, host: WorldHost, world: int) -> None:
        self._host, self._world = host, world
        self._started_after: int | None = None  # the host's losses when the environment was made
        self._action_format: ActionFormat = PlainCommand()

    @property
    def home(self) -> WorldHost:
        """Where the environment lives: what its engine remembers, its neighbours share."""
        return self._host

    @property
    def action_format(self) -> ActionFormat:
        """How the environment reads actions; known after the first reset."""
        return self._action_format

    async def reset(self, seed: int, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Start an episode, in a new environment if there is none or it was lost."""
        if self._started_after != self._host.losses:
            self._started_after = self._host.losses
            try:
                description: Description = await self._call("start")
            except Exception:
                self._started_after = None
                raise
            self._action_format = description.action_format
        observation, info = await self._call("reset", seed=seed, options=options)
        return observation, info

    async def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one turn."""
        observation, reward, terminated, truncated, info = await self._call("step", action=action)
        return observation, reward, terminated, truncated, info

    async def expert_move(self) -> Move:
        """Return the scripted expert's move in the present state."""
        move: Move = await self._call("expert_move")
        return move

    async def replace(self) -> None:
        """Have the next reset make the environment anew."""
        self._started_after = None

    def close(self) -> None:
        """Close the host with all that live in it."""
        self._host.close()

    async def _call(self, verb: str, **arguments: Any) -> Any:
        if self._started_after != self._host.losses:
            raise InfrastructureError(f"this episode's environment is gone: {self._host.fate}")
        return await self._host.call(self._world, verb, arguments)
