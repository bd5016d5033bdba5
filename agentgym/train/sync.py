"""Sync: the trainer's weights into the sampler, and the proof that they arrived.

A sampler that lags behind its trainer fails silently: rewards still rise, only slower and for the wrong reason. So
after a push, freshly sampled tokens are scored by the trainer, and both log-probabilities must agree.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from agentgym.errors import OffPolicyError
from agentgym.policy import SamplingParams
from agentgym.train.engine import VllmEngine
from agentgym.train.replicas import EngineReplicas

TOLERANCE = 1e-3  # nats per token, fp32; done right, 1e-6 (tiny) to 1e-4 (SmolLM2-135M) is measured


def push_weights(engine: VllmEngine | EngineReplicas, model: Any) -> None:
    """Copy the trainer's parameters into the engine, and forget every cached prefix of the old ones.

    Args:
        engine: Must be idle: cached keys and values of a request in flight would be of two models.
        model: A ``transformers`` model of the same architecture, or a PEFT model around one, whose adapters are
            merged on the way, a layer at a time, in copies: the model itself is only read.

    Raises:
        InfrastructureError: Requests are in flight, or vLLM did not take the weights.
    """
    engine.load(named_weights(model))


def measure_sync_error(
    engine: VllmEngine | EngineReplicas, model: Any, prompts: Sequence[Sequence[int]], *, max_tokens: int = 16
) -> float:
    """Sample from the engine and compare its log-probabilities with the trainer's own.

    Args:
        engine: The sampler.
        model: The trainer's model, as it trains (call under its autocast, if it has any).
        prompts: Token ids to continue, one request each.
        max_tokens: Tokens per request.

    Returns:
        The largest absolute difference over all sampled tokens, in nats, at temperature 1.
    """
    sampling = SamplingParams(temperature=1.0, top_p=1.0, max_tokens=max_tokens)
    samples = [future.result() for future in [engine.submit(prompt, sampling) for prompt in prompts]]
    was_training = model.training
    model.eval()  # adapters have dropout
    try:
        errors = [
            abs(ours - theirs)
            for prompt, sample in zip(prompts, samples, strict=True)
            for ours, theirs in zip(trainer_logprobs(model, prompt, sample.token_ids), sample.logprobs, strict=True)
        ]
    finally:
        model.train(was_training)
    return max(errors, default=0.0)


def assert_on_policy(
    engine: VllmEngine | EngineReplicas, model: Any, prompts: Sequence[Sequence[int]], *, tolerance: float = TOLERANCE
) -> float:
    """Check that the engine samples from the trainer's present policy.

    Returns:
        The measured error, at most ``tolerance``.

    Raises:
        OffPolicyError: It does not.
    """
    error = measure_sync_error(engine, model, prompts)
    if not error <= tolerance:  # also catches NaN
        raise OffPolicyError(
            f"the sampler is not the trainer's policy: log-probabilities of fresh samples differ by {error:.2g} nats, "
            f"more than {tolerance:.2g}. Push the weights after every update (push_weights); if that was done, "
            "open the engine in float32, or, if it must be bfloat16, raise the tolerance to some 0.1 and "
            "use truncated importance sampling"
        )
    return error


def trainer_logprobs(model: Any, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> list[float]:
    """Return the model's log-probability of each of ``token_ids`` after the prompt, at temperature 1."""
    import torch

    ids = torch.tensor([[*prompt_ids, *token_ids]], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1].float()
    logprobs: list[float] = logits.log_softmax(-1).gather(-1, ids[0, len(prompt_ids) :, None])[:, 0].tolist()
    return logprobs


def named_weights(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield a model's parameters under their names in a checkpoint, PEFT adapters merged into copies."""
    if not hasattr(model, "peft_config"):
        for name, parameter in model.named_parameters():
            yield name, parameter.detach()
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    inner = model.get_base_model()
    adapted = {name: module for name, module in inner.named_modules() if isinstance(module, BaseTunerLayer)}
    for name, module in adapted.items():
        merged = copy.deepcopy(module)  # merging in place and back would leave rounding errors in the trainer's weights
        merged.eval()
        merged.merge()
        for parameter_name, parameter in merged.get_base_layer().named_parameters():
            yield f"{name}.{parameter_name}", parameter.detach()
    for name, parameter in inner.named_parameters():
        if not any(name.startswith(f"{prefix}.") for prefix in adapted) and ".original_module." not in name:
            yield name.replace(".modules_to_save.default.", "."), parameter.detach()
