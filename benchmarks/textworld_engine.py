"""Time a step of raw textworld beside a step of ``agentgym/TextWorld-v0`` on the same games and commands.

Prints a markdown table. Both sides ask the engine for the same infos and play the same commands; they take turns, and
the fastest of several rounds counts, so that other work on the machine touches both alike.

    python benchmarks/textworld_engine.py
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import textworld

from agentgym_household.textworld_env import TextWorldEnv
from agentgym_household.tw.options import CHALLENGES

INFOS = {"admissible_commands": True, "score": True, "max_score": True, "won": True, "lost": True, "moves": True}


def record_commands(env: TextWorldEnv, task_id: str, length: int) -> list[str]:
    """Play seeded random admissible commands until the game ends or the length is reached."""
    chance = np.random.default_rng(0)
    env.reset(options={"task_id": task_id})
    commands: list[str] = []
    over = False
    while not over and len(commands) < length:
        choices = env.admissible_actions
        assert choices
        commands.append(choices[int(chance.integers(len(choices)))])
        _, _, terminated, truncated, _ = env.step(commands[-1])
        over = terminated or truncated
    return commands


def time_steps(reset: Callable[[], object], step: Callable[[str], object], commands: list[str]) -> float:
    """Return the seconds that the commands take after a reset, the reset aside."""
    reset()
    started_s = time.perf_counter()
    for command in commands:
        step(command)
    return time.perf_counter() - started_s


def measure(challenge: str, args: argparse.Namespace) -> tuple[float, float, int]:
    """Return the fastest seconds per step of raw textworld and of ours, and the number of steps."""
    env = TextWorldEnv(challenge=challenge, difficulty=args.difficulty, max_turns=10_000, tasks_per_split=args.games)
    env.prepare("train", progress=False)
    raw_s = ours_s = 0.0
    steps = 0
    for task in env.task_set("train"):
        commands = record_commands(env, task.id, args.steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = textworld.start(str(env.find_story(task)), textworld.EnvInfos(**INFOS))
        reset = partial(env.reset, options={"task_id": task.id})
        raw_times, our_times = [], []
        for _ in range(args.rounds):
            raw_times.append(time_steps(raw.reset, raw.step, commands))
            our_times.append(time_steps(reset, env.step, commands))
        raw.close()
        raw_s, ours_s, steps = raw_s + min(raw_times), ours_s + min(our_times), steps + len(commands)
    env.close()
    return raw_s / steps, ours_s / steps, steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--difficulty", default="medium", choices=("easy", "medium", "hard"))
    parser.add_argument("--games", type=int, default=3, help="games of each challenge")
    parser.add_argument("--steps", type=int, default=60, help="longest episode")
    parser.add_argument("--rounds", type=int, default=7, help="times that each side plays each game")
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    rows = [
        f"textworld {textworld.__version__}, {args.difficulty} games, the same infos and commands on both sides",
        "",
        "| challenge | steps | raw textworld, ms/step | agentgym/TextWorld-v0, ms/step | added |",
        "|---|---|---|---|---|",
    ]
    for challenge in CHALLENGES:
        raw_s, ours_s, steps = measure(challenge, args)
        added = (ours_s - raw_s) / raw_s
        rows.append(f"| {challenge} | {steps} | {raw_s * 1e3:.3f} | {ours_s * 1e3:.3f} | {added:+.1%} |")
    print("\n".join(rows))
    if args.out:
        args.out.write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
