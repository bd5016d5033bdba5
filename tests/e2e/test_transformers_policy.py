"""The transformers policy with a real model in real episodes: exact tokens, honest log-probabilities."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentgym import Completion, Dialogue, Message, UsageError, make_policy
from agentgym.actions import PlainCommand
from agentgym.errors import ContextLimitError, ModelError
from agentgym.evaluate import WorldOptions, evaluate

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from agentgym.train.config import TinySection
    from agentgym.train.models import build_tiny

    texts = [
        "Guess a digit.",
        "Guess.",
        PlainCommand.instructions,
        "Too low. Too high. That is no digit. Right.",
        "0 1 2 3 4 5 6 7 8 9",
    ]
    return build_tiny(
        texts, tmp_path_factory.mktemp("models") / "tiny", TinySection(hidden=64, layers=2), context=192, seed=1
    )


@pytest.fixture
def policy(tiny: Path) -> Iterator[Any]:
    made = make_policy("transformers", model=str(tiny), max_tokens=6, seed=0)
    yield made
    asyncio.run(made.aclose())


def _dialogue(**fields: Any) -> Dialogue:
    return Dialogue(0, 7, system_prompt="Guess a digit.", messages=[Message("user", "Guess.")], **fields)


def _act(policy: Any, dialogue: Dialogue) -> Completion:
    said: Completion = asyncio.run(policy.act(dialogue))
    return said


def _own_logprobs(policy: Any, ids: list[int], temperature: float = 1.0) -> list[float]:
    """Log-probability of each id but the first, by one forward pass over the whole sequence."""
    import torch

    with torch.inference_mode():
        logits = policy.model(torch.tensor([ids])).logits[0, :-1].float() / temperature
    picked = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return [float(value) for value in picked]


def test_episodes_carry_exact_tokens_and_their_logprobs(policy: Any, guess_id: str) -> None:
    played = evaluate(
        guess_id,
        policy,
        split="valid",
        episodes=4,
        options=WorldOptions(concurrency=4, env_kwargs={"max_turns": 3}),
    )
    assert played.infrastructure_failures == 0
    assert played.sampled_tokens
    for trajectory in played.trajectories:
        ids, mask, logprobs = trajectory.token_ids()
        own = [0.0, *_own_logprobs(policy, ids)]
        for position, sampled in enumerate(mask):
            if sampled:
                assert logprobs[position] == pytest.approx(own[position], abs=2e-4)
        for turn in trajectory.turns:
            assert ids[slice(*turn.span)] == list(turn.token_ids)
            assert policy.renderer.action_text(turn.token_ids) == turn.action
            assert 1 <= len(turn.token_ids) <= 6


def test_logprobs_are_those_of_the_tempered_distribution(policy: Any) -> None:
    policy.sampling = replace(policy.sampling, temperature=0.5)
    said = _act(policy, _dialogue())
    own = _own_logprobs(policy, [*said.prompt_ids, *said.token_ids], temperature=0.5)
    assert list(said.logprobs) == pytest.approx(own[-len(said.token_ids) :], abs=2e-4)


def test_chance_is_the_dialogues_own(policy: Any) -> None:
    import torch

    state = torch.random.get_rng_state()
    alone = [_act(policy, _dialogue(task_id=str(i))) for i in range(2)]
    assert alone[0] == alone[1]
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's chance is its own"

    async def together() -> list[Completion]:
        seeds = [7, 8, 9, 7]
        return await asyncio.gather(*(policy.act(replace(_dialogue(), seed=seed)) for seed in seeds))

    answers = asyncio.run(together())
    assert answers[0] == answers[3] == alone[0]
    assert len({answer.token_ids for answer in answers}) == 3


def test_greedy_takes_the_likeliest(policy: Any) -> None:
    policy.sampling = replace(policy.sampling, temperature=0.0)
    said = _act(policy, _dialogue())
    own = _own_logprobs(policy, [*said.prompt_ids, *said.token_ids])
    assert list(said.logprobs) == pytest.approx(own[-len(said.token_ids) :], abs=2e-4)
    assert said == _act(policy, replace(_dialogue(), seed=99))
    assert max(said.logprobs) < 0
    assert math.exp(said.logprobs[0]) >= 1 / policy.model.config.vocab_size


def test_full_window_ends_the_episode_as_context(policy: Any, guess_id: str) -> None:
    with pytest.raises(ContextLimitError, match="window of 192"):
        _act(policy, _dialogue(token_ids=[5] * 192))
    said = _act(policy, _dialogue(token_ids=[5] * (190 - len(policy.renderer.prompt_ids(_dialogue(token_ids=[5]))))))
    assert len(said.token_ids) <= 2, "what room is left is used and no more"
    played = evaluate(guess_id, policy, split="valid", episodes=2, options=WorldOptions(env_kwargs={"max_turns": 50}))
    assert played.endings == {"context": 2}
    assert played.success is not None
    assert played.success.estimate == 0


def test_mistakes_say_what_to_do(tiny: Path, tmp_path: Path) -> None:
    for arguments, error, said in [
        ({}, UsageError, "model=smollm2"),
        ({"model": str(tmp_path / "nowhere")}, ModelError, "no model at"),
        ({"model": str(tiny), "dtype": "float31"}, UsageError, "float31"),
        ({"model": str(tiny), "stop": ("x",)}, UsageError, "end of turn"),
        ({"model": str(tiny), "heat": 1}, UsageError, "heat"),
        ({"model": str(tiny), "device": "toaster"}, ModelError, "toaster"),
    ]:
        with pytest.raises(error, match=said):
            make_policy("transformers", **arguments)
