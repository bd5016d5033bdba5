"""An environment in a process of its own, so that a crash or a hang of its engine costs one episode and no more.

The child is a process group of its own. It dies, with everything that it started, when it is told to, when it misses
a deadline, and when the parent dies however suddenly: the kernel watches a pipe that only the parent holds open.
"""

from __future__ import annotations

import fcntl
import functools
import logging
import multiprocessing
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import gymnasium

from agentgym.actions import ActionFormat, Move
from agentgym.errors import AgentGymError, InfrastructureError, UnknownNameError, UsageError
from agentgym.registry import find_env_spec, make
from agentgym.rollout import EnvFactory

logger = logging.getLogger(__name__)

WORKERS = ("thread", "process")
_CLOSE_TIMEOUT_S = 5.0


def env_factory(env_id: str, *, workers: str = "thread", call_timeout_s: float = 120.0, **kwargs: Any) -> EnvFactory:
    """Return what makes one environment, in this process or in a worker of its own.

    Args:
        env_id: Registered id.
        workers: ``"thread"``: in this process, fast. ``"process"``: in a child, which may crash, hang or be killed.
        call_timeout_s: Longest that a worker may take for one ``reset`` or ``step``; threads have no deadline.
        **kwargs: Arguments of the environment.

    Raises:
        UnknownNameError: There is no such environment, or no such kind of worker.
    """
    find_env_spec(env_id)
    if workers not in WORKERS:
        raise UnknownNameError("kind of worker", workers, WORKERS)
    make_env = functools.partial(make, env_id, **kwargs)
    return make_env if workers == "thread" else functools.partial(WorkerEnv, make_env, call_timeout_s=call_timeout_s)


@dataclass(frozen=True)
class _Description:
    """What the parent learns about the environment when the child has made it."""

    action_format: ActionFormat
    action_space: gymnasium.Space[Any]
    observation_space: gymnasium.Space[Any]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class _Failure:
    """An exception on its way from the child."""

    type: type[Exception]
    message: str
    details: str


@dataclass(frozen=True)
class _Child:
    """A running worker: its process, the pipe for calls, and the pipe whose end tells it that we are gone."""

    process: SpawnProcess
    calls: Connection
    lifeline: Connection
    description: _Description


