"""An environment in a process of its own, so that a crash or a hang of its engine costs one episode and no more.

Rollouts keep many environments in a few processes instead; see :mod:`agentgym.world_host`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import gymnasium

from agentgym.actions import Move
from agentgym.errors import InfrastructureError, UnknownNameError
from agentgym.registry import find_env_spec, make
from agentgym.rollout import EnvFactory
from agentgym.world_child import READ_BYTES, Description, pack
from agentgym.world_process import WorldProcess, read_answer

WORKERS = ("thread", "process")


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
        self._process: WorldProcess | None = None
        description = self._start()
        self.action_format = description.action_format
        self.action_space = description.action_space
        self.observation_space = description.observation_space
        self.metadata = description.metadata

    @property
    def pid(self) -> int | None:
        """Process id of the child; ``None`` while there is none."""
        return self._process.pid if self._process else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, in a new child if the last one was lost."""
        if self._process is None:
            self._start()
        observation, info = self._call("reset", {"seed": seed, "options": options})
        return observation, info

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one turn."""
        observation, reward, terminated, truncated, info = self._call("step", {"action": action})
        return observation, reward, terminated, truncated, info

    def expert_move(self) -> Move:
        """Return the scripted expert's move in the present state."""
        move: Move = self._call("expert_move", {})
        return move

    def close(self) -> None:
        """End the child, gently if it answers, and reap it."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _start(self) -> Description:
        self._process = WorldProcess(self._make_env, threaded=False)
        try:
            description: Description = self._call("start", {})
        except Exception:
            self.close()
            raise
        return description

    def _call(self, verb: str, arguments: dict[str, Any]) -> Any:
        process = self._process
        if process is None:
            raise InfrastructureError("the environment's worker is gone and its episode with it: call reset()")
        timeout_s = self.start_timeout_s if verb == "start" else self.call_timeout_s
        try:
            body = _exchange(process, pack(0, (0, verb, arguments)), timeout_s)
        except (OSError, EOFError) as error:
            self._process = None
            raise process.bury(verb, timeout_s if isinstance(error, TimeoutError) else None) from None
        return read_answer(body, verb)


def _exchange(process: WorldProcess, call: bytes, timeout_s: float) -> bytes:
    """Send a call and return its answer. Each wait is bounded: even a child stopped in mid-message cannot block us."""
    deadline_s = time.monotonic() + timeout_s
    process.calls.settimeout(timeout_s)
    process.calls.sendall(call)
    while True:
        process.calls.settimeout(max(1e-3, deadline_s - time.monotonic()))
        data = process.calls.recv(READ_BYTES)
        if not data:
            raise EOFError
        for _, body in process.frames.feed(data):
            return body
