"""A sandbox without ``await``: the same box on an event loop of its own thread."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from agentgym.sandbox import WORKSPACE, ExecResult, Sandbox

T = TypeVar("T")


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop that all synchronous boxes of the process share; its thread ends with the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="agentgym-sandboxes", daemon=True).start()
    return loop


class SyncSandbox:
    """The face of :class:`agentgym.sandbox.Sandbox` for code that does not await; same names, same errors."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def start(self) -> Self:
        """See :meth:`agentgym.sandbox.Sandbox.start`."""
        wait(self._sandbox.start())
        return self

    def exec(
        self,
        command: str | Sequence[str],
        *,
        timeout_s: float,
        cwd: str = WORKSPACE,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> ExecResult:
        """See :meth:`agentgym.sandbox.Sandbox.exec`."""
        return wait(self._sandbox.exec(command, timeout_s=timeout_s, cwd=cwd, env=env, stdin=stdin))

    def read_file(self, path: str) -> bytes:
        """See :meth:`agentgym.sandbox.Sandbox.read_file`."""
        return wait(self._sandbox.read_file(path))

    def write_file(self, path: str, data: bytes | str) -> None:
        """See :meth:`agentgym.sandbox.Sandbox.write_file`."""
        wait(self._sandbox.write_file(path, data))

    def upload(self, source: str | Path, target: str = WORKSPACE) -> None:
        """See :meth:`agentgym.sandbox.Sandbox.upload`."""
        wait(self._sandbox.upload(source, target))

    def download(self, source: str, target: str | Path) -> None:
        """See :meth:`agentgym.sandbox.Sandbox.download`."""
        wait(self._sandbox.download(source, target))

    def reset(self) -> None:
        """See :meth:`agentgym.sandbox.Sandbox.reset`."""
        wait(self._sandbox.reset())

    def close(self) -> None:
        """See :meth:`agentgym.sandbox.Sandbox.close`."""
        wait(self._sandbox.close())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run work on the loop that all synchronous boxes share, and return its result; an interrupt ends it."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
