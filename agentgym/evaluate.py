"""Evaluation: a policy on the tasks of a split, with intervals, and two policies on the same tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from agentgym.env import AgentEnv
from agentgym.errors import InfrastructureError, UnknownNameError, UsageError
from agentgym.pictures import PictureFolder
from agentgym.policy import Policy
from agentgym.registry import make
from agentgym.rollout import Episode, Rollout
from agentgym.stats import Interval, bootstrap_mean, paired_difference, wilson_interval
from agentgym.trajectory import Trajectory
from agentgym.worker import WORKERS, env_factory
from agentgym.world_host import open_lanes

DEFAULT_EPISODES = 100
_HOPELESS_EPISODES = 8


@dataclass(frozen=True)
class WorldOptions:
    """Where the environments of a rollout live.

    Attributes:
        concurrency: Episodes in flight, each with an environment of its own.
        workers: ``"thread"``: in this process, with no deadline. ``"process"``: in child processes, which may crash,
            hang or be killed, and leave this process's interpreter to the sampler.
        call_timeout_s: Deadline of one call to a worker process.
        env_kwargs: Arguments of the environment.
        processes: Number of worker processes that the environments are dealt over; 0 takes the usable cores but one.
            A process that is lost takes the episodes of all its environments with it: for engines that are not trusted
            take as many as ``concurrency``.
        pictures: Folder in which the pictures of observations are kept; ``None`` keeps none.

    Raises:
        UsageError: A value makes no sense.
        UnknownNameError: There is no such kind of worker.
    """

    concurrency: int = 8
    workers: str = "thread"
    call_timeout_s: float = 120.0
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 0
    pictures: Path | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise UsageError(f"concurrency must be at least 1, got {self.concurrency}")
        if not self.call_timeout_s > 0:
            raise UsageError(f"call_timeout_s must be positive, got {self.call_timeout_s}")
        if self.processes < 0:
            raise UsageError(f"processes must be at least 1, or 0 for the usable cores but one, got {self.processes}")
        if self.workers not in WORKERS:
            raise UnknownNameError("kind of worker", self.workers, WORKERS)

    def open_rollout(self, env_id: str, policy: Policy) -> Rollout:
        """Make the lanes; the caller closes them.

        Raises:
            UnknownNameError: There is no such environment.
        """
        make_env = env_factory(env_id, **dict(self.env_kwargs))
        if self.workers == "thread":
            rollout = Rollout(make_env, policy, self.concurrency)
        else:
            lanes = open_lanes(make_env, self.concurrency, processes=self.processes, call_timeout_s=self.call_timeout_s)
            rollout = Rollout(lanes, policy)
        if self.pictures is not None:
            rollout.pictures = PictureFolder(self.pictures)
        return rollout


@dataclass(frozen=True)
class KindResult:
    """What came out for one family of tasks.

    Attributes:
        episodes: Episodes that were scored.
        success: Share of successes with its Wilson interval; ``None`` if none could be graded.
        episode_return: Mean return with its bootstrap interval; ``None`` if there are no episodes.
    """

    episodes: int
    success: Interval | None
    episode_return: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, fit for JSON."""
        return {
            "episodes": self.episodes,
            "success": self.success.as_dict() if self.success else None,
            "return": self.episode_return.as_dict() if self.episode_return else None,
        }


