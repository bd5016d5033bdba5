"""The openai policy against a real vLLM server on loopback that serves a real model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentgym import Completion, Dialogue, Message, UsageError, make_policy
from agentgym.errors import ContextLimitError, InfrastructureError
from agentgym.evaluate import WorldOptions, evaluate

pytestmark = pytest.mark.e2e
PACK = Path(__file__).parents[1] / "fixtures" / "corridor_pack"
START_TIMEOUT_S = 240


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve SmolLM2 in a window of 256 tokens; ended with all its processes."""
    from agentgym.train.models import resolve_model

    port, log = _free_port(), tmp_path_factory.mktemp("server") / "vllm.log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(resolve_model("smollm2"))]
    command += ["--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--max-model-len", "256", "--max-num-seqs", "8", "--enforce-eager"]
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **offline}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_healthy(port):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _dialogue(text: str = "What is the capital of France? Answer in one word.", **fields: Any) -> Dialogue:
    return Dialogue(0, 7, messages=[Message("user", text)], **fields)


def _ask(dialogue: Dialogue, **arguments: Any) -> Completion:
    async def ask() -> Completion:
        policy = make_policy("openai", **{"model": "smollm2", **arguments})
        try:
            said: Completion = await policy.act(dialogue)
            return said
        finally:
            await policy.aclose()

    return asyncio.run(ask())


def test_real_model_answers(server: str) -> None:
    said = _ask(_dialogue(), base_url=server, temperature=0.0, max_tokens=16)
    assert "Paris" in said.text
    assert said.finish_reason == "stop"
    cut = _ask(_dialogue(), base_url=server, temperature=0.0, max_tokens=1)
    assert cut.finish_reason == "length"


def test_it_reads_the_whole_dialogue(server: str) -> None:
    dialogue = Dialogue(
        0,
        7,
        system_prompt="You are a parrot.",
        messages=[
            Message("user", "My name is Beatrix."),
            Message("assistant", "Hello Beatrix."),
            Message("user", "What is my name?"),
        ],
    )
    assert "Beatrix" in _ask(dialogue, base_url=server, temperature=0.0, max_tokens=24).text


def test_episodes_are_played_at_once_and_the_policy_survives_its_loop(server: str, guess_id: str) -> None:
    policy = make_policy("openai", model="smollm2", base_url=server, max_tokens=4, seed=0)
    options = WorldOptions(concurrency=4, env_kwargs={"max_turns": 2})
    for _ in range(2):  # each evaluate() has an event loop of its own
        played = evaluate(guess_id, policy, split="valid", episodes=6, options=options)
        assert played.infrastructure_failures == 0
        assert played.endings.keys() <= {"terminated", "truncated"}
        assert all(turn.action or turn.invalid_action for t in played.trajectories for turn in t.turns)
    asyncio.run(policy.aclose())


def test_seed_repeats_the_answer(server: str) -> None:
    def told(episode: int, seed: int) -> str:
        dialogue = Dialogue(episode, 7, messages=[Message("user", "Tell me a story.")])
        return _ask(dialogue, base_url=server, temperature=1.0, max_tokens=12, seed=seed).text

    assert told(0, 1) == told(0, 1)
    assert len({told(0, 1), told(1, 1), told(0, 2)}) == 3


def test_stop_text_and_surrogates(server: str) -> None:
    said = _ask(
        _dialogue("Count: 1, 2, 3, 4, 5, 6 \ud800"), base_url=server, temperature=0.0, max_tokens=40, stop=["3"]
    )
    assert "3" not in said.text


def test_full_window_is_a_context_limit(server: str, guess_id: str) -> None:
    with pytest.raises(ContextLimitError, match="maximum context length"):
        _ask(_dialogue("word " * 400), base_url=server, max_tokens=4)
    policy = make_policy("openai", model="smollm2", base_url=server, max_tokens=40, temperature=1.5)
    played = evaluate(guess_id, policy, split="valid", episodes=2)
    asyncio.run(policy.aclose())
    assert played.infrastructure_failures == 0
    assert any(t.ended == "context" or t.success for t in played.trajectories)


def test_unknown_model_is_the_users_mistake(server: str) -> None:
    with pytest.raises(UsageError, match="'gpt-nowhere'.*does not exist"):
        _ask(_dialogue(), base_url=server, model="gpt-nowhere")


def test_wrong_parameter_is_the_users_mistake(server: str) -> None:
    with pytest.raises(UsageError, match="temperature"):
        _ask(_dialogue(), base_url=server, temperature=-3.0)


def test_wrong_path_is_told(server: str) -> None:
    with pytest.raises(UsageError, match="refused"):
        _ask(_dialogue(), base_url=server.removesuffix("/v1"))


def test_command_line_evaluates_the_server(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PACK))
    command = [sys.executable, "-m", "agentgym.cli.main", "eval", "agentgym/Corridor-v0", "--split", "valid", "--json"]
    command += ["--policy", "openai", "--policy-arg", "model=smollm2", "--policy-arg", f"base_url={server}"]
    command += ["--policy-arg", "max_tokens=6", "--episodes", "3", "--env-arg", "max_turns=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["episodes"] == 3


def test_nobody_listening_is_a_fault_that_says_what_to_check() -> None:
    with pytest.raises(InfrastructureError, match="is it running, is base_url right"):
        _ask(_dialogue(), base_url=f"http://127.0.0.1:{_free_port()}/v1", max_retries=1)


def test_silent_server_meets_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started_s = time.monotonic()
        with pytest.raises(InfrastructureError, match="cannot be reached"):
            _ask(_dialogue(), base_url=f"http://127.0.0.1:{silent.getsockname()[1]}/v1", timeout_s=0.5, max_retries=0)
        assert time.monotonic() - started_s < 10


def test_lost_server_masks_the_episodes(guess_id: str) -> None:
    policy = make_policy("openai", model="m", base_url=f"http://127.0.0.1:{_free_port()}/v1", max_retries=0)
    played = evaluate(guess_id, policy, split="valid", episodes=3)
    asyncio.run(policy.aclose())
    assert played.infrastructure_failures == 3
    assert played.success is None


def test_key_and_model_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError, match="needs a model"):
        make_policy("openai")
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        make_policy("openai", model="gpt")
    with pytest.raises(UsageError, match="heat"):
        make_policy("openai", model="gpt", api_key="k", heat=1)
