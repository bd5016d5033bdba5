"""A training run from recipe to model: warm start, evaluation, GRPO, evaluation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from agentgym.chat import ChatRenderer
from agentgym.errors import AgentGymError, RecipeError
from agentgym.evaluate import plan_episodes, summarize
from agentgym.pictures import PictureFolder, pictures_beside
from agentgym.registry import make_policy
from agentgym.rollout import Episode, Rollout
from agentgym.stats import Interval
from agentgym.train.advantage import find_advantage
from agentgym.train.checkpoint import (
    Checkpoint,
    find_checkpoint,
    read_reward_state,
    restore,
    save_checkpoint,
    writing_directory,
)
from agentgym.train.config import Recipe, load_recipe
from agentgym.train.curriculum import TaskStream, open_task_stream
from agentgym.train.engine import EngineConfig
from agentgym.train.figures import Figures
from agentgym.train.grpo import Grpo
from agentgym.train.learner import Learner, learner_config
from agentgym.train.metrics import METRICS, RunLog
from agentgym.train.models import load_tokenizer
from agentgym.train.replicas import EngineReplicas
from agentgym.train.shaping import RewardChain, open_rewards
from agentgym.train.sync import push_weights
from agentgym.train.warmstart import prepare_model, world_options
from agentgym.trajectory import Trajectory, write_trajectories
from agentgym.whole_file import write_whole

RECIPE = "recipe.json"


def train(recipe: Recipe, *, resume: bool = False) -> Path:
    """Train a model as a recipe says.

    The run's directory receives ``recipe.json``, ``metrics.jsonl``, ``evals.jsonl``, ``episodes/``, ``checkpoints/``,
    ``tensorboard/`` and, at the end, ``model/``, a Hugging Face directory.

    Args:
        recipe: The run.
        resume: Go on from the newest whole checkpoint of the run's directory; with none, from its beginning.

    Returns:
        The run's directory.

    Raises:
        RecipeError: The directory holds a run and ``resume`` is false, or the recipe is of another run.
        ModelError: The model cannot be loaded.
        DivergenceError: A loss is not finite.
        OffPolicyError: The sampler does not have the trainer's weights.
        InfrastructureError: More than half of a batch failed by a fault of ours.
    """
    stream = open_task_stream(recipe)  # misspelt names are told before anything is written
    find_advantage(recipe.grpo.advantage)
    rewards = open_rewards(recipe)
    found = _open_directory(recipe, resume)
    torch.manual_seed(recipe.run.seed)
    with RunLog(recipe, found.step if found else (0 if resume else None)) as log:
        start = prepare_model(recipe, stream, log)
        if recipe.grpo.updates == 0 and recipe.eval.episodes == 0:
            _say(f"the warm-started model is in {start}")
            return recipe.run_dir
        with _open_run(recipe, stream, log, start, found, rewards) as run:
            run.go(found.step if found else 0)
    return recipe.run_dir


def _open_directory(recipe: Recipe, resume: bool) -> Checkpoint | None:
    folder = recipe.run_dir
    used = (folder / RECIPE).exists() or (folder / METRICS).exists()
    if used and not resume:
        raise RecipeError(
            f"{folder} holds a run: go on with it (--resume), or give this one another name (--set run.name=NAME)"
        )
    if resume and not used:
        raise RecipeError(f"there is no run to resume in {folder}; start one without --resume")
    if resume and (folder / RECIPE).exists():
        _check_same_run(load_recipe(folder / RECIPE), recipe)
    found, complaints = find_checkpoint(folder / "checkpoints") if resume else (None, [])
    for complaint in complaints:
        _say(complaint)
    if resume:
        _say(f"resuming after update {found.step}" if found else "no checkpoint yet: resuming from the beginning")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RECIPE, recipe.model_dump_json(indent=2))
    return found


def _check_same_run(before: Recipe, now: Recipe) -> None:
    """A resumed run must get the batches that it would have had."""
    then, today = _batch_keys(before), _batch_keys(now)
    changed = [name for name in then if then[name] != today[name]]
    if changed:
        raise RecipeError(
            f"this run was started with other values of {', '.join(changed)}, so it cannot be resumed with these; "
            "start another run (--set run.name=NAME)"
        )


def _batch_keys(recipe: Recipe) -> dict[str, Any]:
    return {
        "run.seed": recipe.run.seed,
        "env": recipe.env.model_dump(exclude={"workers", "processes", "call_timeout_s"}),
        "model": recipe.model.model_dump(),
        "grpo.tasks_per_update": recipe.grpo.tasks_per_update,
        "grpo.group_size": recipe.grpo.group_size,
    }


@dataclass
class _Run:
    """What is open while GRPO runs."""

    recipe: Recipe
    log: RunLog
    learner: Learner
    grpo: Grpo
    player: _Player

    def go(self, start: int) -> None:
        recipe = self.recipe
        if start == 0:
            self.evaluate("warmstart" if recipe.warmstart.episodes else "start", 0)
        last = recipe.grpo.updates
        with tqdm(range(start, last), initial=start, total=last, desc="grpo", unit="update", disable=None) as bar:
            for step in bar:
                figures = self._update(step)
                done = step + 1
                self.log.write("grpo", done, {**figures, "batch": self.grpo.batch})
                _say(_one_line(done, figures))
                if done % recipe.checkpoint.every == 0 or done == last:
                    self._save(done)
                if recipe.eval.every and done % recipe.eval.every == 0 and done != last:
                    self.evaluate(f"step-{done:06d}", done)
        if last:
            self.evaluate("final", last)
        with writing_directory(recipe.run_dir / "model") as unfinished:
            self.learner.save_model(unfinished)
        _say(f"the model is in {recipe.run_dir / 'model'}")

    def _update(self, step: int) -> Figures:
        try:
            return self.grpo.update(step)
        except AgentGymError as error:
            newest, _ = find_checkpoint(self.recipe.run_dir / "checkpoints")
            error.add_note(f"The run's last checkpoint: {newest.path if newest else 'none yet'}")
            raise

    def _save(self, step: int) -> None:
        folder = self.recipe.run_dir / "checkpoints"
        keep, rewards = self.recipe.checkpoint.keep, self.grpo.rewards.state_dict()
        save_checkpoint(folder, step, self.learner, self.recipe, keep, rewards)

    def evaluate(self, label: str, step: int) -> None:
        """Play the evaluation's tasks, the same ones and with the same seeds each time."""
        settings = self.recipe.eval
        if settings.episodes == 0:
            return
        env = self.recipe.env
        plan = plan_episodes(env.id, settings.split, settings.episodes, settings.seed, env.kwargs)
        file = self.recipe.run_dir / "episodes" / f"{label}.jsonl"
        self.player.rollout.pictures = PictureFolder(pictures_beside(file))
        try:
            evaluation = summarize(self.player.play(plan, settings.temperature, f"evaluation {label}"))
        finally:
            self.player.rollout.pictures = None
        write_trajectories(file, evaluation.trajectories)
        line = {
            "label": label,
            "step": step,
            "split": settings.split,
            "episodes": evaluation.overall.episodes,
            "success": _with_mean(evaluation.success),
            "return": _with_mean(evaluation.episode_return),
            "turns/mean": evaluation.turns,
            "invalid/mean": evaluation.invalid_actions,
            "infrastructure_failures": evaluation.infrastructure_failures,
            "temperature": settings.temperature,
            "by_kind": {
                kind: {
                    "episodes": result.episodes,
                    "success": _with_mean(result.success),
                    "return": _with_mean(result.episode_return),
                }
                for kind, result in evaluation.by_kind.items()
            },
        }
        self.log.write_eval(line)
        _say(
            f"evaluation {label}: success {evaluation.success} on {evaluation.overall.episodes} {settings.split} tasks"
        )


