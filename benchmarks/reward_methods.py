"""Reward methods beside each other: the same warm start, then the same number of episodes for each arm.

Arms start from the same weights, play the same tasks from the same seeds in the same order, and differ in what the
episodes are paid and in how advantages are taken. Runs are kept in ``--out`` and gone on with when they were cut short;
what each came to goes into ``--results``, to which other arms and seeds can be added on another day.

    python benchmarks/reward_methods.py search --seeds 0 1 2 --updates 12
    python benchmarks/reward_methods.py household --seeds 0 1 2 --updates 12
    python benchmarks/reward_methods.py gui --seeds 0 1 2 --updates 40
    python benchmarks/reward_methods.py search --report     # the table and the picture of the results alone
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from tqdm import tqdm

from agentgym.stats import Interval, bootstrap_mean, paired_difference
from agentgym.train.config import Recipe, load_recipe
from agentgym.trajectory import read_trajectories
from agentgym.whole_file import write_whole

ROOT = Path(__file__).resolve().parents[1]
Overrides = Mapping[str, Any]
BASELINE = "GRPO"  # what the other arms are compared with

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
    "gui": {  # of one turn each, so that credit needs no sharing out; what differs is what a miss is paid
        "GRPO": {"reward": []},
        "GUI-G²": {"reward": [{"name": "gaussian", "kwargs": {"variant": "full"}}]},
        "distance": {"reward": [{"name": "gaussian", "kwargs": {"variant": "distance"}}]},
        "IoU": {"reward": [{"name": "gaussian", "kwargs": {"variant": "iou"}}]},
    },
}
HELD_OUT = {"household": "valid_seen", "search": "valid_seen", "gui": "test"}


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        arm: Key of its suite in ``ARMS``.
        seed: Of the tasks' order and of sampling.
        before: For each task of the evaluation, whether the warm start won: ``1`` or ``0``, or ``-`` after a fault.
        after: The same of the model that was trained.
        curve: Success in training, per update.
        paid: Return in training after shaping, per update.
        tokens: Sampled in training.
        seconds: Of sampling, reward methods, training and all, summed over updates, on cores shared with other work.
    """

    arm: str
    seed: int
    before: str
    after: str
    curve: tuple[float, ...]
    paid: tuple[float, ...]
    tokens: int
    seconds: Mapping[str, float]

    @property
    def gain(self) -> Interval:
        """Success after less success before, paired by task."""
        pairs = [(int(b), int(a)) for b, a in zip(self.before, self.after, strict=True) if "-" not in (b, a)]
        return paired_difference([b for b, _ in pairs], [a for _, a in pairs])


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        suite: Key of ``ARMS``; its recipe is ``recipes/<suite>-tiny.toml``.
        start_seed: Of the warm start that all runs begin from; ``None``: one per seed.
        out: Folder of the runs.
        overrides: Values of the recipe that are replaced for all arms.
    """

    suite: str
    start_seed: int | None
    out: Path
    overrides: Overrides

    def recipe(self, values: Overrides) -> Recipe:
        """Return the suite's recipe with other values."""
        return load_recipe(ROOT / f"recipes/{self.suite}-tiny.toml", {**self.overrides, **values})

    @property
    def settings(self) -> dict[str, Any]:
        """Return what is the same in all runs."""
        sections = ("env", "model", "warmstart", "grpo", "sampling", "eval")
        return {"start_seed": self.start_seed, **self.recipe({}).model_dump(include=set(sections))}

    def warm_start(self, seed: int) -> Path:
        """Return the weights that all arms of a seed start from; made once."""
        seed = seed if self.start_seed is None else self.start_seed
        folder = self.out / f"start-{seed}"
        if not (folder / "warmstart").exists():
            self._train(folder.name, {"run.seed": seed, "grpo.updates": 0, "eval.episodes": 0})
        return folder / "warmstart"

    def run(self, arm: str, seed: int) -> Result:
        """Return what an arm came to with a seed; trains what is not there."""
        folder = self.out / f"{_slug(arm)}-{seed}"
        if not (folder / "model").exists():
            start = self.warm_start(seed).resolve()
            own = {"run.seed": seed, "model.name": str(start), "warmstart.episodes": 0}
            self._train(folder.name, {**own, **ARMS[self.suite][arm]})
        return read_run(folder, arm, seed)

    def _train(self, name: str, values: Overrides) -> None:
        from agentgym.train.run import train  # loads torch, which a report has no use for

        recipe = self.recipe({"run.name": name, "run.out_dir": str(self.out), **values})
        self.out.mkdir(parents=True, exist_ok=True)
        with open(self.out / f"{name}.log", "a") as log, redirect_stdout(log), redirect_stderr(log):
            train(recipe, resume=(recipe.run_dir / "recipe.json").exists())


