"""The verbs that play: `run` writes trajectories, `eval` measures."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentgym.cli.arguments import add_env_arguments, add_verb, read_pairs
from agentgym.errors import InfrastructureError, UsageError
from agentgym.evaluate import Evaluation, KindResult, WorldOptions, plan_episodes, play_plan, summarize
from agentgym.pictures import pictures_beside
from agentgym.registry import make_policy
from agentgym.rollout import Episode
from agentgym.trajectory import Trajectory, mend_trajectories, read_trajectories, write_trajectories


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run` and `eval`."""
    run = add_verb(
        verbs,
        "run",
        "Play episodes and write each trajectory as JSON the moment it ends.",
        "agentgym run agentgym/Household-v0 --policy vllm --policy-arg model=smollm2 --episodes 64 --out run.jsonl",
    )
    _add_play_arguments(run)
    run.add_argument("--split", default="train", help="split to take the tasks from (default: train)")
    run.add_argument("--out", required=True, type=Path, metavar="FILE", help="file of JSON lines to write")
    run.add_argument(
        "--no-pictures",
        action="store_true",
        help="keep no screenshots; else those of environments that show any are in a folder beside FILE",
    )
    run.add_argument("--resume", action="store_true", help="go on after the episodes that FILE already holds")
    run.set_defaults(run=run_episodes)
    evaluation = add_verb(
        verbs,
        "eval",
        "Play the first tasks of a split, each once, and give success and return with 95-percent intervals.",
        "agentgym eval agentgym/Household-v0 --policy expert --split valid_unseen --episodes 100 --json",
    )
    _add_play_arguments(evaluation)
    evaluation.add_argument("--split", required=True, help="split to take the tasks from")
    evaluation.add_argument("--json", action="store_true", help="print one JSON object")
    evaluation.set_defaults(run=run_evaluation)


def _add_play_arguments(parser: argparse.ArgumentParser) -> None:
    add_env_arguments(parser)
    parser.add_argument("--policy", required=True, help="a name that `agentgym policies` lists")
    parser.add_argument(
        "--policy-arg",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of the policy, JSON or text; may be repeated",
    )
    parser.add_argument("--episodes", type=int, help="how many tasks (default: 100, or the whole split if smaller)")
    parser.add_argument("--seed", type=int, default=0, help="root of the episodes' seeds (default: 0)")
    parser.add_argument("--concurrency", type=int, default=8, help="episodes in flight (default: 8)")
    parser.add_argument("--action-format", help="how actions are written: plain, thought, tag or json")
    parser.add_argument(
        "--workers",
        default="thread",
        help="where environments live: thread (default), or process: child processes, which may crash or hang",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=0,
        help="number of worker processes, which are lost with all episodes in them (default: usable cores but one)",
    )
    parser.add_argument(
        "--call-timeout-s",
        type=float,
        default=120.0,
        help="longest that a worker process may take for one step before it is killed (default: 120)",
    )


def run_episodes(args: argparse.Namespace) -> int:
    """Play and append to the file, one trajectory at a time."""
    options, plan = _plan(args)
    if not args.no_pictures:
        options = replace(options, pictures=pictures_beside(args.out))
    already = _open_results(args.out, plan[0], resume=args.resume)
    plan = [episode for episode in plan if (episode.task_id, episode.seed) not in already]
    if not plan:
        print(f"{args.out} already holds every episode that was asked for")
        return 0
    written = 0

    def write(trajectory: Trajectory) -> None:
        nonlocal written
        written += write_trajectories(args.out, [trajectory], append=True)

    try:
        trajectories = _play(args, plan, options, write)
    except KeyboardInterrupt:
        print(
            f"agentgym: {written} of {len(plan)} episodes are in {args.out}; add --resume to play the rest",
            file=sys.stderr,
        )
        raise
    failures = sum(not trajectory.scorable for trajectory in trajectories)
    print(f"wrote {written} episodes to {args.out}" + (f", {failures} of them faults of ours" if failures else ""))
    return _judge_faults(trajectories)


