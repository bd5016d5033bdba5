"""Learner: a causal language model, its optimizer, and log-probabilities of sampled tokens only."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agentgym.errors import DivergenceError, ModelError
from agentgym.train.config import GrpoSection, LoraSection, OptimizerName, Recipe, WarmstartSection
from agentgym.train.micro_batch import MicroBatch, Sharing
from agentgym.train.models import check_model_dir, load_tokenizer, quiet_transformers
from agentgym.train.optimizer import Optimizer

LossFunction = Callable[[MicroBatch, Tensor], Tensor]


@dataclass(frozen=True)
class LearnerConfig:
    """How a model is trained.

    Attributes:
        learning_rate: Peak of AdamW's.
        optimizer: ``adamw`` or ``muon``; see :class:`agentgym.train.optimizer.Optimizer`.
        weight_decay: Of both.
        max_grad_norm: Gradients are scaled down to this norm.
        autocast: Multiply in bfloat16 over float32 master weights.
        gradient_checkpointing: Compute activations twice to save memory.
        lora: Train adapters; ``None``: all weights.
        seed: Of the adapters' weights.
    """

    learning_rate: float
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    autocast: bool = False
    gradient_checkpointing: bool = False
    lora: LoraSection | None = None
    seed: int = 0


def learner_config(recipe: Recipe, stage: WarmstartSection | GrpoSection) -> LearnerConfig:
    """Return how a stage of a recipe trains its model."""
    return LearnerConfig(
        learning_rate=stage.learning_rate,
        optimizer=stage.optimizer if isinstance(stage, WarmstartSection) else "adamw",
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.max_grad_norm,
        autocast=_wants_autocast(recipe.model.dtype),
        gradient_checkpointing=recipe.model.gradient_checkpointing,
        lora=recipe.model.lora,
        seed=recipe.run.seed,
    )


def _wants_autocast(dtype: str) -> bool:
    """Say whether to multiply in bfloat16; ``"auto"`` leaves it to what the processor has instructions for."""
    if dtype != "auto":
        return dtype == "bfloat16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch do not tell
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))  # the last: Arm


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did."""

    loss: float
    grad_norm: float


