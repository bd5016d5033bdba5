"""Several engines in the place of one: each samples, each gets the weights, and none outlives the others."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from agentgym.errors import ContextLimitError, InfrastructureError, ModelError, OffPolicyError
from agentgym.policy import SamplingParams
from agentgym.train.config import TinySection
from agentgym.train.engine import EngineConfig
from agentgym.train.models import build_tiny
from agentgym.train.replicas import EngineReplicas
from agentgym.train.sync import assert_on_policy, push_weights, trainer_logprobs

pytestmark = pytest.mark.e2e
PROMPTS = [list(range(10 + i, 60 + 7 * i)) for i in range(8)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(100)]
    return build_tiny(texts, tmp_path_factory.mktemp("models") / "tiny", TinySection(hidden=128, layers=2))


def open_two(tiny: Path) -> EngineReplicas:
    return EngineReplicas(EngineConfig(str(tiny), max_model_len=512, max_num_seqs=16, kv_cache_bytes=64 << 20), 2)


@pytest.fixture(scope="module")
def replicas(tiny: Path) -> Iterator[EngineReplicas]:
    replicas = open_two(tiny)
    yield replicas
    replicas.close()


def perturbed(tiny: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


async def test_each_route_has_its_own_prefix_cache(replicas: EngineReplicas) -> None:
    sampling = SamplingParams(temperature=1.0, max_tokens=4)
    first = await asyncio.gather(*(replicas.generate(PROMPTS[7], sampling, route=route) for route in (0, 1)))
    again = await asyncio.gather(*(replicas.generate(PROMPTS[7], sampling, route=route) for route in (0, 1, 2, 3)))
    assert [sample.cached_tokens for sample in first] == [0, 0]
    assert all(sample.cached_tokens >= 64 for sample in again)
    assert replicas.running == 0


async def test_errors_come_as_from_one_engine(replicas: EngineReplicas) -> None:
    for route in (0, 1):
        with pytest.raises(ContextLimitError, match="600 tokens"):
            await replicas.generate([5] * 600, SamplingParams(), route=route)
        with pytest.raises(ModelError, match="outside"):
            await replicas.generate([10**6], SamplingParams(), route=route)


def test_both_are_proved_to_have_the_trainers_weights(replicas: EngineReplicas, tiny: Path) -> None:
    model = perturbed(tiny)
    with pytest.raises(OffPolicyError):
        assert_on_policy(replicas, model, PROMPTS)
    push_weights(replicas, model)
    assert assert_on_policy(replicas, model, PROMPTS) < 1e-3
    text = PROMPTS[3]
    for _ in range(2):  # one each
        scores = replicas.submit_score(text).result()
        assert scores == pytest.approx(trainer_logprobs(model, text[:1], text[1:]), abs=1e-3)


async def test_a_replica_that_dies_is_told_to_all_who_wait_and_later(tiny: Path) -> None:
    replicas = open_two(tiny)
    try:
        pid = replicas._others[0]._process.pid
        assert pid is not None
        waiting = asyncio.ensure_future(
            replicas.generate(PROMPTS[0], SamplingParams(temperature=1.0, max_tokens=400), route=1)
        )
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InfrastructureError, match="died"):
            await waiting
        with pytest.raises(InfrastructureError, match="died"):
            await replicas.generate(PROMPTS[0], SamplingParams(), route=1)
        assert (await replicas.generate(PROMPTS[0], SamplingParams(max_tokens=2), route=0)).token_ids
    finally:
        replicas.close()


def test_a_model_that_a_replica_refuses_leaves_no_process(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        EngineReplicas(EngineConfig(str(tmp_path)), 2)
    left = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in left if b"agentgym-replica" in Path(f"/proc/{pid}/cmdline").read_bytes()]