def run_evaluation(args: argparse.Namespace) -> int:
    """Play and print the figures."""
    options, plan = _plan(args)
    evaluation = summarize(_play(args, plan, options))
    if args.json:
        print(json.dumps({**evaluation.as_dict(), "seed": args.seed}, allow_nan=False))
    else:
        print_evaluation(evaluation)
    return _judge_faults(evaluation.trajectories)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures for a reader."""
    print(f"{evaluation.env_id} {evaluation.split}, policy {evaluation.policy}")
    rows = [("all", evaluation.overall), *(evaluation.by_kind.items() if len(evaluation.by_kind) > 1 else ())]
    width = max(len(kind) for kind, _ in rows)
    print(f"  {'':<{width}}  episodes  success [95 % interval]   return [95 % interval]")
    for kind, result in rows:
        print(f"  {kind or '-':<{width}}  {_row(result)}")
    tokens = "not reported" if evaluation.sampled_tokens is None else f"{evaluation.sampled_tokens:.1f}"
    print(f"  per episode: {evaluation.turns:.1f} turns, {evaluation.seconds:.2f} s, sampled tokens {tokens}")
    print(f"  invalid actions: {evaluation.invalid_actions:.1%} of turns")
    print(f"  ended: {', '.join(f'{count} {ending}' for ending, count in sorted(evaluation.endings.items()))}")
    for error, count in evaluation.infrastructure_errors.items():
        print(f"  fault of ours, not scored ({count} times): {' '.join(error.split())[:300]}")


def _row(result: KindResult) -> str:
    success = str(result.success) if result.success else "not graded"
    episode_return = str(result.episode_return) if result.episode_return else "-"
    return f"{result.episodes:>8}  {success:<24}  {episode_return}"


def _plan(args: argparse.Namespace) -> tuple[WorldOptions, list[Episode]]:
    env_kwargs: dict[str, Any] = read_pairs(args.env_arg, "--env-arg")
    if args.action_format is not None:
        env_kwargs["action_format"] = args.action_format
    options = WorldOptions(args.concurrency, args.workers, args.call_timeout_s, env_kwargs, args.processes)
    return options, plan_episodes(args.env_id, args.split, args.episodes, args.seed, env_kwargs)


def _play(
    args: argparse.Namespace,
    plan: list[Episode],
    options: WorldOptions,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    with _quiet_output():
        policy = make_policy(args.policy, **read_pairs(args.policy_arg, "--policy-arg"))

        async def play() -> list[Trajectory]:
            try:
                return await play_plan(plan, policy, options, on_done=on_done)
            finally:
                await policy.aclose()

        return asyncio.run(play())


@contextlib.contextmanager
def _quiet_output() -> Iterator[None]:
    """Send to standard error what engines print, native ones too: standard output is for results."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(output, 1)
        os.close(output)


def _open_results(out: Path, first: Episode, *, resume: bool) -> set[tuple[str | None, int]]:
    """Make sure that the file can be appended to and return the episodes that need not be played again."""
    if not out.exists() or out.stat().st_size == 0:
        write_trajectories(out, [], append=True)
        return set()
    if not resume:
        raise UsageError(f"{out} exists and is never overwritten: add --resume to go on, or choose another --out")
    mend_trajectories(out)
    held = list(read_trajectories(out))
    strange = {(t.env_id, t.split) for t in held} - {(first.env_id, first.split)}
    if strange:
        raise UsageError(
            f"{out} holds episodes of {sorted(strange)}, not of {first.env_id} {first.split}: choose another --out"
        )
    return {(t.task_id, t.seed) for t in held if t.scorable}


def _judge_faults(trajectories: tuple[Trajectory, ...] | list[Trajectory]) -> int:
    """Fail if not one episode could be scored: a run that measured nothing is no success."""
    if any(trajectory.scorable for trajectory in trajectories):
        return 0
    raise InfrastructureError(f"no episode could be played to its end; the last fault: {trajectories[-1].error}")
