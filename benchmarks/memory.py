"""Memory of a training run, update by update: does it grow?

Trains the demo's recipe, made small, by ``agentgym train`` in a process of its own, with everything on: sampler,
environments in threads, learner, reference model, checkpoints. Reads ``memory_mb`` (resident memory of the trainer, in
which all of these live) from its ``metrics.jsonl`` and counts its threads, and prints a Markdown table.

    python benchmarks/memory.py                                                # few tasks: all are soon known
    python benchmarks/memory.py --tasks 480 --tasks-per-update 8  # new tasks at every update
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from agentgym.train.metrics import METRICS, read_lines

RECIPE = Path(__file__).parents[1] / "recipes" / "household-tiny.toml"
SMALL = {
    "env.kwargs.max_turns": 8,
    "model.tiny.hidden": 64,
    "model.tiny.layers": 2,
    "model.dtype": "float32",
    "warmstart.episodes": 32,
    "warmstart.epochs": 2,
    "warmstart.workers": "thread",
    "grpo.group_size": 4,
    "grpo.kl_coef": 0.01,  # there is a gradient even where all episodes of a group end alike
    "sampling.concurrency": 16,
    "sampling.max_tokens": 24,
    "sampling.context": 1024,
    "sampling.kv_cache_mb": 6,  # resident only where it has been used: little, so that all of it soon is
    "eval.episodes": 0,
    "checkpoint.every": 5,
}


def train(command: list[str], metrics: Path, log: Path) -> dict[int, int]:
    """Run the command to its end and return how many threads it had after each update."""
    threads: dict[int, int] = {}
    with open(log, "w") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            done = [line["step"] for line in read_lines(metrics) if line["phase"] == "grpo"]
            if done and done[-1] not in threads:
                threads[done[-1]] = int(status.read_text().partition("\nThreads:")[2].split()[0])
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"training failed:\n{log.read_text()[-3000:]}")
    return threads


def fit_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the slope by least squares and the half width of its 95 % interval, errors taken as independent."""
    away = x - x.mean()
    slope = float(away @ (y - y.mean()) / (away @ away))
    rest = y - y.mean() - slope * away
    return slope, 1.96 * float(np.sqrt(rest @ rest / (len(x) - 2) / (away @ away)))


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=90)
    parser.add_argument("--tasks", type=int, default=16, help="tasks to train on")
    parser.add_argument("--tasks-per-update", type=int, default=4)
    parser.add_argument("--warm-up", type=int, default=40, help="updates before the slope is taken")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of agentgym train")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            **SMALL,
            "run.out_dir": folder,
            "run.name": "memory",
            "env.tasks": args.tasks,
            "grpo.updates": args.updates,
            "grpo.tasks_per_update": args.tasks_per_update,
            **dict(override.split("=", 1) for override in args.set),
        }
        overrides = [f"{key}={value}" for key, value in settings.items()]
        command = [sys.executable, "-m", "agentgym.cli.main", "train", str(RECIPE)]
        command += [part for override in overrides for part in ("--set", override)]
        started_s = time.monotonic()
        threads = train(command, Path(folder) / "memory" / METRICS, Path(folder) / "log")
        took_s = time.monotonic() - started_s
        updates = [line for line in read_lines(Path(folder) / "memory" / METRICS) if line["phase"] == "grpo"]
    assert len(updates) == args.updates
    assert all(line["tokens/trained"] for line in updates), "an update learned nothing"
    steps = np.array([line["step"] for line in updates])
    memory = np.array([line["memory_mb"] for line in updates])
    late = steps > args.warm_up
    slope, half = fit_line(steps[late], memory[late])
    print("| update | memory, MB | threads |\n|---:|---:|---:|")
    for step in sorted({1, args.warm_up, *range(args.updates, args.warm_up, -args.updates // 4), args.updates}):
        print(f"| {step} | {memory[step - 1]:.0f} | {threads.get(step, '')} |")
    print(
        f"\nSlope after update {args.warm_up}: {slope:+.3f} MB per update, 95 % interval "
        f"[{slope - half:+.3f}, {slope + half:+.3f}]; largest {memory[late].max():.0f} MB. {args.updates} updates of "
        f"{args.tasks_per_update} tasks out of {args.tasks}, 4 episodes of each; a checkpoint every 5 updates; "
        f"{took_s:.0f} s."
    )


if __name__ == "__main__":
    main()
