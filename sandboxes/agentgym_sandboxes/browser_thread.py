"""An event loop in a thread of its own, on which one browser lives, whatever thread or loop it is used from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from agentgym.errors import SandboxLostError

T = TypeVar("T")


class LoopThread:
    """A loop that runs from its first call until it is stopped."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the loop and return its result; to cancel the call is to cancel the work.

        Raises:
            SandboxLostError: The loop was stopped.
        """
        with self._lock:  # nothing is handed to a loop that has taken its last work
            if self._stopped:
                work.close()
                raise SandboxLostError("the browser was closed")
            future = asyncio.run_coroutine_threadsafe(work, self._running())
        return await asyncio.wrap_future(future)

    async def stop(self) -> None:
        """Cancel what still runs, and end the thread."""
        with self._lock:
            self._stopped = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_cancel_all(), loop))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()  # it has nothing left to do
        loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
            self._thread.start()
        return self._loop


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.wait([*tasks, asyncio.ensure_future(asyncio.sleep(0))], timeout=5.0)
    await asyncio.get_running_loop().shutdown_default_executor()


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Return what work returns, or raise ``TimeoutError`` at the deadline.

    ``asyncio.wait_for`` waits until work that it cancels has ended; this does not, as such work may hang as well.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        task.add_done_callback(_look_away)
        raise
    if not done:
        task.cancel()
        task.add_done_callback(_look_away)
        raise TimeoutError
    return task.result()


def _look_away(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()  # asyncio logs an exception that nobody looked at
