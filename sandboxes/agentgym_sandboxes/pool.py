"""A pool of boxes that are started before they are wanted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from agentgym.errors import AgentGymError, SandboxLostError, UsageError
from agentgym.sandbox import Sandbox

_log = logging.getLogger(__name__)


class WarmPool:
    """Boxes of any kind, started ahead. Use it as ``async with WarmPool(make, size=8) as pool``.

    A box that is given back is reset before somebody else gets it, and replaced if that fails. At most ``size`` boxes
    exist at a time and at most ``starts`` of them start or reset at a time; who wants one more waits, first come, first
    served. All calls belong into one event loop.

    Args:
        make: Makes a box that is not started, e.g. ``lambda: make_sandbox("docker", spec)``.
        size: Most boxes at a time.
        starts: Most boxes that start, or are reset, at a time.
    """

    def __init__(self, make: Callable[[], Sandbox], *, size: int, starts: int = 4) -> None:
        if size < 1 or starts < 1:
            raise UsageError(f"a pool has at least one box and starts at least one at a time, got {size} and {starts}")
        self._make = make
        self._size = size
        self._slots = asyncio.Semaphore(starts)
        self._ready: deque[Sandbox] = deque()
        self._lent: set[Sandbox] = set()
        self._waiting: deque[asyncio.Future[Sandbox]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()  # each starts or renews one box
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        self._fill()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def checkout(self) -> AsyncIterator[Sandbox]:
        """Lend a box in its initial state; it goes back when the block ends.

        Raises:
            SandboxLostError: The pool is closed.
            AgentGymError: No box could be started; as :meth:`Sandbox.start` raised it.
        """
        box = await self.take()
        try:
            yield box
        finally:
            self.give_back(box)

    async def take(self) -> Sandbox:
        """Lend a box in its initial state, to be given back; see :meth:`checkout`."""
        if not self._open:
            raise SandboxLostError("the pool of boxes is closed")
        if not self._ready:
            self._fill()
        place: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._serve()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._lent.discard(place.result())  # nobody has touched it
                self._ready.appendleft(place.result())
                self._serve()
            raise

    def give_back(self, box: Sandbox) -> None:
        """Take a box back, whatever state it is in. Its reset goes on in the background."""
        if not self._open:
            return  # closing the pool closes it
        if box not in self._lent:
            raise UsageError("this box was not lent by this pool, or was given back already")
        self._lent.discard(box)
        self._spawn(box)

    async def wait_ready(self) -> None:
        """Wait until no box is being started or reset."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def close(self) -> None:
        """Close all boxes, lent ones too. A second call does nothing; a cancelled one goes on in the background."""
        self._open = False
        await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail(SandboxLostError("the pool of boxes was closed"))
        boxes = [*self._ready, *self._lent]
        self._ready.clear()
        self._lent.clear()
        await asyncio.gather(*(box.close() for box in boxes))

    def _fill(self) -> None:
        while len(self._ready) + len(self._lent) + len(self._tasks) < self._size:
            self._spawn(None)

    def _spawn(self, used: Sandbox | None) -> None:
        task = asyncio.ensure_future(self._prepare(used))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self, used: Sandbox | None) -> None:
        """Make a box ready: a used one by a reset, or else a new one."""
        box = used
        try:
            async with self._slots:
                if box is not None and not await _was_reset(box):
                    box = None
                if box is None:
                    box = self._make()
                    await box.start()
        except Exception as error:  # the kind of box is a stranger's; whoever waits for one must hear of it
            if not self._waiting:
                _log.warning("a box for the pool did not start: %s", error)
            self._fail(error)
        except asyncio.CancelledError:
            if box is not None:
                await box.close()
            raise
        else:
            self._ready.append(box)
            self._serve()

    def _serve(self) -> None:
        while self._ready and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                box = self._ready.popleft()
                self._lent.add(box)
                place.set_result(box)

    def _fail(self, error: Exception) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_exception(error)


async def _was_reset(box: Sandbox) -> bool:
    try:
        await box.reset()
    except AgentGymError as error:
        _log.info("a box is replaced: %s", error)
        await box.close()
        return False
    return True