class _Player:
    """Plays episodes with one engine, one set of environments and one event loop, kept from batch to batch."""

    def __init__(self, recipe: Recipe, engine: EngineReplicas, renderer: ChatRenderer, runner: asyncio.Runner) -> None:
        self.recipe, self.engine, self.renderer, self.runner = recipe, engine, renderer, runner
        self.rollout: Rollout = world_options(recipe).open_rollout(recipe.env.id, self._policy(1.0, 1.0))

    def play(self, plan: Sequence[Episode], temperature: float | None = None, title: str = "") -> list[Trajectory]:
        """Play; ``temperature``: other than the training episodes'."""
        sampling = self.recipe.sampling
        self.rollout.policy = (
            self._policy(sampling.temperature, sampling.top_p)
            if temperature is None
            else self._policy(temperature, 1.0)
        )
        with tqdm(total=len(plan), desc=title or "episodes", unit="episode", leave=False, disable=None) as bar:

            def note(_: Trajectory) -> None:
                bar.update()

            return self.runner.run(self.rollout.play(plan, note))

    def _policy(self, temperature: float, top_p: float) -> Any:
        return make_policy(
            "vllm",
            engine=self.engine,
            renderer=self.renderer,
            temperature=temperature,
            top_p=top_p,
            max_tokens=self.recipe.sampling.max_tokens,
        )


@contextlib.contextmanager
def _open_run(
    recipe: Recipe, stream: TaskStream, log: RunLog, start: Path, found: Checkpoint | None, rewards: RewardChain
) -> Iterator[_Run]:
    """Open learner, engine and environments, with the same weights on both sides."""
    is_adapted = recipe.model.lora is not None
    config = learner_config(recipe, recipe.grpo)
    learner = Learner(found.model_dir if found and not is_adapted else start, config)
    if found:
        restore(learner, found)
        rewards.load_state_dict(read_reward_state(found))
    wants_reference = recipe.grpo.kl_coef > 0 and not is_adapted
    reference = Learner(start, config) if wants_reference else None
    with contextlib.ExitStack() as stack:
        sampling = recipe.sampling
        engine = EngineReplicas(
            EngineConfig(
                str(start),
                dtype=sampling.dtype,
                max_model_len=sampling.context,
                max_num_seqs=sampling.concurrency,
                kv_cache_bytes=sampling.kv_cache_mb << 20,
                seed=recipe.run.seed,
            ),
            sampling.engines,
        )
        stack.callback(engine.close)
        push_weights(engine, learner.model)
        runner = stack.enter_context(asyncio.Runner())
        player = _Player(recipe, engine, ChatRenderer(load_tokenizer(start)), runner)
        stack.callback(player.rollout.close)
        grpo = Grpo(recipe, stream, learner, engine, player.play, reference, rewards)
        yield _Run(recipe, log, learner, grpo, player)


def _with_mean(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    plain = interval.as_dict()
    return {"mean": plain["estimate"], "low": plain["low"], "high": plain["high"]}


def _one_line(step: int, figures: Figures) -> str:
    def show(name: str, style: str) -> str:
        value = figures.get(name)
        return "–" if value is None else format(value, style)

    return (
        f"update {step}: success {show('success/mean', '.2f')}  return {show('reward/mean', '.2f')}  "
        f"turns {show('turns/mean', '.1f')}  tied {show('groups/tied', 'd')}  entropy {show('entropy', '.2f')}  "
        f"sampled {show('tokens_per_s/sample', '.0f')} tok/s  trained {show('tokens_per_s/train', '.0f')} tok/s  "
        f"{show('seconds/step', '.1f')} s"
    )


def _say(line: str) -> None:
    tqdm.write(line)
