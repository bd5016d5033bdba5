"""A vision-language model made from scratch learns to point on drawn screens; then GRPO, Gaussian or sparse reward.

python benchmarks/gui_train.py --out runs/gui --minutes 24 --updates 80 --seeds 0 1 2

Screens are panels of the gui pack's generator; the test split has layouts that training never shows. The warm start is
supervised and stops at its time; with more minutes, a ``warm.pt`` that is there goes on. Each reward then starts from
the same weights, and in each seed plays the same tasks for the same number of updates. Writes ``figures.json`` after
each run, goes on with the runs that it lacks, prints a table, draws ``curves.png`` and ``predictions.png``. One core is
enough.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gui_model import Words, answer_logprobs, as_pixels, make_model, prompt_ids, sample
from gui_pictures import draw_answers, draw_curves
from gui_screens import Screens, Target, load_screens
from gui_warm_start import PATCHES, warm_start

from agentgym.errors import ActionParseError
from agentgym.rewards.gaussian import Prediction, write_prediction
from agentgym.rewards.trajectory_reward import make_reward
from agentgym.train.advantage import find_advantage, turn_rewards
from agentgym.train.loss import PolicyLoss, TokenData, token_losses
from agentgym.train.optimizer import Optimizer
from agentgym.train.warmstart import cosine
from agentgym.trajectory import Trajectory, Turn
from agentgym.whole_file import write_whole
from agentgym_gui.answers import parse_answer
from agentgym_gui.generate.panels import SIDE_PX


def read_answer(text: str) -> Prediction | None:
    try:
        return parse_answer(text, (SIDE_PX, SIDE_PX), "thousand")
    except ActionParseError:
        return None


def play(target: Target, text: str) -> Trajectory:
    """Return the episode in which this was answered."""
    prediction = read_answer(text)
    turn = Turn(
        target.instruction, text, invalid_action=prediction is None, reward_terms={"outcome": 0.0},
        measures={} if prediction is None else write_prediction(prediction),
    )  # fmt: skip
    return Trajectory(
        "agentgym/ScreenSpot-v0", target.instruction, "train", turns=(turn,), kind=target.kind,
        ended="truncated" if prediction is None else "terminated",
        privileged={"box": target.box, "size": (SIDE_PX, SIDE_PX)},
    )  # fmt: skip


def evaluate(model: Any, words: Words, data: Screens) -> dict[str, float]:
    """Answer questions, sampled as in training and greedily."""
    method = make_reward("gaussian")
    found: dict[str, list[float]] = {}
    some = data.targets[:: max(1, len(data.targets) // 1000)]  # at most two thousand, and of all screens
    torch.manual_seed(0)
    for start in range(0, len(some), 128):
        asked = some[start : start + 128]
        rows = [prompt_ids(words, target.instruction, PATCHES) for target in asked]
        pixels = as_pixels(data.images[[target.screen for target in asked]])
        for way in ("sampled", "greedy"):
            texts = [words.decode(ids.tolist()) for ids in sample(model, pixels, rows, 1, greedy=way == "greedy").ids]
            for episode in method([play(target, text) for target, text in zip(asked, texts, strict=True)]):
                for kind in ("all", episode.kind):
                    found.setdefault(f"{way}/{kind}", []).append(episode.measures.get("hit", 0.0))
                found.setdefault(f"{way}/gaussian", []).append(episode.reward_terms.get("gaussian", 0.0))
    return {name: float(np.mean(values)) for name, values in found.items()}


def grpo(model: Any, words: Words, data: Screens, variant: str, updates: int, seed: int) -> list[dict[str, float]]:
    """Train with one reward; the tasks of a seed are the same for every reward."""
    peak = 5e-4
    optimizer = Optimizer(model, "adamw", peak, weight_decay=0.0)
    method, estimate = make_reward("gaussian", variant=variant), find_advantage("grpo")
    chance, tasks, copies = np.random.default_rng([seed, 1]), 32, 8
    torch.manual_seed(seed)
    log = []
    for update in range(updates):
        optimizer.set_learning_rate(peak * cosine(update, updates, 0.1))
        asked = [data.targets[int(i)] for i in chance.integers(len(data.targets), size=tasks)]
        rows = [prompt_ids(words, target.instruction, PATCHES) for target in asked]
        pixels = as_pixels(data.images[[target.screen for target in asked]])
        model.eval()
        drawn = sample(model, pixels, rows, copies)
        texts = [words.decode(ids.tolist()) for ids in drawn.ids]
        groups = [method([play(t, text) for text in texts[n * copies : (n + 1) * copies]]) for n, t in enumerate(asked)]
        advantages = np.concatenate(
            [np.array([own[0] for own in estimate(group, [turn_rewards(t) for t in group])]) for group in groups]
        )
        model.train()
        many = [row for row in rows for _ in range(copies)]
        logprobs = answer_logprobs(model, pixels.repeat_interleave(copies, 0), many, drawn.ids)
        kept = drawn.mask.bool()
        numbers = torch.arange(len(many))[:, None].expand_as(kept)[kept]
        given = torch.tensor(advantages, dtype=torch.float32)[numbers]
        tokens = TokenData(drawn.logprobs[kept], drawn.logprobs[kept], given, numbers)
        loss = token_losses(logprobs[kept], tokens, PolicyLoss()).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        off = (logprobs.detach() - drawn.logprobs)[kept].abs().max().item()
        hits = [t.measures.get("hit", 0.0) for group in groups for t in group]
        tied = np.mean([len({t.episode_return for t in group}) == 1 for group in groups])
        log.append(
            {"update": update, "hit": float(np.mean(hits)), "tied": float(tied), "off_policy": off, "norm": float(norm)}
        )
        if update % 10 == 9:
            print(variant, seed, json.dumps(log[-1]), flush=True)
    return log


def print_table(figures: Mapping[str, Any]) -> None:
    """Print what each reward came to on the test screens."""
    warm = figures["after_warm"]["test"]
    print("| reward | hits | each seed | hits, text | hits, icons | hits, greedy | Gaussian reward |")
    print("|---|---:|---|---:|---:|---:|---:|")
    rows = {
        "warm start": [warm],
        **{v: [run["after"]["test"] for run in runs] for v, runs in figures["rewards"].items()},
    }
    shown = ("sampled/all", "sampled/text", "sampled/icon", "greedy/all", "sampled/gaussian")
    for name, ends in rows.items():
        each = ", ".join(f"{end['sampled/all']:.3f}" for end in ends)
        first, *means = [float(np.mean([end[key] for end in ends])) for key in shown]
        print(f"| {name} | {first:.3f} | {each} | {' | '.join(f'{mean:.3f}' for mean in means)} |")


def show_answers(model: Any, words: Words, data: Screens, path: Path) -> None:
    """Draw what the model answers to a dozen questions."""
    shown = data.targets[:: max(1, len(data.targets) // 12)][:12]
    pictures = data.images[[target.screen for target in shown]]
    found = sample(
        model.eval(), as_pixels(pictures), [prompt_ids(words, t.instruction, PATCHES) for t in shown], 1, greedy=True
    )
    answers = [read_answer(words.decode(ids.tolist())) for ids in found.ids]
    draw_answers(list(pictures), [(t.instruction, t.box) for t in shown], answers, path)


def read_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gui"))
    parser.add_argument("--screens", type=int, default=1350)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the processor, for the warm start")
    parser.add_argument("--updates", type=int, default=60, help="of GRPO, for each reward and seed")
    parser.add_argument("--rewards", nargs="+", default=["full", "hit"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--hidden", type=int, default=128)
    args = parser.parse_args()
    if args.updates < 1 or args.minutes <= 0:
        parser.error("--updates and --minutes must be more than 0")
    return args


def main() -> None:
    args = read_arguments()
    torch.manual_seed(0)
    data = {
        split: load_screens(args.out / "screens", split, n) for split, n in (("train", args.screens), ("test", 225))
    }
    words = Words.of([phrase for target in data["train"].targets for phrase in target.phrases])
    model = make_model(words, SIDE_PX, args.hidden, (2, 3))
    warm, kept = args.out / "warm.pt", args.out / "figures.json"
    settings = {name: getattr(args, name) for name in ("screens", "minutes", "updates", "hidden")}
    figures = json.loads(kept.read_text()) if kept.exists() else None
    if figures and figures["settings"] != settings:
        raise SystemExit(
            f"{args.out} has runs with {figures['settings']}, not {settings}: give another --out (a warm.pt that is "
            "copied there goes on)"
        )
    start: dict[str, Any] = torch.load(warm, weights_only=True) if warm.exists() else {"minutes": 0.0, "log": []}
    if start["minutes"] < args.minutes:
        if start["log"]:
            model.load_state_dict(start["model"])
        log = warm_start(model, words, data["train"], args.minutes, start["log"])
        weights = {name: weight.clone() for name, weight in model.state_dict().items()}
        start = {"model": weights, "log": log, "minutes": args.minutes}
        torch.save(start, warm)
    if figures is None:
        model.load_state_dict(start["model"])
        figures = {
            "settings": settings,
            "weights": sum(p.numel() for p in model.parameters()),
            "warm": start["log"],
            "after_warm": {split: evaluate(model.eval(), words, screens) for split, screens in data.items()},
            "rewards": {},
        }
        print("warm", json.dumps(figures["after_warm"]), flush=True)
    for seed in args.seeds:
        for variant in args.rewards:
            runs = figures["rewards"].setdefault(variant, [])
            if any(run["seed"] == seed for run in runs):
                continue
            model.load_state_dict(start["model"])
            log = grpo(model, words, data["train"], variant, args.updates, seed)
            after = {split: evaluate(model.eval(), words, screens) for split, screens in data.items()}
            torch.save({"model": model.state_dict()}, args.out / f"{variant}.pt")
            runs.append({"seed": seed, "log": log, "after": after})
            write_whole(kept, json.dumps(figures))
            print(variant, seed, json.dumps(after), flush=True)
    print_table(figures)
    draw_curves(figures, args.out / "curves.png")
    model.load_state_dict(torch.load(args.out / f"{args.rewards[0]}.pt", weights_only=True)["model"])
    show_answers(model, words, data["test"], args.out / "predictions.png")


if __name__ == "__main__":
    main()