class Learner:
    """A model in training.

    Args:
        model_dir: Hugging Face directory with the weights to start from.
        config: How it is trained.

    Raises:
        ModelError: The model cannot be loaded, or has none of the layers that the adapters want.
    """

    def __init__(self, model_dir: str | os.PathLike[str], config: LearnerConfig) -> None:
        self.config = config
        self.model_dir = Path(model_dir)
        self.tokenizer = load_tokenizer(model_dir)  # kept: the directory may be a checkpoint that is deleted later
        base = load_model(model_dir)
        self.model = base if config.lora is None else _add_adapters(base, config.lora, config.seed)
        if config.gradient_checkpointing:
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.model.train()
        self.takes_trees = _takes_trees(base)
        self.sharing = _sharing(base, config)
        self.device = next(base.parameters()).device
        self.optimizer = Optimizer(self.model, config.optimizer, config.learning_rate, config.weight_decay)
        self._predicts: Tensor | None = None
        # Only hidden states that predict a sampled token reach the head: it is the most costly layer of a small
        # model, and most tokens of an episode are the environment's.
        base.get_output_embeddings().register_forward_pre_hook(self._select)

    def _select(self, head: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return None if self._predicts is None else (inputs[0][self._predicts][None],)

    def logits(self, batch: MicroBatch) -> Tensor:
        """Return the float32 logits of the sampled tokens, shape ``(tokens, vocabulary)``."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.autocast):
            shared = self._read_prefixes(batch) if batch.prefixes.numel() else {"use_cache": False}
            output = self._read(batch.ids, batch.predicts, **shared)
        logits: Tensor = output.logits[0].float()
        return logits

    def tree_logits(self, ids: Tensor, sees: Tensor, depths: Tensor, predicts: Tensor) -> Tensor:
        """Return the float32 logits of chosen nodes of token trees, shape ``(nodes, vocabulary)``, in row order.

        Only for a model that ``takes_trees``.

        Args:
            ids: Shape ``(trees, longest)``, as the next ones.
            sees: Which nodes a node's token attends to, shape ``(trees, longest, longest)``; itself at least.
            depths: Positions.
            predicts: The chosen nodes.
        """
        mask, positions = sees[:, None].to(self.device), depths.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.autocast):
            output = self._read(ids, predicts, attention_mask=mask, position_ids=positions, use_cache=False)
        logits: Tensor = output.logits[0].float()
        return logits

    def _read_prefixes(self, batch: MicroBatch) -> dict[str, Any]:
        """Return each sequence's prefix as keys and values, through which the gradients of all flow back into it.

        Prefixes of several lengths need a mask that hides their padding, and the sequences' positions.
        """
        nothing = torch.zeros_like(batch.prefixes, dtype=torch.bool)
        cache = self._read(batch.prefixes, nothing, use_cache=True).past_key_values
        shared = {"past_key_values": cache, "use_cache": True}
        if len(batch.prefixes) == 1:
            cache.batch_repeat_interleave(len(batch.ids))
            return shared
        cache.batch_select_indices(batch.prefix_rows.to(self.device))
        starts = batch.prefix_lengths[batch.prefix_rows, None]
        width = batch.ids.shape[1]
        prefix = (torch.arange(batch.prefixes.shape[1]) < starts)[:, None].expand(-1, width, -1)
        causal = torch.ones(width, width, dtype=torch.bool).tril().expand(len(starts), -1, -1)
        mask, positions = torch.cat([prefix, causal], -1)[:, None], starts + torch.arange(width)
        return {**shared, "attention_mask": mask.to(self.device), "position_ids": positions.to(self.device)}

    def _read(self, ids: Tensor, predicts: Tensor, **inputs: Any) -> Any:
        """Return the model's output, with the logits of the tokens that predict, as one row."""
        self._predicts = predicts.to(self.device)
        try:
            return self.model(input_ids=ids.to(self.device), **inputs)
        finally:
            self._predicts = None

    def logprobs(self, batch: MicroBatch, temperature: float = 1.0) -> Tensor:
        """Return the log-probability of each sampled token, shape ``(tokens,)``, with gradient."""
        return pick_logprobs(log_distributions(self.logits(batch), temperature), batch.targets.to(self.device))

    @contextlib.contextmanager
    def adapters_off(self) -> Iterator[None]:
        """Act as the model without its adapters, which is the reference of a LoRA run."""
        with self.model.disable_adapter():
            yield

    def step(self, batches: Iterable[MicroBatch], loss_of: Callable[[MicroBatch], Tensor]) -> StepResult:
        """Take one optimizer step over micro-batches whose losses add up.

        Args:
            batches: The micro-batches.
            loss_of: Gives the weighted sum of a micro-batch's token losses.

        Raises:
            DivergenceError: The loss or the gradient is not finite; the weights stay as they were.
        """
        self.optimizer.zero_grad()
        total = 0.0
        for batch in batches:
            loss = loss_of(batch)
            loss.backward()
            total += float(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise DivergenceError(
                f"the loss is {total} and the gradient's norm {norm}; the weights were left as they were. Lower the "
                "learning rate, or train in float32"
            )
        self.optimizer.step()
        return StepResult(total, norm)

    def set_learning_rate(self, factor: float) -> float:
        """Set the learning rate to ``factor`` times its peak and return it."""
        rate = self.config.learning_rate * factor
        self.optimizer.set_learning_rate(rate)
        return rate

    def save_model(self, out_dir: str | os.PathLike[str]) -> None:
        """Write a Hugging Face directory, adapters merged, tokenizer included."""
        from agentgym.train.sync import named_weights

        whole = self.model
        if self.config.lora is not None:
            whole = load_model(self.model_dir)
            whole.load_state_dict(dict(named_weights(self.model)), strict=False)
        with quiet_transformers():
            whole.save_pretrained(out_dir)
            self.tokenizer.save_pretrained(out_dir)

    def adapter_state(self) -> dict[str, Tensor]:
        """Return the adapters' tensors by name; empty without adapters."""
        if self.config.lora is None:
            return {}
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        """Take adapters back.

        Raises:
            ModelError: They are of another model or rank.
        """
        own = self.adapter_state()
        if own.keys() != state.keys() or any(own[name].shape != state[name].shape for name in own):
            raise ModelError("the checkpoint's adapters do not fit the recipe's model.lora; use the run's own recipe")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])


def load_model(model_dir: str | os.PathLike[str]) -> Any:
    """Load a causal language model in float32.

    Raises:
        ModelError: The directory is not whole.
    """
    from transformers import AutoModelForCausalLM

    check_model_dir(model_dir)
    try:
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="sdpa")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"transformers cannot load the model in {model_dir}: {error}") from error
    return model.to("cuda") if torch.cuda.is_available() else model


def _has_plain_cache(model: Any) -> bool:
    """Say whether the model's cache is nothing but the keys and values of all tokens, which gradients flow through."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    layers = DynamicCache(config=model.config).layers
    return not model._is_stateful and all(type(layer) is DynamicLayer for layer in layers)


def _takes_trees(model: Any) -> bool:
    """Say whether a token can be told its place and what to see: windows, states and ALiBi have their own ways."""
    places = "position_ids" in inspect.signature(model.forward).parameters and not getattr(model.config, "alibi", False)
    return places and _has_plain_cache(model)


def _sharing(model: Any, config: LearnerConfig) -> Sharing:
    if config.gradient_checkpointing or not _has_plain_cache(model):
        return "none"
    return "many" if _takes_trees(model) else "one"


def log_distributions(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the log-probability of every token, shape ``(tokens, vocabulary)``, as its argument's."""
    return (logits if temperature == 1 else logits / temperature).log_softmax(-1)


def pick_logprobs(distributions: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of each target, given those of every token."""
    return distributions.gather(-1, targets[:, None])[:, 0]


def entropy_of(distributions: Tensor) -> Tensor:
    """Return the entropy of each distribution in nats, without gradient, given the log-probability of every token."""
    with torch.no_grad():
        return -(distributions.exp() * distributions).sum(-1)


def _add_adapters(base: Any, lora: LoraSection, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(base, config)
        except ValueError as error:
            raise ModelError(f"model.lora.targets = {lora.targets!r} does not fit the model: {error}") from error