def read_run(folder: Path, arm: str, seed: int) -> Result:
    """Return what a finished run came to."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    # A run that was cut short and gone on with has done some updates twice: the later line is of the model that stayed.
    updates = {line["step"]: line for line in lines if line["phase"] == "grpo"}.values()
    before, after = (_outcomes(folder / f"episodes/{name}.jsonl") for name in ("start", "final"))
    return Result(
        arm,
        seed,
        before,
        after,
        curve=tuple(round(line["success/mean"], 4) for line in updates),
        paid=tuple(round(line["reward/mean"], 4) for line in updates),
        tokens=sum(line["tokens/sampled"] for line in updates),
        seconds={
            part: round(sum(line[f"seconds/{part}"] for line in updates), 1)
            for part in ("sample", "reward", "train", "step")
        },
    )


def _outcomes(path: Path) -> str:
    return "".join("-" if t.success is None else str(int(t.success)) for t in read_trajectories(path))


def read_results(path: Path, settings: Mapping[str, Any] | None = None) -> list[Result]:
    """Return the results in a file.

    Raises:
        SystemExit: They are of runs with other settings.
    """
    if not path.exists():
        return []
    data = json.loads(path.read_text())
    if settings is not None and (
        changed := [key for key in data["settings"] if data["settings"][key] != settings[key]]
    ):
        raise SystemExit(f"{path} has results with another {', '.join(changed)}; give other --results")
    return [Result(**line) for line in data["runs"]]


def write_results(path: Path, settings: Mapping[str, Any], results: Iterable[Result]) -> None:
    """Write results, a line per run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = ",\n".join(json.dumps(asdict(result)) for result in sorted(results, key=lambda r: (r.arm, r.seed)))
    write_whole(path, f'{{"settings": {json.dumps(settings)},\n"runs": [\n{runs}\n]}}\n')


