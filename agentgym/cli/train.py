"""The verb `train`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agentgym.cli.arguments import add_verb, read_pairs
from agentgym.errors import UsageError


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train`."""
    parser = add_verb(
        verbs,
        "train",
        "Train a language model as a recipe says: supervised warm start, then GRPO.",
        "agentgym train recipes/household-tiny.toml --set run.seed=1 --set grpo.updates=40",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="the recipe")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="replace a value of the recipe, e.g. grpo.updates=40; JSON or text; may be repeated",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the recipe's run")
    parser.set_defaults(run=train_model)


def train_model(args: argparse.Namespace) -> int:
    """Train and print where the run is."""
    from agentgym.train.config import load_recipe

    recipe = load_recipe(args.recipe, read_pairs(args.overrides, "--set"))
    try:
        from agentgym.train.run import train
    except ImportError as error:
        raise UsageError(f"training needs more packages: pip install 'agentgym-core[train,vllm]' ({error})") from error
    try:
        run_dir = train(recipe, resume=args.resume)
    except KeyboardInterrupt:
        print("agentgym: training stopped; add --resume to go on from the last checkpoint", file=sys.stderr)
        raise
    print(f"{run_dir}: trained; `agentgym report {run_dir}` draws its curves")
    return 0