@dataclass(frozen=True)
class Evaluation:
    """What a policy did on a set of tasks. Episodes that a fault of ours ended count nowhere but in their own field.

    Attributes:
        env_id: The environment.
        split: The split.
        policy: Name of the policy.
        overall: Success and return over all scored episodes.
        by_kind: The same for each family of tasks.
        turns: Mean turns per episode.
        sampled_tokens: Mean tokens that the policy sampled per episode; ``None`` if it reports no tokens.
        seconds: Mean wall-clock seconds per episode.
        invalid_actions: Share of turns whose text was no move.
        endings: How many episodes ended how, faults of ours included.
        infrastructure_errors: What the faults of ours were, each once, with how often.
        trajectories: All episodes in the order of the tasks.
    """

    env_id: str
    split: str
    policy: str
    overall: KindResult
    by_kind: Mapping[str, KindResult]
    turns: float
    sampled_tokens: float | None
    seconds: float
    invalid_actions: float
    endings: Mapping[str, int]
    infrastructure_errors: Mapping[str, int]
    trajectories: tuple[Trajectory, ...] = field(repr=False)

    @property
    def success(self) -> Interval | None:
        """Share of successes; ``None`` if no episode could be graded."""
        return self.overall.success

    @property
    def episode_return(self) -> Interval | None:
        """Mean return; ``None`` if no episode could be scored."""
        return self.overall.episode_return

    @property
    def infrastructure_failures(self) -> int:
        """Episodes that a fault of ours ended."""
        return self.endings.get("infrastructure", 0)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the trajectories as plain data, fit for JSON."""
        shared = {name: getattr(self, name) for name in ("env_id", "split", "policy")}
        means = {name: getattr(self, name) for name in ("turns", "sampled_tokens", "seconds", "invalid_actions")}
        return {
            **shared,
            **self.overall.as_dict(),
            **means,
            "infrastructure_failures": self.infrastructure_failures,
            "infrastructure_errors": dict(self.infrastructure_errors),
            "endings": dict(self.endings),
            "by_kind": {kind: result.as_dict() for kind, result in self.by_kind.items()},
        }


def summarize(trajectories: Iterable[Trajectory]) -> Evaluation:
    """Work out the figures of episodes that were played, e.g. read from a file.

    Raises:
        UsageError: There are no episodes, or they are not of one environment, split and policy.
    """
    played = tuple(trajectories)
    sources = sorted({(t.env_id, t.split, t.policy) for t in played})
    if len(sources) != 1:
        raise UsageError(f"an evaluation is of one environment, split and policy; these are {sources or 'no episodes'}")
    scored = [t for t in played if t.scorable]
    turns = [turn for t in scored for turn in t.turns]
    faults = [t.error for t in played if not t.scorable]
    tokens = [t.sampled_tokens for t in scored]
    env_id, split, policy = sources[0]
    return Evaluation(
        env_id=env_id,
        split=split,
        policy=policy,
        overall=_summarize_kind(scored),
        by_kind={
            kind: _summarize_kind([t for t in scored if t.kind == kind]) for kind in sorted({t.kind for t in scored})
        },
        turns=fmean([len(t.turns) for t in scored] or [0.0]),
        sampled_tokens=fmean(tokens) if any(tokens) else None,
        seconds=fmean([t.duration_s for t in scored] or [0.0]),
        invalid_actions=fmean([turn.invalid_action for turn in turns] or [0.0]),
        endings=_count(t.ended for t in played),
        infrastructure_errors=_count(faults),
        trajectories=played,
    )


def compare(before: Evaluation, after: Evaluation, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Return the gain in success from one evaluation to another on the same tasks and seeds.

    A pair counts only if both of its episodes could be graded.

    Raises:
        UsageError: The two share no graded task.
    """
    first, second = _graded_outcomes(before), _graded_outcomes(after)
    shared = [key for key in first if key in second]
    if not shared:
        raise UsageError(
            "the two evaluations share no graded task and seed: evaluate both with the same split and seed"
        )
    return paired_difference([first[key] for key in shared], [second[key] for key in shared], level=level, seed=seed)


def plan_episodes(
    env_id: str, split: str, episodes: int | None, seed: int = 0, env_kwargs: Mapping[str, Any] | None = None
) -> list[Episode]:
    """List what to play: the first tasks of the split, each once, each with a seed of its own.

    The same arguments give the same list in any process, so that two evaluations pair up task by task, and a longer
    list begins with the shorter one.

    Args:
        env_id: Registered id.
        split: Split to take the tasks from.
        episodes: How many; ``None`` is 100, or the whole split if it is smaller.
        seed: Root of the episodes' seeds.
        env_kwargs: Arguments of the environment.

    Raises:
        UnknownNameError: There is no such environment or split.
        UsageError: The split has fewer tasks, or the environment is not an ``AgentEnv``.
    """
    env = make(env_id, **dict(env_kwargs or {}))
    try:
        base = env.unwrapped
        if not isinstance(base, AgentEnv):
            raise UsageError(f"{env_id} is no agentgym environment: it has no tasks in text to evaluate on")
        ids = base.task_set(split).ids
    finally:
        env.close()
    if episodes is None:
        episodes = min(DEFAULT_EPISODES, len(ids))
    if episodes < 1:
        raise UsageError(f"the number of episodes must be at least 1, got {episodes}")
    if seed < 0:
        raise UsageError(f"a seed is not negative, got {seed}")
    if episodes > len(ids):
        raise UsageError(
            f"split {split!r} of {env_id} has {len(ids)} tasks and each is played once: ask for at most {len(ids)} "
            "episodes, or run again with another seed"
        )
    seeds = [int(np.random.SeedSequence([seed, i]).generate_state(1)[0]) for i in range(episodes)]
    return [Episode(env_id, split, task_id=ids[i], seed=seeds[i], number=i) for i in range(episodes)]