def by_arm(suite: str, results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the runs of each arm that has any."""
    arms = {arm: sorted((r for r in results if r.arm == arm), key=lambda r: r.seed) for arm in ARMS[suite]}
    return {arm: runs for arm, runs in arms.items() if runs}


def over_baseline(runs: Sequence[Result], baseline: Sequence[Result]) -> Interval | None:
    """Return success after training less the baseline's with the same seeds and tasks; tasks are resampled."""
    others = {run.seed: run.after for run in baseline}
    pairs = [(run.after, others[run.seed]) for run in runs if run.seed in others]
    if not pairs:
        return None
    tasks = zip(*(zip(own, other, strict=True) for own, other in pairs), strict=True)
    kept = [seeds for seeds in tasks if not any("-" in outcomes for outcomes in seeds)]
    return bootstrap_mean([fmean(int(own) - int(other) for own, other in seeds) for seeds in kept])


def print_table(arms: Mapping[str, Sequence[Result]]) -> None:
    """Print a row per arm: means over seeds, each seed's gain, and the difference from the baseline."""
    print("| arm | seeds | before | after | gain of each seed | after, less GRPO's | tokens | scoring / sampling |")
    print("|---|---:|---:|---:|---|---|---:|---:|")
    for name, runs in arms.items():
        gains = "; ".join(f"{r.gain.estimate:+.3f} [{r.gain.low:+.3f}, {r.gain.high:+.3f}]" for r in runs)
        before, after = fmean(_mean(r.before) for r in runs), fmean(_mean(r.after) for r in runs)
        versus = None if name == BASELINE else over_baseline(runs, arms.get(BASELINE, ()))
        beside = f"{versus.estimate:+.3f} [{versus.low:+.3f}, {versus.high:+.3f}]" if versus else ""
        scoring = sum(r.seconds["reward"] for r in runs) / sum(r.seconds["sample"] for r in runs)
        tokens = fmean(r.tokens for r in runs)
        print(f"| {name} | {len(runs)} | {before:.3f} | {after:.3f} | {gains} ", end="")
        print(f"| {beside} | {tokens:,.0f} | {scoring:.1%} |")


def draw(arms: Mapping[str, Sequence[Result]], path: Path, title: str) -> None:
    """Draw success on the training batches, mean over seeds and their range; and success on the evaluation's tasks."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained", width_ratios=(3, 2))
    for place, (name, runs) in enumerate(arms.items()):
        curves = np.array([run.curve for run in runs])
        steps = np.arange(1, curves.shape[1] + 1)
        (line,) = left.plot(steps, curves.mean(0), label=name)
        colour = line.get_color()
        left.fill_between(steps, curves.min(0), curves.max(0), alpha=0.12, color=colour, linewidth=0)
        for run in runs:
            right.plot([place, place], [_mean(run.before), _mean(run.after)], color=colour, alpha=0.3)
            right.plot(place, _mean(run.before), marker="o", markerfacecolor="none", color=colour)
            right.plot(place, _mean(run.after), marker="o", color=colour)
    left.set(xlabel="update", ylabel="success in training: mean and range of seeds", title=title)
    left.legend(frameon=False)
    right.set(ylabel="success, held out", title="before (open), after (filled)")
    right.set_xticks(range(len(arms)), list(arms), rotation=20, ha="right")
    figure.savefig(path, dpi=100)


def _mean(outcomes: str) -> float:
    return fmean(int(outcome) for outcome in outcomes if outcome != "-")


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def read_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=sorted(ARMS))
    parser.add_argument("--arms", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--start-seed", type=int, help="let all seeds begin from this one's warm start; default: own ones"
    )
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--out", type=Path, help="folder of the runs (default: runs/compare-SUITE)")
    parser.add_argument("--results", type=Path, help="default: docs/rewards/SUITE.json; the picture goes beside it")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="for all arms")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    args.arms = args.arms or list(ARMS[args.suite])
    args.out = args.out or Path(f"runs/compare-{args.suite}")
    args.results = args.results or ROOT / f"docs/rewards/{args.suite}.json"
    if unknown := sorted(set(args.arms) - set(ARMS[args.suite])):
        parser.error(f"no such arms: {unknown}; there are {list(ARMS[args.suite])}")
    return args


def run_missing(plan: Plan, path: Path, arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Add the results that the file lacks, seed after seed, so that it can be read before all are there."""
    results = read_results(path, plan.settings)
    done = {(result.arm, result.seed) for result in results}
    missing = [(arm, seed) for seed in seeds for arm in arms if (arm, seed) not in done]
    with tqdm(missing, unit="run") as bar:
        for arm, seed in bar:
            bar.set_description(f"{arm}, seed {seed}")
            results.append(plan.run(arm, seed))
            write_results(path, plan.settings, results)


def main() -> None:
    """Run what is missing, print the table and draw the picture."""
    args = read_arguments()
    if not args.report:
        pairs = dict(text.split("=", 1) for text in args.set)
        overrides = {"eval.split": HELD_OUT[args.suite], **{key: json.loads(value) for key, value in pairs.items()}}
        plan = Plan(args.suite, args.start_seed, args.out, {**overrides, "grpo.updates": args.updates})
        run_missing(plan, args.results, args.arms, args.seeds)
    arms = by_arm(args.suite, read_results(args.results))
    print_table(arms)
    draw(arms, args.results.with_suffix(".png"), args.suite)
    print(f"\n{args.results.with_suffix('.png')}")


if __name__ == "__main__":
    main()
