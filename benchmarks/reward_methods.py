"""Reward methods beside each other: one warm start per seed, then the same number of episodes for each arm.

Arms start from the same weights, play the same tasks from the same seeds in the same order, and differ in what the
episodes are paid and in how advantages are taken. Runs are kept in ``--out`` and gone on with when they were cut short.

    python benchmarks/reward_methods.py household --seeds 0 1 2 --updates 12
    python benchmarks/reward_methods.py search --seeds 0 1 2 --updates 12
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from tqdm import tqdm

from agentgym.evaluate import compare, summarize
from agentgym.train.config import load_recipe
from agentgym.trajectory import read_trajectories

ROOT = Path(__file__).resolve().parents[1]
Overrides = Mapping[str, Any]

# Who knows the answer says "found Paris > answer: Paris", and is graded by the environment: a thought of what was found
# is what the answer is copied from, and the first place where it is said.
_SPOKEN = {"outcome": "environment", "answer_format": {"template": "found {answer}"}}
_PROGRESS = {"env.kwargs.progress_reward": 0.5}  # paid for each stage of the goal, taken back when it is undone

ARMS: dict[str, dict[str, Overrides]] = {
    "household": {
        "GRPO": {"grpo.advantage": "grpo"},
        "GiGPO": {"grpo.advantage": "gigpo"},
        "SPA": {
            "grpo.advantage": "turn_level",
            "reward": [{"name": "progress", "kwargs": {"beta": 0.05, "exact": True}}],
        },
        "step rewards, added up": {"grpo.advantage": "grpo", **_PROGRESS},
        "step rewards, G-RA": {
            "grpo.advantage": "grpo",
            **_PROGRESS,
            "reward": [{"name": "gated", "kwargs": {"levels": ["progress"], "gates": [0.5]}}],
        },
    },
    "search": {
        "GRPO": {"grpo.advantage": "grpo"},
        "GiGPO": {"grpo.advantage": "gigpo"},
        "IGPO": {"grpo.advantage": "igpo", "reward": [{"name": "information_gain", "kwargs": _SPOKEN}]},
        "InfoPO": {"grpo.advantage": "infopo", "reward": [{"name": "infopo"}]},
    },
}


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        suite: Key of ``ARMS``; its recipe is ``recipes/<suite>-tiny.toml``.
        seeds: One warm start, and one run of each arm, per seed.
        updates: Of each arm.
        out: Folder of the runs and the picture.
        overrides: Values of the recipe that are replaced for all arms.
    """

    suite: str
    seeds: Sequence[int]
    updates: int
    out: Path
    overrides: Overrides

    def warm_start(self, seed: int) -> Path:
        """Return the weights that all arms of a seed start from; made once."""
        folder = self.out / f"start-{seed}"
        if not (folder / "warmstart").exists():
            self._train(folder.name, seed, {"grpo.updates": 0, "eval.episodes": 0})
        return folder / "warmstart"

    def arm(self, name: str, seed: int) -> Path:
        """Return the finished run of an arm."""
        folder = self.out / f"{_slug(name)}-{seed}"
        if not (folder / "model").exists():
            start = self.warm_start(seed).resolve()
            own = {"model.name": str(start), "warmstart.episodes": 0, "grpo.updates": self.updates}
            self._train(folder.name, seed, {**own, **ARMS[self.suite][name]})
        return folder

    def _train(self, name: str, seed: int, values: Overrides) -> None:
        run = {"run.name": name, "run.out_dir": str(self.out), "run.seed": seed, "eval.split": "valid_seen"}
        recipe = load_recipe(ROOT / f"recipes/{self.suite}-tiny.toml", {**self.overrides, **run, **values})
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / f"{name}.json"
        path.write_text(recipe.model_dump_json(indent=2))
        command = [sys.executable, "-m", "agentgym.cli.main", "train", str(path)]
        if (self.out / name / "recipe.json").exists():
            command.append("--resume")
        with open(self.out / f"{name}.log", "a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)


def describe(run: Path) -> dict[str, Any]:
    """Return what a finished run came to."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    updates = [line for line in lines if line["phase"] == "grpo"]
    before, after = (summarize(read_trajectories(run / f"episodes/{name}.jsonl")) for name in ("start", "final"))
    assert before.success is not None
    assert after.success is not None
    scoring_s, sampling_s = (fmean(line[f"seconds/{part}"] for line in updates) for part in ("reward", "sample"))
    return {
        "before": before.success.estimate,
        "after": after.success.estimate,
        "gain": compare(before, after),
        "curve": [line["success/mean"] for line in updates],
        "return": [line["reward/mean"] for line in updates],
        "tokens": sum(line["tokens/sampled"] for line in updates),
        "scoring": scoring_s / sampling_s,
    }


def print_table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Print a row per arm: means over seeds, and each seed's gain with its paired interval."""
    print("| arm | before | after | gain, mean | gain of each seed (95 %) | sampled tokens | scoring / sampling |")
    print("|---|---:|---:|---:|---|---:|---:|")
    for name, runs in results.items():
        gains = ", ".join(f"{r['gain'].estimate:+.3f} [{r['gain'].low:.3f}, {r['gain'].high:.3f}]" for r in runs)
        before, after, tokens, scoring = (
            fmean(r[key] for r in runs) for key in ("before", "after", "tokens", "scoring")
        )
        gain = fmean(r["gain"].estimate for r in runs)
        print(f"| {name} | {before:.3f} | {after:.3f} | {gain:+.3f} | {gains} | {tokens:,.0f} | {scoring:.1%} |")


def draw(results: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, title: str) -> None:
    """Draw success on the training batches: mean over seeds, and the seeds' range."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, runs in results.items():
        curves = np.array([run["curve"] for run in runs])
        steps = np.arange(1, curves.shape[1] + 1)
        (line,) = axes.plot(steps, curves.mean(0), label=f"{name}: {fmean(r['after'] for r in runs):.2f} held out")
        axes.fill_between(steps, curves.min(0), curves.max(0), alpha=0.12, color=line.get_color(), linewidth=0)
    axes.set(xlabel="update", ylabel="success in training", title=title)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def main() -> None:
    """Run what is missing, print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=sorted(ARMS))
    parser.add_argument("--arms", nargs="+", help="names of arms (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--out", type=Path, help="folder of the runs (default: runs/compare-SUITE)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="for all arms")
    args = parser.parse_args()
    pairs = dict(text.split("=", 1) for text in args.set)
    overrides = {key: json.loads(value) for key, value in pairs.items()}
    plan = Plan(args.suite, args.seeds, args.updates, args.out or Path(f"runs/compare-{args.suite}"), overrides)
    names = args.arms or list(ARMS[args.suite])
    unknown = sorted(set(names) - set(ARMS[args.suite]))
    if unknown:
        parser.error(f"no such arms: {unknown}; there are {list(ARMS[args.suite])}")
    runs: dict[str, list[Path]] = {name: [] for name in names}
    with tqdm(total=len(names) * len(plan.seeds), unit="run") as bar:
        for seed in plan.seeds:
            for name in names:
                bar.set_description(f"{name}, seed {seed}")
                runs[name].append(plan.arm(name, seed))
                bar.update()
    results = {name: [describe(run) for run in folders] for name, folders in runs.items()}
    print_table(results)
    draw(results, plan.out / "curves.png", f"{args.suite}: {len(plan.seeds)} seeds, {plan.updates} updates each")
    print(f"\n{plan.out / 'curves.png'}")


if __name__ == "__main__":
    main()
