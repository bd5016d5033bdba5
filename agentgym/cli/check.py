"""The verb `check`: does an environment, or a kind of sandbox, keep its contract."""

from __future__ import annotations

import argparse

from agentgym.cli.arguments import add_env_arguments, add_verb, read_pairs
from agentgym.errors import UsageError


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check`."""
    parser = add_verb(
        verbs,
        "check",
        "Play an environment, or attack a kind of sandbox, and say check by check whether it keeps its contract; exit "
        "code 1 if not.",
        "agentgym check agentgym/Household-v0 --episodes 20",
    )
    add_env_arguments(parser, required=False)
    parser.add_argument("--episodes", type=int, default=5, help="tasks of each split to play (default: 5)")
    parser.add_argument(
        "--sandbox", metavar="NAME", help="check a sandbox that `agentgym probe` lists, and no environment"
    )
    parser.set_defaults(run=run_checks)


def run_checks(args: argparse.Namespace) -> int:
    """Print a table of checks."""
    from agentgym.checks import check_env, check_sandbox

    if bool(args.env_id) == bool(args.sandbox):
        raise UsageError("check takes either an ENV_ID or --sandbox NAME")
    if args.sandbox:
        results = check_sandbox(args.sandbox)
    else:
        results = check_env(args.env_id, episodes=args.episodes, **read_pairs(args.env_arg, "--env-arg"))
    width = max(len(result.name) for result in results)
    for result in results:
        verdict = ("none" if result.declared else "ok  ") if result.passed else "FAIL"
        print(f"{verdict}  {result.name:<{width}}  {result.duration_s:6.1f} s  {' '.join(result.detail.split())}")
    failed = sum(not result.passed for result in results)
    declared = sum(result.declared for result in results)
    said = f"{failed} of {len(results)} checks failed" if failed else f"{len(results) - declared} checks passed"
    print(f"{args.env_id or args.sandbox}: {said}" + (f", {declared} promises are not made" if declared else ""))
    return 1 if failed else 0