class WorkerEnv(gymnasium.Env[Any, str]):
    """Stands for an environment that lives in a child process.

    The child starts now and, after it was lost, at the next ``reset``. An error of ours (``UsageError`` and the
    like) that is raised in the child is raised here as the same type.

    Args:
        make_env: Makes the environment; it is pickled to the child.
        call_timeout_s: Longest that one call may take before the child is killed.
        start_timeout_s: The same for the start of the child, its imports included.

    Raises:
        InfrastructureError: From every call, if the child died, hung or crashed; the message says how.
    """

    def __init__(
        self,
        make_env: Callable[[], gymnasium.Env[Any, Any]],
        *,
        call_timeout_s: float = 120.0,
        start_timeout_s: float = 120.0,
    ) -> None:
        self._make_env = make_env
        self.call_timeout_s = call_timeout_s
        self.start_timeout_s = start_timeout_s
        self._child: _Child | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None
        description = self._start().description
        self.action_format = description.action_format
        self.action_space = description.action_space
        self.observation_space = description.observation_space
        self.metadata = description.metadata

    @property
    def pid(self) -> int | None:
        """Process id of the child; ``None`` while there is none."""
        return self._child.process.pid if self._child else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, in a new child if the last one was lost."""
        child = self._child or self._start()
        observation, info = self._call(child, "reset", {"seed": seed, "options": options})
        return observation, info

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one turn."""
        observation, reward, terminated, truncated, info = self._call(self._living(), "step", {"action": action})
        return observation, reward, terminated, truncated, info

    def expert_move(self) -> Move:
        """Return the scripted expert's move in the present state."""
        move: Move = self._call(self._living(), "expert_move", {})
        return move

    def close(self) -> None:
        """End the child, gently if it answers, and reap it."""
        child = self._child
        if child is None:
            return
        try:
            child.calls.send(("close", {}))
            child.process.join(min(_CLOSE_TIMEOUT_S, self.call_timeout_s))
        except OSError:
            logger.debug("the worker was gone before it was closed")
        self._end()

    def _living(self) -> _Child:
        if self._child is None:
            raise InfrastructureError("the environment's worker is gone and its episode with it: call reset()")
        return self._child

    def _start(self) -> _Child:
        if getattr(multiprocessing.current_process(), "_inheriting", False):  # this is itself a worker, being born
            raise UsageError(
                "worker processes read your script again as they start: put what it runs under "
                "`if __name__ == '__main__':`"
            )
        context = multiprocessing.get_context("spawn")
        calls, their_calls = context.Pipe()
        their_lifeline, lifeline = context.Pipe(duplex=False)
        _limit_waits(calls, self.start_timeout_s)
        process = context.Process(
            target=_serve, args=(their_calls, their_lifeline, self._make_env), name="agentgym-worker", daemon=True
        )
        try:
            process.start()
        except (OSError, pickle.PicklingError, AttributeError) as error:
            calls.close()
            lifeline.close()
            raise InfrastructureError(f"an environment worker could not be started: {error}") from error
        finally:
            their_calls.close()
            their_lifeline.close()
        self._finalizer = weakref.finalize(self, _destroy, process, calls, lifeline, os.getpid())
        description = self._receive(process, calls, "start")
        _limit_waits(calls, self.call_timeout_s)
        self._child = _Child(process, calls, lifeline, description)
        return self._child

    def _call(self, child: _Child, verb: str, arguments: dict[str, Any]) -> Any:
        try:
            child.calls.send((verb, arguments))
        except OSError as error:
            raise self._lose(child.process, verb, error) from None
        return self._receive(child.process, child.calls, verb)

    def _receive(self, process: SpawnProcess, calls: Connection, verb: str) -> Any:
        try:
            answer = calls.recv()
        except (OSError, EOFError) as error:
            raise self._lose(process, verb, error) from None
        if not isinstance(answer, _Failure):
            return answer
        if verb == "start":
            self._end()
        if issubclass(answer.type, AgentGymError | gymnasium.error.Error):
            # Built without __init__, which may take other arguments than the finished message.
            failure = answer.type.__new__(answer.type, answer.message)
            Exception.__init__(failure, answer.message)
            raise failure
        logger.error("the environment crashed in its worker:\n%s", answer.details)
        raise InfrastructureError(f"the environment crashed in {verb}(): {answer.type.__name__}: {answer.message}")

    def _lose(self, process: SpawnProcess, verb: str, error: Exception) -> InfrastructureError:
        """Bury a child that no longer answers and say what became of it."""
        if isinstance(error, BlockingIOError):
            timeout_s = self.start_timeout_s if verb == "start" else self.call_timeout_s
            fate = f"did not finish {verb}() within {timeout_s:g} s and was killed"
        else:
            process.join(_CLOSE_TIMEOUT_S)
            fate = f"{_describe_exit(process.exitcode)} during {verb}()"
        pid = process.pid
        self._end()
        return InfrastructureError(f"the environment's worker (pid {pid}) {fate}; the next episode gets a new one")

    def _end(self) -> None:
        self._child = None
        if self._finalizer is not None:
            self._finalizer()


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "closed its pipe"
    if code >= 0:
        return f"exited with code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def _limit_waits(connection: Connection, timeout_s: float) -> None:
    """Bound each read and write, so that not even a child stopped in the middle of a message can block us."""
    limit = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
    with socket.socket(fileno=os.dup(connection.fileno())) as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _destroy(process: SpawnProcess, calls: Connection, lifeline: Connection, owner: int) -> None:
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


def _serve(calls: Connection, lifeline: Connection, make_env: Callable[[], gymnasium.Env[Any, Any]]) -> None:
    """Answer calls until the parent hangs up; runs in the child."""
    _die_with_parent(lifeline)
    os.dup2(2, 1)  # what an engine prints must not end up in the parent's output
    try:
        env = make_env()
        base: Any = env.unwrapped
        calls.send(_Description(base.action_format, env.action_space, env.observation_space, dict(env.metadata)))
    except Exception as error:  # whatever it is, the parent is told
        calls.send(_describe_failure(error))
        return
    verbs: dict[str, Callable[..., Any]] = {"reset": env.reset, "step": env.step, "expert_move": base.expert_move}
    while True:
        try:
            verb, arguments = calls.recv()
        except EOFError:
            break
        if verb == "close":
            break
        try:
            calls.send(verbs[verb](**arguments))
        except Exception as error:  # whatever it is, the parent is told
            calls.send(_describe_failure(error))
    env.close()


def _describe_failure(error: Exception) -> _Failure:
    kind: type[Exception] = type(error)
    try:
        pickle.dumps(kind)
    except (pickle.PicklingError, AttributeError):
        kind = RuntimeError
    return _Failure(kind, str(error) or kind.__name__, traceback.format_exc())


def _die_with_parent(lifeline: Connection) -> None:
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
