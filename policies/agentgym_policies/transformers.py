"""A language model sampled by transformers in this process: slow, simple, runs wherever torch runs."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from agentgym.errors import ContextLimitError, ModelError, UsageError
from agentgym.policy import Completion, Dialogue, SamplingParams


class TransformersPolicy:
    """Samples every turn with ``generate``; token ids in, token ids out.

    Requests are answered one after another in a thread, each with chance of its own, so that a dialogue's answer does
    not depend on which others were waiting. For throughput take the ``vllm`` policy.

    Args:
        model: ``smollm2``, a Hugging Face directory or a hub name.
        device: Where the model runs, e.g. ``cpu`` or ``cuda``.
        dtype: Name of the weights' torch type, or ``auto`` for the model's own.
        **sampling: Fields of :class:`agentgym.SamplingParams` but ``stop``: ``temperature``, ``top_p``,
            ``max_tokens``, ``seed``.

    Raises:
        ModelError: The model cannot be loaded.
        UsageError: No model was given, or a stop text was.
        ContextLimitError: In ``act``: the dialogue no longer fits the model.
    """

    name = "transformers"

    def __init__(self, model: str = "", *, device: str = "cpu", dtype: str = "float32", **sampling: Any) -> None:
        if not model:
            raise UsageError("the transformers policy needs a model: --policy-arg model=smollm2, or a directory")
        self.sampling = SamplingParams(**sampling)
        if self.sampling.stop:
            raise UsageError(
                "the transformers policy ends an action at the model's own end of turn and at no other text"
            )
        try:
            import torch
            from transformers import AutoModelForCausalLM, GenerationConfig
        except ImportError as error:
            raise UsageError("the transformers policy needs packages: pip install 'agentgym-core[train]'") from error
        from agentgym.chat import ChatRenderer
        from agentgym.train.models import load_tokenizer, resolve_model

        path = resolve_model(model)
        self.renderer = ChatRenderer(load_tokenizer(path))
        if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise UsageError(f"dtype {dtype!r} is no torch type: take float32, bfloat16, float16 or auto")
        try:
            self.model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"model {model!r} cannot be loaded on {device!r}: {error}") from error
        self.max_model_len = int(self.model.config.max_position_embeddings)
        # A model's own defaults (top-k 50 and the like) would make the log-probabilities those of another policy.
        self.model.generation_config = GenerationConfig()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentgym-transformers")

    async def act(self, dialogue: Dialogue) -> Completion:
        """Sample one action."""
        prompt_ids = self.renderer.prompt_ids(dialogue)
        context = [*dialogue.token_ids, *prompt_ids]
        room = self.max_model_len - len(context)
        if room < 1:
            raise ContextLimitError(f"{len(context)} tokens leave no room in a window of {self.max_model_len}")
        seed = self._seed(dialogue)
        loop = asyncio.get_running_loop()
        token_ids, logprobs = await loop.run_in_executor(self._thread, self._generate, context, room, seed)
        return Completion(
            text=self.renderer.action_text(token_ids),
            prompt_ids=tuple(prompt_ids),
            token_ids=tuple(token_ids),
            logprobs=tuple(logprobs),
            finish_reason="stop" if token_ids[-1] in self.renderer.stop_token_ids else "length",
        )

    async def aclose(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _seed(self, dialogue: Dialogue) -> int:
        roots = [self.sampling.seed or 0, dialogue.seed, dialogue.episode, dialogue.turn]
        return int(np.random.SeedSequence(roots).generate_state(1)[0])

    def _generate(self, context: list[int], room: int, seed: int) -> tuple[list[int], list[float]]:
        """Return sampled ids and their log-probabilities under the distribution that they were sampled from."""
        import torch
        from transformers import GenerationConfig

        sampling = self.sampling
        chance: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            chance = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        config = GenerationConfig(
            max_new_tokens=min(room, sampling.max_tokens),
            eos_token_id=list(self.renderer.stop_token_ids),
            pad_token_id=self.renderer.stop_token_ids[0],
            output_scores=True,
            return_dict_in_generate=True,
            **chance,
        )
        ids = torch.tensor([context], device=self.model.device)
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            out = self.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        sampled = out.sequences[0, len(context) :]
        scores = torch.stack([score[0] for score in out.scores]).float()  # (new tokens, vocabulary)
        logprobs = scores.log_softmax(-1).gather(1, sampled[:, None])[:, 0]
        return sampled.tolist(), logprobs.tolist()
