"""Replicas: several vLLM engines that sample from one model, for one engine's steps leave cores idle.

The first lives in this process, each other one in a child of its own. An episode's turns go to one replica, whose
prefix cache knows it. With a small model, vLLM's step is many small operations, which more threads do not make faster
(measured with two: no gain); a second engine does.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from agentgym.errors import AgentGymError, InfrastructureError, ModelError
from agentgym.machine import usable_cores
from agentgym.policy import SamplingParams
from agentgym.train.engine import EngineConfig, Sample, VllmEngine, settle
from agentgym.world_child import die_with_parent
from agentgym.world_process import require_main_guard

logger = logging.getLogger(__name__)
_CLOSE_S = 10.0


class EngineReplicas:
    """Stands for one engine, and is several.

    Args:
        config: How each is opened; their seeds differ. ``threads`` 0 shares half of the cores out among them.
        count: How many, at least 1.

    Raises:
        ModelError: One of them cannot open the model.
        UsageError: A script starts them outside of ``if __name__ == "__main__":``.
    """

    def __init__(self, config: EngineConfig, count: int) -> None:
        self.config = replace(config, threads=config.threads or max(1, usable_cores() // (2 * count)))
        self._others = [_Remote(replace(self.config, seed=config.seed + number)) for number in range(1, count)]
        self._turns = itertools.count()
        try:
            self._own = VllmEngine(self.config)
            for other in self._others:
                other.opened.result()
        except BaseException:
            self.close()
            raise

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, stop_token_ids: Sequence[int] = (), route: int = 0
    ) -> Sample:
        """Sample an answer; requests of one ``route`` go to one replica. See :meth:`VllmEngine.generate`."""
        number = route % (1 + len(self._others))
        if number == 0:
            return await self._own.generate(prompt_ids, sampling, stop_token_ids)
        return await asyncio.wrap_future(self._others[number - 1].submit(prompt_ids, sampling, stop_token_ids))

    def submit(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, stop_token_ids: Sequence[int] = ()
    ) -> Future[Sample]:
        """Do as ``generate`` does, for callers without an event loop; the replicas take turns."""
        return self._next().submit(prompt_ids, sampling, stop_token_ids)

    def submit_score(self, token_ids: Sequence[int]) -> Future[tuple[float, ...]]:
        """Score a text; see :meth:`VllmEngine.submit_score`. The replicas take turns."""
        return self._next().submit_score(token_ids)

    def load(self, weights: Iterable[tuple[str, Any]]) -> None:
        """Give every replica these weights; see :meth:`VllmEngine.load`."""
        if not self._others:  # no list of all weights, no copy: adapters are merged a layer at a time
            self._own.load(weights)
            return
        import torch

        kept = list(weights)
        copy = io.BytesIO()
        torch.save(kept, copy)
        loading = [other.ask("load", copy.getvalue()) for other in self._others]
        self._own.load(kept)
        for future in loading:
            future.result()

    @property
    def running(self) -> int:
        """Number of requests in the replicas."""
        return self._own.running + sum(other.running for other in self._others)

    def close(self) -> None:
        """End all of them; a second call does nothing."""
        for other in self._others:
            other.close()
        if hasattr(self, "_own"):
            self._own.close()

    def _next(self) -> VllmEngine | _Remote:
        engines: list[VllmEngine | _Remote] = [self._own, *self._others]
        return engines[next(self._turns) % len(engines)]


class _Remote:
    """An engine in a child process, from here."""

    def __init__(self, config: EngineConfig) -> None:
        require_main_guard()
        context = multiprocessing.get_context("spawn")
        self._calls, their_calls = context.Pipe()
        their_lifeline, self._lifeline = context.Pipe(duplex=False)
        self._process = context.Process(
            target=serve, args=(their_calls, their_lifeline, config), name="agentgym-replica", daemon=True
        )
        self._process.start()
        their_calls.close()
        their_lifeline.close()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._gone = ""
        self.opened: Future[None] = Future()
        self._waiting[0] = self.opened
        self._reader = threading.Thread(target=self._read, name="agentgym-replica-reader", daemon=True)
        self._reader.start()

    @property
    def running(self) -> int:
        return len(self._waiting)

    def ask(self, verb: str, *arguments: Any) -> Future[Any]:
        """Call a method of the engine there."""
        future: Future[Any] = Future()
        with self._lock:
            if self._gone:
                raise InfrastructureError(self._gone)
            number = next(self._numbers)
            self._waiting[number] = future
            try:
                self._calls.send_bytes(pickle.dumps((number, verb, arguments), pickle.HIGHEST_PROTOCOL))
            except OSError:
                logger.debug("a replica died before it was asked")  # the reader is about to tell all who wait
        return future

    def submit(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, stop_token_ids: Sequence[int] = ()
    ) -> Future[Sample]:
        return self.ask("submit", list(prompt_ids), sampling, tuple(stop_token_ids))

    def submit_score(self, token_ids: Sequence[int]) -> Future[tuple[float, ...]]:
        return self.ask("submit_score", list(token_ids))

    def close(self) -> None:
        if self._process.pid is None or self._lifeline.closed:
            return
        with self._lock:
            self._gone = self._gone or "the vLLM engine is closed; open another one"
            try:
                self._calls.send_bytes(pickle.dumps((0, "close", ())))
            except OSError:
                logger.debug("a replica was gone before it was closed")
        self._process.join(_CLOSE_S)
        self._process.kill()
        self._process.join()
        self._reader.join()
        self._calls.close()
        self._lifeline.close()

    def _read(self) -> None:
        try:
            while True:
                number, answer = pickle.loads(self._calls.recv_bytes())
                settle([(self._waiting.pop(number), answer)])
        except (EOFError, OSError):
            with self._lock:
                self._gone = self._gone or "a replica of the vLLM engine died; resume the run from its last checkpoint"
                lost, self._waiting = self._waiting, {}
            settle([(future, InfrastructureError(self._gone)) for future in lost.values()])


def serve(calls: Connection, lifeline: Connection, config: EngineConfig) -> None:
    """Answer calls until the parent says ``close`` or hangs up; runs in the child."""
    die_with_parent(lifeline)
    os.dup2(2, 1)
    sending = threading.Lock()

    def answer(number: int, content: Any) -> None:
        """Send a result, or an exception for the parent to raise."""
        with sending:
            calls.send_bytes(pickle.dumps((number, content), pickle.HIGHEST_PROTOCOL))

    try:
        engine = VllmEngine(config)
    except Exception as error:  # whatever it is, the parent is told
        answer(0, ModelError(str(error)))
        return
    answer(0, None)
    try:
        while True:
            number, verb, arguments = pickle.loads(calls.recv_bytes())
            if verb == "close":
                return
            _take(engine, verb, arguments, partial(answer, number))
    except (EOFError, OSError):
        return
    finally:
        engine.close()


def _take(engine: VllmEngine, verb: str, arguments: tuple[Any, ...], answer: Callable[[Any], None]) -> None:
    try:
        if verb == "load":
            import torch

            engine.load(torch.load(io.BytesIO(arguments[0]), weights_only=True))
            answer(None)
        else:
            future = getattr(engine, verb)(*arguments)
            future.add_done_callback(lambda done: answer(done.exception() or done.result()))
    except AgentGymError as error:
        answer(error)
