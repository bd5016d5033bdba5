"""A language model behind any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import numpy as np

from agentgym.errors import ContextLimitError, InfrastructureError, UsageError
from agentgym.policy import Completion, Dialogue, SamplingParams

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# What endpoints say instead of, or beside, the code `context_length_exceeded`: vLLM, llama.cpp, TGI, OpenAI.
_CONTEXT_PHRASES = ("context_length_exceeded", "context length", "context size", "context window", "max_model_len")


class OpenAIPolicy:
    """Asks an OpenAI-compatible server for every turn: OpenAI, vLLM, llama.cpp, Ollama and others.

    The server keeps the tokens to itself, so trajectories hold text alone and cannot train token by token.

    Args:
        model: Name of the model as the server knows it.
        base_url: Address that ends in ``/v1``; by default ``$OPENAI_BASE_URL``, else OpenAI's own.
        api_key: By default ``$OPENAI_API_KEY``. A server of one's own usually wants none.
        timeout_s: Longest that one request may take.
        max_retries: How often the library tries again, with growing pauses, after lost connections, 408, 409, 429
            and 5xx.
        **sampling: Fields of :class:`agentgym.SamplingParams`: ``temperature``, ``top_p``, ``max_tokens``, ``stop``,
            ``seed``. A seed makes each turn's own, for servers that take one.

    Raises:
        UsageError: No model or key was given, or the package ``openai`` is missing. In ``act``: the server refuses the
            request for good (unknown model, wrong key, wrong parameter).
        ContextLimitError: In ``act``: the dialogue no longer fits the model.
        InfrastructureError: In ``act``: the server cannot be reached or stays broken.
    """

    name = "openai"

    def __init__(
        self,
        model: str = "",
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 4,
        **sampling: Any,
    ) -> None:
        if not model:
            raise UsageError("the openai policy needs a model: --policy-arg model=NAME, as the server knows it")
        self.model = str(model)
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        self.sampling = SamplingParams(**sampling)
        key = api_key or os.environ.get("OPENAI_API_KEY") or ("none" if self.base_url else "")
        if not key:
            raise UsageError(
                "the openai policy has no key: set OPENAI_API_KEY, or for a server of your own "
                "--policy-arg base_url=http://HOST:PORT/v1"
            )
        try:
            import openai
        except ImportError as error:
            raise UsageError("the openai policy needs a package: pip install 'agentgym-core[openai]'") from error
        self._library = openai
        self._settings: dict[str, Any] = {
            "api_key": key,
            "base_url": self.base_url,
            "timeout": timeout_s,
            "max_retries": max_retries,
        }
        self._client: AsyncOpenAI | None = None
        self._session: AsyncGenerator[AsyncOpenAI, None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def act(self, dialogue: Dialogue) -> Completion:
        """Send the whole dialogue and return the answer's text."""
        errors = self._library
        try:
            answer = await (await self._connect()).chat.completions.create(
                model=self.model,
                messages=[{"role": message.role, "content": _as_text(message.content)} for message in dialogue.chat()],
                **self._sampling_arguments(dialogue),
            )
        except errors.APIConnectionError as error:  # timeouts are a kind of it
            raise InfrastructureError(
                f"the model server at {self.base_url or 'api.openai.com'} cannot be reached ({error}; "
                f"{error.__cause__!r}): is it running, is base_url right, does it end in /v1?"
            ) from error
        except (errors.RateLimitError, errors.InternalServerError) as error:
            raise InfrastructureError(f"the model server gave up after retries: {error}") from error
        except errors.APIStatusError as error:
            if _is_context_limit(error):
                raise ContextLimitError(str(error)) from error
            raise UsageError(f"the model server refused the request for model {self.model!r}: {error}") from error
        except errors.APIError as error:
            raise InfrastructureError(f"the model server's answer made no sense: {error}") from error
        if not answer.choices:
            raise InfrastructureError("the model server sent an answer without choices")
        choice = answer.choices[0]
        return Completion(
            text=_as_text(choice.message.content or ""),
            finish_reason="length" if choice.finish_reason == "length" else "stop",
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.aclose()
        self._session = self._client = None

    async def _connect(self) -> AsyncOpenAI:
        # Connections belong to an event loop, and a policy may serve several: one per asyncio.run.
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._loop, self._session = loop, self._open_session()
            self._client = await anext(self._session)
        return self._client

    async def _open_session(self) -> AsyncGenerator[AsyncOpenAI, None]:
        """Hold a client open until ``aclose``, or until the event loop ends: it closes its generators first."""
        async with self._library.AsyncOpenAI(**self._settings) as client:
            yield client

    def _sampling_arguments(self, dialogue: Dialogue) -> dict[str, Any]:
        sampling = self.sampling
        arguments: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if sampling.stop:
            arguments["stop"] = [sampling.stop] if isinstance(sampling.stop, str) else list(sampling.stop)
        if sampling.seed is not None:
            roots = [sampling.seed, dialogue.seed, dialogue.episode, dialogue.turn]
            arguments["seed"] = int(np.random.SeedSequence(roots).generate_state(1)[0]) >> 1  # some take int32 only
        return arguments


def _is_context_limit(error: Any) -> bool:
    said = f"{getattr(error, 'code', '')} {error}".lower()
    return error.status_code in (400, 413, 422) and any(phrase in said for phrase in _CONTEXT_PHRASES)


def _as_text(said: str) -> str:
    """Replace lone surrogates, which JSON can carry and UTF-8 cannot."""
    return said.encode("utf-8", "replace").decode("utf-8")
