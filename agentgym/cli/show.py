"""The verbs that read: `show` prints an episode, `report` writes a page about a run."""

from __future__ import annotations

import argparse
import unicodedata
from pathlib import Path

from agentgym.cli.arguments import add_verb
from agentgym.errors import UsageError
from agentgym.trajectory import Trajectory, Turn, read_trajectories


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `show` and `report`."""
    show = add_verb(
        verbs, "show", "Print an episode of a trajectory file turn by turn.", "agentgym show run.jsonl --episode 3"
    )
    show.add_argument("file", type=Path, metavar="FILE", help="file that `agentgym run` wrote")
    show.add_argument("--episode", type=int, default=0, help="which one, from 0; -1 is the last (default: 0)")
    show.set_defaults(run=show_episode)
    report = add_verb(
        verbs, "report", "Write a run's curves and episodes as one HTML page.", "agentgym report runs/household-tiny"
    )
    report.add_argument("run_dir", type=Path, metavar="RUN", help="directory that `agentgym train` wrote")
    report.set_defaults(run=write_run_report)


def show_episode(args: argparse.Namespace) -> int:
    """Print one trajectory."""
    trajectories = list(read_trajectories(args.file))
    try:
        trajectory = trajectories[args.episode]
    except IndexError:
        raise UsageError(
            f"{args.file} holds {len(trajectories)} episodes and none with number {args.episode}"
        ) from None
    print(_describe(trajectory))
    if trajectory.system_prompt:
        print(f"\n--- system\n{_plain(trajectory.system_prompt)}")
    for number, turn in enumerate(trajectory.turns, start=1):
        print(f"\n--- turn {number}\n{_plain(turn.observation)}\n\n> {_plain(turn.action)}")
        if notes := _notes(turn):
            print(f"  ({notes})")
    if trajectory.final_observation:
        print(f"\n--- end\n{_plain(trajectory.final_observation)}")
    return 0


def write_run_report(args: argparse.Namespace) -> int:
    """Write the page and print where it is."""
    if not args.run_dir.is_dir():
        raise UsageError(f"there is no run in {args.run_dir}: give the directory that `agentgym train` wrote")
    try:
        from agentgym.report import write_report
    except ImportError as error:
        raise UsageError(f"reports need more packages: pip install 'agentgym-core[train]' ({error})") from error
    print(write_report(args.run_dir))
    return 0


def _describe(trajectory: Trajectory) -> str:
    outcome = {True: "success", False: "no success", None: "not graded"}[trajectory.success]
    lines = [
        f"{trajectory.env_id} {trajectory.split}, task {_plain(trajectory.task_id)}, seed {trajectory.seed}",
        f"policy {trajectory.policy} (version {trajectory.policy_version}): {outcome}, {trajectory.ended}, "
        f"return {trajectory.episode_return:g}, {len(trajectory.turns)} turns, {trajectory.duration_s:.1f} s",
    ]
    if trajectory.error:
        lines.append(f"fault of ours: {_plain(trajectory.error)}")
    return "\n".join(lines)


def _notes(turn: Turn) -> str:
    notes = [f"{name} {value:+g}" for name, value in turn.reward_terms.items() if value]
    if turn.invalid_action:
        notes.append("no move")
    elif not turn.executable:
        notes.append("refused by the world")
    if turn.token_ids:
        notes.append(f"{len(turn.token_ids)} tokens")
    return ", ".join(notes)


def _plain(text: str) -> str:
    """Write control characters out: what a model or a web page said must not drive the reader's terminal."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs") else ascii(char)[1:-1]
        for char in text
    )
