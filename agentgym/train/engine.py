"""Engine: vLLM inside this process, fed by asynchronous episodes.

One thread owns vLLM. Between two steps it takes in what has arrived since (new requests, cancellations, calls such as
a push of weights), so a request joins the running batch at the next token and nobody waits for anybody else. What a
step has finished goes to the event loop in one piece: each time that the loop is woken, it takes the interpreter's lock
from the next step.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from agentgym.errors import ContextLimitError, InfrastructureError, ModelError
from agentgym.policy import SamplingParams
from agentgym.train.vllm_runtime import (
    EngineConfig,
    close_vllm,
    load_weights,
    open_vllm,
    sampling_params,
    scoring_params,
)

__all__ = ["EngineConfig", "EngineCounters", "Sample", "VllmEngine"]

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sample:
    """What was sampled for one prompt.

    Attributes:
        token_ids: Sampled ids, the stop token included.
        logprobs: Natural log-probability of each under the distribution that it was drawn from (after temperature
            and nucleus).
        finish_reason: ``stop``: ended in a stop token. ``length``: cut.
        cached_tokens: Prompt tokens that the prefix cache gave for nothing.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str
    cached_tokens: int = 0


@dataclass
class EngineCounters:
    """What the engine has done since it was opened.

    Attributes:
        requests: Requests finished.
        prompt_tokens: Tokens of their prompts.
        cached_prompt_tokens: Those of them that came from the prefix cache.
        generated_tokens: Tokens sampled.
        steps: Steps of the engine.
        busy_s: Seconds spent in steps.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0
    busy_s: float = 0.0


@dataclass(frozen=True)
class _Request:
    """What waits for an answer of the engine: a thread, or, with a loop, a coroutine in it."""

    key: str
    prompt_ids: list[int]
    params: Any
    read: Callable[[Any], Any]
    future: Future[Any] | asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop | None = None


@dataclass(frozen=True)
class _Call:
    work: Callable[[Any], Any]
    future: Future[Any]


@dataclass(frozen=True)
class _Abort:
    key: str


class VllmEngine:
    """vLLM with continuous batching over asynchronous callers.

    Args:
        config: How it is opened. Opening blocks until the model answers.

    Raises:
        ModelError: vLLM is not installed or cannot open the model.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.counters = EngineCounters()
        self._inbox: queue.SimpleQueue[_Request | _Call | _Abort | None] = queue.SimpleQueue()
        self._running: dict[str, _Request] = {}
        self._keys = itertools.count()
        self._fault: BaseException | None = None
        opened: Future[int] = Future()
        self._thread = threading.Thread(target=self._live, args=(opened,), name="agentgym-vllm", daemon=True)
        self._thread.start()
        self._vocabulary_size = opened.result()
        _keep_own_threads()

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, stop_token_ids: Sequence[int] = (), route: int = 0
    ) -> Sample:
        """Sample an answer to a prompt.

        Args:
            prompt_ids: Token ids so far; what it has in common with earlier prompts is not computed again.
            sampling: Temperature, nucleus, length, seed. Its ``stop`` texts are not read here: give token ids.
            stop_token_ids: Tokens that end the answer.
            route: Requests of one number share a prefix cache; one engine has only one.

        Raises:
            ContextLimitError: The prompt leaves no room in the context.
            UsageError: The prompt has ids that the model does not know, or a sampling parameter is out of its range.
            InfrastructureError: The engine failed or was closed.
        """
        sample: Sample = await self._answer(*self._sampling_job(prompt_ids, sampling, stop_token_ids))
        return sample

    def submit(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, stop_token_ids: Sequence[int] = ()
    ) -> Future[Sample]:
        """Do as ``generate`` does, for callers without an event loop; cancelling the future ends the request."""
        job = self._sampling_job(prompt_ids, sampling, stop_token_ids)
        future: Future[Sample] = Future()
        key = self._submit(*job, future, None)
        future.add_done_callback(lambda done: self._inbox.put(_Abort(key)) if done.cancelled() else None)
        return future

    async def score(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Return the log-probability of each token given those before it, at temperature 1.

        Returns:
            ``len(token_ids) - 1`` natural logarithms: the first token has none.

        Raises:
            ContextLimitError: There are fewer than two tokens, or more than the context holds.
            InfrastructureError: The engine failed or was closed.
        """
        scores: tuple[float, ...] = await self._answer(*self._scoring_job(token_ids))
        return scores

    def submit_score(self, token_ids: Sequence[int]) -> Future[tuple[float, ...]]:
        """Do as ``score`` does, for callers without an event loop."""
        future: Future[tuple[float, ...]] = Future()
        self._submit(*self._scoring_job(token_ids), future, None)
        return future

    def load(self, weights: Iterable[tuple[str, Any]]) -> None:
        """Take these weights, by their names in a checkpoint, and forget every cached prefix of the old ones.

        Raises:
            InfrastructureError: Requests are in flight, or vLLM did not take the weights.
        """
        if self.running:
            raise InfrastructureError(
                f"weights can only be pushed between batches; {self.running} requests are running"
            )
        try:
            reset = self.call(lambda llm: load_weights(llm, weights))
        except (RuntimeError, ValueError, KeyError, AttributeError, AssertionError) as error:
            raise InfrastructureError(
                f"vLLM did not take the trainer's weights ({error}); is it the model that the engine was opened with, "
                f"{self.config.model!r}? The engine's weights are now undefined: close it and open another"
            ) from error
        if not reset:
            raise InfrastructureError("vLLM kept cached prefixes of the old weights: requests arrived during the push")

    def call(self, work: Callable[[Any], Result]) -> Result:
        """Run ``work(llm_engine)`` in the engine's thread between two steps and return what it returns."""
        self._check_alive()
        call = _Call(work, Future())
        self._inbox.put(call)
        result: Result = call.future.result()
        return result

    @property
    def running(self) -> int:
        """Number of requests in the engine."""
        return len(self._running)

    def close(self) -> None:
        """End open requests, the thread and vLLM, and free their memory; a second call does nothing."""
        self._inbox.put(None)
        self._thread.join()

    def _sampling_job(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, stop_token_ids: Sequence[int]
    ) -> tuple[list[int], Any, Callable[[Any], Sample]]:
        if len(prompt_ids) >= self.config.max_model_len:
            raise ContextLimitError(
                f"the dialogue has {len(prompt_ids)} tokens and the engine's context {self.config.max_model_len}"
            )
        return list(prompt_ids), sampling_params(sampling, tuple(stop_token_ids)), _read_sample

    def _scoring_job(self, token_ids: Sequence[int]) -> tuple[list[int], Any, Callable[[Any], tuple[float, ...]]]:
        if not 1 < len(token_ids) < self.config.max_model_len:
            raise ContextLimitError(f"a text to score has 2 to {self.config.max_model_len - 1} tokens")
        return list(token_ids), scoring_params(), _read_scores

    async def _answer(self, prompt_ids: list[int], params: Any, read: Callable[[Any], Any]) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        key = self._submit(prompt_ids, params, read, future, loop)
        try:
            return await future
        except asyncio.CancelledError:
            self._inbox.put(_Abort(key))
            raise

    def _submit(
        self,
        prompt_ids: list[int],
        params: Any,
        read: Callable[[Any], Any],
        future: Future[Any] | asyncio.Future[Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> str:
        self._check_alive()
        if not prompt_ids or min(prompt_ids) < 0 or max(prompt_ids) >= self._vocabulary_size:
            # vLLM does not look, and a bad id would take the engine down with all that it is doing.
            raise ModelError(
                f"a prompt is empty or has token ids outside the model's {self._vocabulary_size}; "
                f"is its tokenizer that of {self.config.model!r}?"
            )
        key = str(next(self._keys))
        self._inbox.put(_Request(key, prompt_ids, params, read, future, loop))
        return key

    def _check_alive(self) -> None:
        if self._fault is not None:
            raise InfrastructureError(f"the vLLM engine failed: {self._fault!r}") from self._fault
        if not self._thread.is_alive():
            raise InfrastructureError("the vLLM engine is closed; open another one")

    # From here on: in the engine's thread only.

    def _live(self, opened: Future[int]) -> None:
        try:
            llm = open_vllm(self.config)
        except BaseException as error:
            opened.set_exception(error)
            return
        opened.set_result(llm.model_config.get_vocab_size())
        try:
            while self._take_in(llm):
                self._step(llm)
        except BaseException as error:
            self._fault = error
        finally:
            self._refuse_all()
            close_vllm(llm)

    def _take_in(self, llm: Any) -> bool:
        """Do what waits in the inbox; with nothing to sample, wait for something. False: close."""
        while True:
            try:
                item = self._inbox.get(block=not self._running)
            except queue.Empty:
                return True
            match item:
                case _Request():
                    self._admit(item, llm)
                case _Call():
                    _answer(item, llm)
                case _Abort(key):
                    if self._running.pop(key, None) is not None:
                        llm.abort_request([key])
                case None:
                    return False

    def _step(self, llm: Any) -> None:
        started_s = time.perf_counter()
        outputs = llm.step()
        self.counters.busy_s += time.perf_counter() - started_s
        self.counters.steps += 1
        answers = []
        for output in outputs:
            if output.finished and (request := self._running.pop(output.request_id, None)) is not None:
                self._count(output)
                answers.append((request, request.read(output)))
        _deliver(answers)

    def _admit(self, request: _Request, llm: Any) -> None:
        from vllm.inputs import tokens_input

        if request.future.cancelled():
            return
        try:
            llm.add_request(request.key, tokens_input(request.prompt_ids), request.params)
        except Exception as error:  # vLLM's validation: this request's own fault, the others go on
            _deliver([(request, InfrastructureError(f"vLLM refused the request: {error}"))])
            return
        self._running[request.key] = request

    def _count(self, output: Any) -> None:
        self.counters.requests += 1
        self.counters.prompt_tokens += len(output.prompt_token_ids)
        self.counters.cached_prompt_tokens += output.num_cached_tokens or 0
        self.counters.generated_tokens += len(output.outputs[0].token_ids)

    def _refuse_all(self) -> None:
        """Tell everybody who still waits that the engine is gone."""
        reason = "was closed" if self._fault is None else f"failed: {self._fault!r}"
        requests = list(self._running.values())
        self._running.clear()
        while not self._inbox.empty():
            item = self._inbox.get()
            if isinstance(item, _Request):
                requests.append(item)
            elif isinstance(item, _Call):
                item.future.set_exception(InfrastructureError(f"the vLLM engine {reason}"))
        _deliver([(request, InfrastructureError(f"the vLLM engine {reason}")) for request in requests])


def _deliver(answers: Sequence[tuple[_Request, Any]]) -> None:
    """Hand over results and exceptions, waking each event loop once."""
    of_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[Any, Any]]] = {}
    for request, answer in answers:
        of_loop.setdefault(request.loop, []).append((request.future, answer))
    for loop, own in of_loop.items():
        if loop is None:
            settle(own)
            continue
        try:
            loop.call_soon_threadsafe(settle, own)
        except RuntimeError:
            logger.debug("an event loop was closed before its requests were answered")


def settle(answers: Sequence[tuple[Any, Any]]) -> None:
    """Give each future its result, or the exception that its answer is; those that were cancelled are left alone."""
    for future, answer in answers:
        if future.done() or (isinstance(future, Future) and not future.set_running_or_notify_cancel()):
            continue  # it was cancelled
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _keep_own_threads() -> None:
    """Set the calling thread's number of threads anew: MKL's is one for the process, and the engine has lowered it."""
    import torch

    torch.set_num_threads(torch.get_num_threads())


def _answer(call: _Call, llm: Any) -> None:
    try:
        call.future.set_result(call.work(llm))
    except BaseException as error:
        call.future.set_exception(error)


def _read_sample(output: Any) -> Sample:
    completion = output.outputs[0]
    logprobs = completion.logprobs  # vllm.logprobs.FlatLogprobs: the sampled token comes first at each position
    return Sample(
        token_ids=tuple(completion.token_ids),
        logprobs=tuple(logprobs.logprobs[start] for start in logprobs.start_indices),
        finish_reason="stop" if completion.finish_reason == "stop" else "length",
        cached_tokens=output.num_cached_tokens or 0,
    )


def _read_scores(output: Any) -> tuple[float, ...]:
    logprobs = output.prompt_logprobs
    return tuple(logprobs.logprobs[start] for start in logprobs.start_indices[1:])
