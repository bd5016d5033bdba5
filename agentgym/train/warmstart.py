"""Warm start: supervised training on what the environment's scripted expert says."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from agentgym.chat import ChatRenderer
from agentgym.errors import RecipeError
from agentgym.evaluate import WorldOptions, play_plan
from agentgym.machine import usable_cores
from agentgym.registry import make_policy
from agentgym.rollout import Episode
from agentgym.train.batch import TokenSequence
from agentgym.train.checkpoint import writing_directory
from agentgym.train.config import Recipe
from agentgym.train.curriculum import TaskStream
from agentgym.train.learner import Learner, learner_config
from agentgym.train.metrics import RunLog, memory_mb
from agentgym.train.micro_batch import MicroBatch, collate
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
    expert = make_policy("expert", mistakes=settings.mistakes)
    shown = _play(recipe, expert, stream.demonstrations(settings.episodes), "the expert plays")
    base = _make_tiny(recipe, stream, shown) if recipe.model.name == "tiny" else resolve_model(recipe.model.name)
    if not settings.episodes:
        return base
    learner = Learner(base, learner_config(recipe, settings))
    learned = [t for t in shown if t.scorable and (t.success or not settings.only_successes)]
    if not learned:
        raise RecipeError(
            f"the expert won none of {len(shown)} episodes of {recipe.env.id}: there is nothing to learn from. See "
            "what goes wrong with `agentgym run ENV_ID --policy expert`, or set warmstart.only_successes = false"
        )
    renderer = ChatRenderer(load_tokenizer(base))
    if settings.imitate_mistakes:
        learned = [replace(t, turns=tuple(replace(turn, mistake=False) for turn in t.turns)) for t in learned]
    sequences = [demonstration(t, renderer, recipe.sampling.context, settings.observation_weight) for t in learned]
    _fit(learner, [s for s in sequences if s.sampled_tokens], recipe, log)
    with writing_directory(warm) as unfinished:
        learner.save_model(unfinished)
    return warm


def demonstration(
    trajectory: Trajectory, renderer: ChatRenderer, context: int, observation_weight: float = 0.0
) -> TokenSequence:
    """Tokenise a dialogue; each token's ``advantage`` is its share of the loss.

    That share is 1 for actions and their ends of turn, ``observation_weight`` for what the environment says, and 0
    for mistakes; ``sampled`` are the tokens with a share.

    Args:
        trajectory: Played by a policy without tokens.
        renderer: As the sampler's, so that the model meets what it was shown.
        context: Longest sequence; turns that do not fit are left out.
        observation_weight: From 0 to 1.
    """
    ids: list[int] = []
    shares: list[float] = []
    for number, turn in enumerate(trajectory.turns):
        if number == 0:
            prompt = renderer.opening_ids(trajectory.system_prompt, turn.observation)
        else:
            prompt = renderer.reply_ids(turn.observation, closed=True)
        action = renderer.action_ids(turn.action)
        if len(ids) + len(prompt) + len(action) > context:
            break
        ids += prompt + action
        shares += [observation_weight] * len(prompt) + [0.0 if turn.mistake else 1.0] * len(action)
    share = np.array(shares, dtype=np.float32)
    share[:1] = 0.0  # nothing stands before the first token to predict it from
    nothing = np.zeros(len(ids), dtype=np.float32)
    return TokenSequence(np.array(ids, dtype=np.int64), share > 0, nothing, nothing, share)


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
            batch = collate(chosen)
            lesson = _Lesson(learner)
            result = learner.step([batch], lesson.loss)
            took_s = time.perf_counter() - started_s
            tokens = int(batch.ids.numel())
            bar.set_postfix(loss=f"{lesson.action_loss:.3f}", refresh=False)
            log.write(
                "warmstart",
                step + 1,
                {
                    "loss": lesson.action_loss,
                    "loss/all": result.loss,
                    "grad_norm": result.grad_norm,
                    "learning_rate": rate,
                    "tokens/trained": tokens,
                    "tokens_per_s/train": tokens / took_s,
                    "seconds/step": took_s,
                    "memory_mb": memory_mb(),
                },
            )


class _Lesson:
    """The loss of a batch: the mean over its tokens by their shares; and that of its actions alone, in nats a token."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self.action_loss = math.nan

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        surprise = -self._learner.logprobs(batch)
        shares = batch.advantages.to(surprise.device)
        self.action_loss = float(surprise.detach()[shares == 1].mean())
        return (surprise * shares).sum() / shares.sum()


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
    wandered = _play(
        recipe, make_policy("random"), stream.demonstrations(tiny.vocabulary_episodes, salt=4), "random play for words"
    )
    if not shown and not wandered:
        raise RecipeError("model 'tiny' learns its words from episodes: set warmstart.episodes")
    return build_tiny(
        _texts([*shown, *wandered]),
        target,
        tiny,
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


def _play(recipe: Recipe, policy: Any, plan: Sequence[Episode], purpose: str) -> list[Trajectory]:
    """Play without a model, so that the worlds are all the work."""
    if not plan:
        return []
    options = replace(world_options(recipe), env_kwargs={**recipe.env.kwargs, **recipe.warmstart.env_kwargs})
    if recipe.warmstart.workers == "process":
        options = replace(options, concurrency=usable_cores(), workers="process", processes=usable_cores())
    tqdm.write(f"{purpose}: {len(plan)} episodes")
    return asyncio.run(play_plan(plan, policy, options))


def world_options(recipe: Recipe) -> WorldOptions:
    """Return where the recipe's environments live."""
    return WorldOptions(
        concurrency=recipe.sampling.concurrency,
        workers=recipe.env.workers,
        processes=recipe.env.processes,
        call_timeout_s=recipe.env.call_timeout_s,
        env_kwargs=recipe.env.kwargs,
    )