async def play_plan(
    plan: Sequence[Episode],
    policy: Policy,
    options: WorldOptions,
    *,
    progress: bool | None = None,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play a list of episodes with a progress bar.

    Args:
        plan: Episodes of one environment, at least one.
        policy: Acts; the caller closes it.
        options: Where the environments live.
        progress: Draw a bar; ``None`` draws one if standard error is a terminal.
        on_done: Called with each trajectory the moment it ends.

    Returns:
        The trajectories in the plan's order.

    Raises:
        InfrastructureError: Faults of ours ended the first episodes, one in every lane and at least eight: what is
            broken for all of them will not mend itself for the rest.
    """
    from tqdm import tqdm

    rollout = options.open_rollout(plan[0].env_id, policy)
    counts = {"success": 0, "scored": 0, "faults": 0}
    hopeless = max(_HOPELESS_EPISODES, options.concurrency)

    with tqdm(total=len(plan), unit="episode", disable=None if progress is None else not progress) as bar:

        def note(trajectory: Trajectory) -> None:
            if on_done is not None:
                on_done(trajectory)
            counts["success"] += bool(trajectory.success)
            counts["scored"] += trajectory.scorable
            counts["faults"] += not trajectory.scorable
            bar.set_postfix(counts, refresh=False)
            bar.update()
            if counts["faults"] == hopeless < len(plan) and not counts["scored"]:
                raise InfrastructureError(f"the first {hopeless} episodes were all lost; the last: {trajectory.error}")

        try:
            return await rollout.play(plan, note)
        finally:
            rollout.close()


async def evaluate_async(
    env_id: str,
    policy: Policy,
    *,
    split: str = "train",
    episodes: int | None = None,
    seed: int = 0,
    options: WorldOptions | None = None,
    progress: bool | None = None,
) -> Evaluation:
    """Evaluate a policy inside a running event loop; see :func:`evaluate`."""
    options = options or WorldOptions()
    plan = await asyncio.to_thread(plan_episodes, env_id, split, episodes, seed, options.env_kwargs)
    return summarize(await play_plan(plan, policy, options, progress=progress))


def evaluate(
    env_id: str,
    policy: Policy,
    *,
    split: str = "train",
    episodes: int | None = None,
    seed: int = 0,
    options: WorldOptions | None = None,
    progress: bool | None = None,
) -> Evaluation:
    """Play the first tasks of a split, each once, and work out success and return with 95 % intervals.

    Args:
        env_id: Registered id.
        policy: Acts; it is left open.
        split: Split to take the tasks from.
        episodes: How many; ``None`` is 100, or the whole split if it is smaller.
        seed: Root of the episodes' seeds; two evaluations with the same one pair up task by task.
        options: Where the environments live.
        progress: Draw a bar; ``None`` draws one if standard error is a terminal.

    Raises:
        UnknownNameError: There is no such environment or split.
        UsageError: The split has fewer tasks than episodes were asked for, or an event loop is running already.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work = evaluate_async(
            env_id, policy, split=split, episodes=episodes, seed=seed, options=options, progress=progress
        )
        return asyncio.run(work)
    raise UsageError("an event loop is running here: call `await evaluate_async(…)` instead of evaluate(…)")


def _summarize_kind(scored: Sequence[Trajectory]) -> KindResult:
    graded = [t.success for t in scored if t.success is not None]
    return KindResult(
        episodes=len(scored),
        success=wilson_interval(sum(graded), len(graded)) if graded else None,
        episode_return=bootstrap_mean([t.episode_return for t in scored]) if scored else None,
    )


def _graded_outcomes(evaluation: Evaluation) -> dict[tuple[str, int], float]:
    return {
        (t.task_id, t.seed): float(t.success) for t in evaluation.trajectories if t.scorable and t.success is not None
    }


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
