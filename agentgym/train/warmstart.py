"""Warm start: supervised training on what the environment's scripted expert says."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from agentgym.chat import ChatRenderer
from agentgym.errors import RecipeError
from agentgym.evaluate import WorldOptions, play_plan
from agentgym.registry import make_policy
from agentgym.rollout import Episode
from agentgym.train.batch import MicroBatch, TokenSequence, collate, weigh
from agentgym.train.checkpoint import writing_directory
from agentgym.train.config import Recipe
from agentgym.train.curriculum import TaskStream
from agentgym.train.learner import Learner, LearnerConfig
from agentgym.train.metrics import RunLog, memory_mb
from agentgym.train.models import build_tiny, load_tokenizer, resolve_model
from agentgym.trajectory import Trajectory


def prepare_model(recipe: Recipe, stream: TaskStream, log: RunLog) -> Path:
    """Return the directory of the model that GRPO starts from; made once per run, then found again.

    Raises:
        RecipeError: The expert won no episode, or none fits the context.
        ModelError: The model cannot be loaded.
        UsageError: The environment has no expert.
    """
    warm = recipe.run_dir / "warmstart"
    if warm.exists():
        return warm
    settings = recipe.warmstart
    shown = _play(recipe, "expert", stream.demonstrations(settings.episodes)) if settings.episodes else []
    base = _make_tiny(recipe, stream, shown) if recipe.model.name == "tiny" else resolve_model(recipe.model.name)
    if not settings.episodes:
        return base
    learner = Learner(
        base,
        LearnerConfig(
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            autocast=recipe.model.dtype == "bfloat16",
            gradient_checkpointing=recipe.model.gradient_checkpointing,
            lora=recipe.model.lora,
            seed=recipe.run.seed,
        ),
    )
    learned = [t for t in shown if t.scorable and (t.success or not settings.only_successes)]
    if not learned:
        raise RecipeError(
            f"the expert won none of {len(shown)} episodes of {recipe.env.id}: there is nothing to learn from. See "
            "what goes wrong with `agentgym run ENV_ID --policy expert`, or set warmstart.only_successes = false"
        )
    renderer = ChatRenderer(load_tokenizer(base))
    sequences = [demonstration(t, renderer, recipe.sampling.context) for t in learned]
    _fit(learner, [s for s in sequences if s.sampled_tokens], recipe, log)
    with writing_directory(warm) as unfinished:
        learner.save_model(unfinished)
    return warm


def demonstration(trajectory: Trajectory, renderer: ChatRenderer, context: int) -> TokenSequence:
    """Tokenise a dialogue: actions and their ends of turn are learned, what the environment says is not.

    Args:
        trajectory: Played by a policy without tokens.
        renderer: As the sampler's, so that the model meets what it was shown.
        context: Longest sequence; turns that do not fit are left out.
    """
    ids: list[int] = []
    sampled: list[bool] = []
    for number, turn in enumerate(trajectory.turns):
        if number == 0:
            prompt = renderer.opening_ids(trajectory.system_prompt, turn.observation)
        else:
            prompt = renderer.reply_ids(turn.observation, closed=True)
        action = renderer.action_ids(turn.action)
        if len(ids) + len(prompt) + len(action) > context:
            break
        ids += prompt + action
        sampled += [False] * len(prompt) + [True] * len(action)
    nothing = np.zeros(len(ids), dtype=np.float32)
    return TokenSequence(np.array(ids, dtype=np.int64), np.array(sampled, dtype=bool), nothing, nothing, nothing)


def cosine(step: int, steps: int, warmup: float, floor: float = 0.1) -> float:
    """Return the share of the peak learning rate at ``step`` (from 0): linear rise, then a cosine down to ``floor``."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    progress = (step - rise) / max(1, steps - rise)
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2


def _fit(learner: Learner, sequences: Sequence[TokenSequence], recipe: Recipe, log: RunLog) -> None:
    settings = recipe.warmstart
    chance = np.random.default_rng([recipe.run.seed, 3])
    plan = [batch for _ in range(settings.epochs) for batch in _batches(sequences, settings.tokens_per_batch, chance)]
    if not plan:
        raise RecipeError(f"no expert episode fits sampling.context = {recipe.sampling.context} tokens")
    with tqdm(plan, desc="warm start", unit="batch", disable=None) as bar:
        for step, chosen in enumerate(bar):
            started_s = time.perf_counter()
            rate = learner.set_learning_rate(cosine(step, len(plan), settings.warmup))
            batch = collate(weigh(chosen, "token_mean"))
            result = learner.step([batch], lambda batch: _negative_log_likelihood(learner, batch))
            took_s = time.perf_counter() - started_s
            tokens = int(batch.ids.numel())
            bar.set_postfix(loss=f"{result.loss:.3f}", refresh=False)
            log.write(
                "warmstart",
                step + 1,
                {
                    "loss": result.loss,
                    "grad_norm": result.grad_norm,
                    "learning_rate": rate,
                    "tokens/trained": tokens,
                    "tokens_per_s/train": tokens / took_s,
                    "seconds/step": took_s,
                    "memory_mb": memory_mb(),
                },
            )


def _negative_log_likelihood(learner: Learner, batch: MicroBatch) -> torch.Tensor:
    return -(learner.logprobs(batch) * batch.weights.to(learner.device)).sum()


def _batches(
    sequences: Sequence[TokenSequence], tokens_per_batch: int, chance: np.random.Generator
) -> list[list[TokenSequence]]:
    """Deal the sequences out at random, of similar lengths together."""
    noisy = [len(sequence.ids) * chance.uniform(0.85, 1.15) for sequence in sequences]
    batches: list[list[TokenSequence]] = []
    longest = 0
    for index in np.argsort(noisy):
        longest = max(longest, len(sequences[index].ids))
        if not batches or (len(batches[-1]) + 1) * longest > tokens_per_batch:
            batches.append([])
            longest = len(sequences[index].ids)
        batches[-1].append(sequences[index])
    return [batches[i] for i in chance.permutation(len(batches))]


def _make_tiny(recipe: Recipe, stream: TaskStream, shown: Sequence[Trajectory]) -> Path:
    target = recipe.run_dir / "tiny"
    if target.exists():
        return target
    tiny = recipe.model.tiny
    # Random play meets what the expert never sees: refusals, objects that it has no use for.
    wandered = _play(recipe, "random", stream.demonstrations(tiny.vocabulary_episodes, salt=4))
    if not shown and not wandered:
        raise RecipeError("model 'tiny' learns its words from episodes: set warmstart.episodes")
    return build_tiny(
        _texts([*shown, *wandered]),
        target,
        hidden=tiny.hidden,
        layers=tiny.layers,
        context=recipe.sampling.context,
        seed=recipe.run.seed,
    )


def _texts(trajectories: Iterable[Trajectory]) -> Iterable[str]:
    for trajectory in trajectories:
        yield trajectory.system_prompt
        yield trajectory.final_observation
        for turn in trajectory.turns:
            yield turn.observation
            yield turn.action


def _play(recipe: Recipe, policy_name: str, plan: Sequence[Episode]) -> list[Trajectory]:
    if not plan:
        return []
    policy: Any = make_policy(policy_name)
    return asyncio.run(play_plan(plan, policy, world_options(recipe)))


def world_options(recipe: Recipe) -> WorldOptions:
    """Return where the recipe's environments live."""
    return WorldOptions(
        concurrency=recipe.sampling.concurrency,
        workers=recipe.env.workers,
        call_timeout_s=recipe.env.call_timeout_s,
        env_kwargs=recipe.env.kwargs,
    )
