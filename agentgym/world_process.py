"""The outside of a child process that hosts environments: its start, its fate, its end.

The child is a process group of its own. It dies, with everything that it started, when it is told to, when it misses
a deadline, and when the parent dies however suddenly: the kernel watches a pipe that only the parent holds open.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import socket
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import gymnasium

from agentgym.errors import AgentGymError, InfrastructureError, UsageError
from agentgym.world_child import CLOSE_TIMEOUT_S, Failure, FrameReader, pack, serve

logger = logging.getLogger(__name__)


class WorldProcess:
    """A running child and the socket for its calls.

    Args:
        make_env: Makes one environment; it is pickled to the child.
        threaded: Give each environment a thread; else there can be only one, in the main thread.

    Raises:
        InfrastructureError: It could not be started.
        UsageError: This process is itself such a child, being born.
    """

    def __init__(self, make_env: Callable[[], gymnasium.Env[Any, Any]], *, threaded: bool) -> None:
        require_main_guard()
        context = multiprocessing.get_context("spawn")
        self.calls, their_calls = socket.socketpair()
        their_lifeline, lifeline = context.Pipe(duplex=False)
        process = context.Process(
            target=serve, args=(their_calls, their_lifeline, make_env, threaded), name="agentgym-worlds", daemon=True
        )
        try:
            process.start()
        except (OSError, pickle.PicklingError, AttributeError) as error:
            self.calls.close()
            lifeline.close()
            raise InfrastructureError(f"an environment worker could not be started: {error}") from error
        finally:
            their_calls.close()
            their_lifeline.close()
        assert process.pid is not None
        self.pid: int = process.pid
        self.frames = FrameReader()
        self._process = process
        self._finalizer = weakref.finalize(self, _destroy, process, self.calls, lifeline, os.getpid())

    def close(self) -> None:
        """End the child, gently if it answers, and reap it."""
        try:
            self.calls.settimeout(CLOSE_TIMEOUT_S)
            self.calls.sendall(pack(0, (0, "close", {})))
            self._process.join(CLOSE_TIMEOUT_S)
        except OSError:
            logger.debug("the worker was gone before it was closed")
        self.end()

    def end(self) -> None:
        """Kill the child, reap it, and give its file descriptors back."""
        self._finalizer()

    def bury(self, verb: str, overdue_s: float | None = None) -> InfrastructureError:
        """End a child that no longer answers and say what became of it.

        Args:
            verb: What it was doing; empty for nothing.
            overdue_s: The deadline that it missed, in seconds; ``None`` if it hung up.
        """
        if overdue_s is not None:
            fate = f"did not finish {verb}() within {overdue_s:g} s and was killed"
        else:
            self._process.join(CLOSE_TIMEOUT_S)
            fate = _describe_exit(self._process.exitcode) + (f" during {verb}()" if verb else "")
        self.end()
        return InfrastructureError(f"the environment's worker (pid {self.pid}) {fate}; the next episode gets a new one")


def require_main_guard() -> None:
    """Refuse to start a child while this process is itself a child being born.

    Raises:
        UsageError: It is: the script that it reads again starts children outside of a guard.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            "worker processes read your script again as they start: put what it runs under `if __name__ == '__main__':`"
        )


def read_answer(body: bytes, verb: str) -> Any:
    """Return what an answer holds, or raise what happened in the child.

    Raises:
        AgentGymError: As it was raised there.
        InfrastructureError: The environment crashed, or its answer cannot be read here.
    """
    try:
        answer = pickle.loads(body)
    except Exception as error:  # a pickle is a program of its author's and raises what it likes
        raise InfrastructureError(f"what the environment answered to {verb}() cannot be read: {error!r}") from error
    if not isinstance(answer, Failure):
        return answer
    if issubclass(answer.type, AgentGymError | gymnasium.error.Error):
        # Built without __init__, which may take other arguments than the finished message.
        failure = answer.type.__new__(answer.type, answer.message)
        Exception.__init__(failure, answer.message)
        raise failure
    logger.error("the environment crashed in its worker:\n%s", answer.details)
    raise InfrastructureError(f"the environment crashed in {verb}(): {answer.type.__name__}: {answer.message}")


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "closed its socket"
    if code >= 0:
        return f"exited with code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def _destroy(process: SpawnProcess, calls: socket.socket, lifeline: Connection, owner: int) -> None:
    """Kill the child and whatever it started, reap it, and give its file descriptors back."""
    if os.getpid() != owner:  # a fork of the owner is ending, and the child is not its own
        return
    calls.close()
    if process.pid is not None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()  # it died, or was not yet old enough to lead a group
    process.join()
    lifeline.close()
    process.close()
