"""The engine on real models: sampling, continuous batching, faults, and the proof of on-policy."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentgym.errors import (
    ContextLimitError,
    InfrastructureError,
    ModelError,
    OffPolicyError,
    RewardError,
    UsageError,
)
from agentgym.policy import SamplingParams
from agentgym.rewards.trajectory_reward import Continuation
from agentgym.train.config import TinySection
from agentgym.train.engine import EngineConfig, VllmEngine
from agentgym.train.models import build_tiny, load_tokenizer, resolve_model
from agentgym.train.scoring import EngineModel
from agentgym.train.sync import assert_on_policy, measure_sync_error, push_weights, trainer_logprobs

pytestmark = pytest.mark.e2e
PROMPTS = [list(range(10 + i, 60 + 7 * i)) for i in range(8)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(100)]
    return build_tiny(texts, tmp_path_factory.mktemp("models") / "tiny", TinySection(hidden=128, layers=2))


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[VllmEngine]:
    engine = VllmEngine(EngineConfig(str(tiny), max_model_len=512, max_num_seqs=16, kv_cache_bytes=64 << 20))
    yield engine
    engine.close()


def load(path: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def perturb(model: Any, seed: int) -> None:
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2 * parameter.std().clamp(min=0.02))


async def test_samples_carry_their_logprobs(engine: VllmEngine, tiny: Path) -> None:
    push_weights(engine, model := load(tiny))
    samples = await asyncio.gather(*(engine.generate(prompt, SamplingParams(max_tokens=9)) for prompt in PROMPTS))
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        assert len(sample.token_ids) == len(sample.logprobs) == 9
        assert sample.finish_reason == "length"
        assert sample.logprobs == pytest.approx(trainer_logprobs(model, prompt, sample.token_ids), abs=1e-4)
        scores = await engine.score([*prompt, *sample.token_ids])
        assert len(scores) == len(prompt) + 8
        assert scores[-9:] == pytest.approx(sample.logprobs, abs=1e-4)


def test_it_gives_way_to_worlds_that_compute(engine: VllmEngine) -> None:
    nice = engine.call(lambda _: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert nice > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_reward_methods_may_ask_the_engine(engine: VllmEngine, tiny: Path) -> None:
    push_weights(engine, model := load(tiny))
    asked = [Continuation(prompt, [5 + i, 9, 7][: 1 + i % 3]) for i, prompt in enumerate(PROMPTS)]
    scores = EngineModel(engine, load_tokenizer(tiny)).score(asked)
    for one, own in zip(asked, scores, strict=True):
        assert own == pytest.approx(trainer_logprobs(model, one.context_ids, one.ids), abs=1e-4)
    with pytest.raises(RewardError, match="at least one"):
        EngineModel(engine, load_tokenizer(tiny)).score([Continuation(PROMPTS[0], [])])


async def test_logprobs_are_of_the_distribution_sampled_from(engine: VllmEngine, tiny: Path) -> None:
    import torch

    push_weights(engine, model := load(tiny))
    sampling = SamplingParams(temperature=0.5, top_p=0.6, max_tokens=1)
    for sample in await asyncio.gather(*(engine.generate(PROMPTS[0], sampling) for _ in range(20))):
        with torch.no_grad():
            probabilities = (model(torch.tensor([PROMPTS[0]])).logits[0, -1] / 0.5).softmax(-1)
        ordered, order = probabilities.sort(descending=True)
        kept = order[: int((ordered.cumsum(0) - ordered < 0.6).sum())]
        expected = (probabilities[sample.token_ids[0]] / probabilities[kept].sum()).log().item()
        assert sample.token_ids[0] in kept.tolist()
        assert sample.logprobs[0] == pytest.approx(expected, abs=1e-3)


async def test_a_stop_token_ends_the_sample_and_belongs_to_it(engine: VllmEngine) -> None:
    free = await engine.generate(PROMPTS[0], SamplingParams(temperature=0.0, max_tokens=8))
    stop = free.token_ids[3]
    sample = await engine.generate(PROMPTS[0], SamplingParams(temperature=0.0, max_tokens=8), [stop])
    assert sample.finish_reason == "stop"
    assert sample.token_ids[-1] == stop
    assert sample.token_ids == free.token_ids[: len(sample.token_ids)]
    assert len(sample.logprobs) == len(sample.token_ids)


async def test_the_same_seed_samples_the_same(engine: VllmEngine) -> None:
    async def sample(seed: int) -> tuple[int, ...]:
        return (await engine.generate(PROMPTS[1], SamplingParams(max_tokens=12, seed=seed))).token_ids

    alone = await sample(5)
    crowd = await asyncio.gather(*(sample(seed) for seed in (5, 6, 7)))
    assert crowd[0] == alone
    assert len(set(crowd)) == 3


async def test_a_late_request_joins_the_running_batch(engine: VllmEngine) -> None:
    long = asyncio.ensure_future(engine.generate(PROMPTS[0], SamplingParams(max_tokens=300)))
    await asyncio.sleep(0)  # lets the task submit its request
    assert engine.call(lambda llm: llm.has_unfinished_requests())
    await engine.generate(PROMPTS[1], SamplingParams(max_tokens=2))
    assert not long.done()
    assert len((await long).token_ids) == 300


async def test_prefixes_are_computed_once_and_counted(engine: VllmEngine) -> None:
    engine.call(lambda llm: llm.reset_prefix_cache())
    prompt = [random.Random(1).randrange(10, 100) for _ in range(200)]
    first = await engine.generate(prompt, SamplingParams(max_tokens=4))
    before = engine.counters.cached_prompt_tokens
    second = await engine.generate([*prompt, *first.token_ids, 11, 12], SamplingParams(max_tokens=4))
    assert first.cached_tokens == 0
    assert second.cached_tokens >= 192
    assert engine.counters.cached_prompt_tokens - before == second.cached_tokens


async def test_cancelling_ends_the_request(engine: VllmEngine) -> None:
    task = asyncio.ensure_future(engine.generate(PROMPTS[0], SamplingParams(max_tokens=400)))
    await asyncio.sleep(0)  # lets the task submit its request
    assert engine.call(lambda llm: llm.has_unfinished_requests())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not engine.call(lambda llm: llm.has_unfinished_requests())
    assert engine.running == 0


async def test_what_a_step_has_finished_wakes_the_loop_once(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    wake, woken = loop.call_soon_threadsafe, []
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: (woken.append(call), wake(*call))[1])
    await asyncio.gather(*(engine.generate(prompt, SamplingParams(max_tokens=6)) for prompt in PROMPTS))
    assert 1 <= len(woken) <= 2, "eight requests that end together, or all but the first, which began a step earlier"


def test_a_loop_that_is_gone_leaves_the_engine_to_others(engine: VllmEngine) -> None:
    held: list[asyncio.Future[Any]] = []

    async def leave() -> None:
        held.append(asyncio.ensure_future(engine.generate(PROMPTS[0], SamplingParams(max_tokens=20))))
        await asyncio.sleep(0)  # lets the task submit its request

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    loop.close()
    assert len(engine.submit(PROMPTS[1], SamplingParams(max_tokens=60)).result().token_ids) == 60
    assert engine.running == 0
    assert not held[0].done()


async def test_what_does_not_fit_is_said(engine: VllmEngine) -> None:
    with pytest.raises(ContextLimitError, match="512"):
        await engine.generate([10] * 512, SamplingParams())
    for prompt in ([10**9], [-1], []):
        with pytest.raises(ModelError, match="token ids"):
            await engine.generate(prompt, SamplingParams())
    with pytest.raises(UsageError, match="max_tokens"):
        await engine.generate([10], SamplingParams(max_tokens=-1))
    assert (await engine.generate([10] * 510, SamplingParams(max_tokens=50))).finish_reason == "length"


def test_on_policy_is_proved_after_a_push_and_refuted_before(engine: VllmEngine, tiny: Path) -> None:
    model = load(tiny)
    for seed in range(3):
        perturb(model, seed)
        assert measure_sync_error(engine, model, PROMPTS) > 0.05
        with pytest.raises(OffPolicyError, match="push_weights"):
            assert_on_policy(engine, model, PROMPTS)
        push_weights(engine, model)
        assert assert_on_policy(engine, model, PROMPTS) < 1e-4


def test_adapters_are_merged_on_the_way_and_the_trainer_keeps_its_weights(engine: VllmEngine, tiny: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        load(tiny), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.1)
    )
    perturb(model, 3)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    assert measure_sync_error(engine, model, PROMPTS) > 0.05
    push_weights(engine, model)
    assert assert_on_policy(engine, model, PROMPTS) < 1e-4
    assert all(before[name].equal(parameter) for name, parameter in model.named_parameters())


def test_weights_are_not_pushed_under_a_running_request(engine: VllmEngine, tiny: Path) -> None:
    future = engine.submit(PROMPTS[0], SamplingParams(max_tokens=400))
    with pytest.raises(InfrastructureError, match=r"between batches|during the push"):
        push_weights(engine, load(tiny))
    assert len(future.result().token_ids) == 400


def test_two_engines_one_after_the_other_leave_the_process_as_it_was(tiny: Path) -> None:
    import torch

    environment, threads = dict(os.environ), torch.get_num_threads()
    torch.manual_seed(7)
    random.seed(7)
    draws = torch.rand(1), random.random()
    for _ in range(2):
        torch.manual_seed(7)
        random.seed(7)
        engine = VllmEngine(EngineConfig(str(tiny), max_model_len=128, kv_cache_bytes=16 << 20))
        assert (torch.rand(1), random.random()) == draws
        pending = engine.submit(PROMPTS[0], SamplingParams(max_tokens=60, temperature=0.0))
        engine.close()
        engine.close()
        with pytest.raises(InfrastructureError, match="closed"):
            pending.result()
        with pytest.raises(InfrastructureError, match="closed"):
            engine.submit(PROMPTS[0], SamplingParams())
    assert not [
        thread for thread in threading.enumerate() if thread.name == "agentgym-vllm" and thread is engine._thread
    ]
    assert {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")} == {
        name: value for name, value in environment.items() if not name.startswith("VLLM_")
    }
    torch.set_num_threads(threads)
    assert torch.get_num_threads() == threads


def test_the_norms_are_compiled_and_vllms_own_agree(engine: VllmEngine) -> None:
    import torch
    from vllm import ir

    torch.manual_seed(0)
    x, residual, weight = torch.randn(5, 128), torch.randn(5, 128), torch.randn(128)

    def chosen(_: Any) -> list[str]:
        return [ir.ops.rms_norm.dispatch(x, weight, 1e-6).provider, ir.ops.rms_norm.dispatch(x, None, 1e-6).provider]

    assert engine.call(chosen) == ["agentgym_cpu", "native"]
    for name, tensors in (("rms_norm", (x,)), ("fused_add_rms_norm", (x, residual))):
        implementations = getattr(ir.ops, name).impls
        ours, theirs = (
            implementations[provider].impl_fn(*(tensor.clone() for tensor in tensors), weight, 1e-6)
            for provider in ("agentgym_cpu", "native")
        )
        torch.testing.assert_close(ours, theirs)


async def test_a_failing_step_is_told_to_everybody(tiny: Path) -> None:
    engine = VllmEngine(EngineConfig(str(tiny), max_model_len=512, kv_cache_bytes=16 << 20))

    def drop_weights(llm: Any) -> None:
        llm.apply_model(lambda model: setattr(model.model, "norm", None))

    engine.call(drop_weights)
    requests = [engine.generate(prompt, SamplingParams(max_tokens=4)) for prompt in PROMPTS]
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(outcome, InfrastructureError) and "failed" in str(outcome) for outcome in outcomes)
    with pytest.raises(InfrastructureError, match="failed"):
        await engine.generate(PROMPTS[0], SamplingParams())
    engine.close()


def test_a_model_that_vllm_refuses_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot open"):
        VllmEngine(EngineConfig(str(tmp_path)))


def test_smollm2_is_on_policy_after_a_push() -> None:
    path = resolve_model("smollm2")
    model = load(path)
    engine = VllmEngine(EngineConfig(str(path), max_model_len=256, kv_cache_bytes=64 << 20))
    try:
        assert assert_on_policy(engine, model, PROMPTS[:4]) < 1e-3
        perturb(model, 0)
        assert measure_sync_error(engine, model, PROMPTS[:4]) > 0.5
        push_weights(engine, model)
        assert assert_on_policy(engine, model, PROMPTS[:4]) < 1e-3
    finally:
        engine.close()
