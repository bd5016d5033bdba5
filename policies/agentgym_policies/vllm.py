"""A language model sampled by vLLM in this process, with exact token ids and log-probabilities."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentgym.errors import ContextLimitError, UsageError
from agentgym.policy import Completion, Dialogue, SamplingParams

if TYPE_CHECKING:
    from agentgym.chat import ChatRenderer
    from agentgym.train.engine import VllmEngine
    from agentgym.train.replicas import EngineReplicas


class VllmPolicy:
    """Samples every turn from one vLLM engine; concurrent episodes are batched continuously.

    The prompt of a turn is the exact ids of all turns before it plus the new observation's, so the engine's prefix
    cache holds everything but the newest observation.

    Args:
        model: Hugging Face directory or hub name, or ``smollm2``; opens an engine that ``aclose`` closes.
        engine: An engine that is already open and stays the caller's.
        renderer: How dialogues become tokens; made from the model's tokenizer if absent.
        temperature: 0 is greedy.
        top_p: Nucleus mass.
        max_tokens: Most tokens per turn.
        **engine_options: Fields of :class:`agentgym.train.engine.EngineConfig`; its context is at most the model's own.

    Raises:
        ModelError: The model cannot be loaded.
        UsageError: Neither a model nor an engine was given.
    """

    name = "vllm"

    def __init__(
        self,
        model: str | None = None,
        *,
        engine: VllmEngine | EngineReplicas | None = None,
        renderer: ChatRenderer | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_tokens: int = 64,
        **engine_options: Any,
    ) -> None:
        self.sampling = SamplingParams(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
        self._owned = engine is None
        if engine is None or renderer is None:
            if model is None:
                raise UsageError("the vllm policy needs a model: --policy-arg model=smollm2, or a directory")
            from agentgym.chat import ChatRenderer
            from agentgym.train.models import load_tokenizer, resolve_model

            path = resolve_model(model)
            renderer = renderer or ChatRenderer(load_tokenizer(path))
            if engine is None:
                from agentgym.train.engine import EngineConfig, VllmEngine

                window = json.loads((path / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
                engine_options.setdefault("max_model_len", min(EngineConfig.max_model_len, window or math.inf))
                engine = VllmEngine(EngineConfig(str(path), **engine_options))
        self.engine = engine
        self.renderer = renderer

    async def act(self, dialogue: Dialogue) -> Completion:
        """Sample one action."""
        prompt_ids = self.renderer.prompt_ids(dialogue)
        context = [*dialogue.token_ids, *prompt_ids]
        room = self.engine.config.max_model_len - len(context)
        if room < 1:
            raise ContextLimitError(f"the dialogue's {len(context)} tokens leave no room for an answer")
        sampling = replace(self.sampling, max_tokens=min(room, self.sampling.max_tokens))
        sample = await self.engine.generate(context, sampling, self.renderer.stop_token_ids, route=dialogue.episode)
        return Completion(
            text=self.renderer.action_text(sample.token_ids),
            prompt_ids=tuple(prompt_ids),
            token_ids=tuple(sample.token_ids),
            logprobs=tuple(sample.logprobs),
            finish_reason=sample.finish_reason,
        )

    async def aclose(self) -> None:
        """Close the engine, if this policy opened it."""
        if self._owned:
            self.engine.close()
