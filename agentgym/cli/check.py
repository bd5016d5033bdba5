"""The verb `check`: does an environment keep the contract."""

from __future__ import annotations

import argparse

from agentgym.cli.arguments import add_env_arguments, add_verb, read_pairs


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check`."""
    parser = add_verb(
        verbs,
        "check",
        "Play an environment and say, check by check, whether it keeps the contract; exit code 1 if not.",
        "agentgym check agentgym/Household-v0 --episodes 20",
    )
    add_env_arguments(parser)
    parser.add_argument("--episodes", type=int, default=5, help="tasks of each split to play (default: 5)")
    parser.set_defaults(run=run_checks)


def run_checks(args: argparse.Namespace) -> int:
    """Print a table of checks."""
    from agentgym.checks import check_env

    results = check_env(args.env_id, episodes=args.episodes, **read_pairs(args.env_arg, "--env-arg"))
    width = max(len(result.name) for result in results)
    for result in results:
        verdict = "ok  " if result.passed else "FAIL"
        print(f"{verdict}  {result.name:<{width}}  {result.duration_s:6.1f} s  {' '.join(result.detail.split())}")
    failed = sum(not result.passed for result in results)
    print(
        f"{args.env_id}: "
        + (f"{failed} of {len(results)} checks failed" if failed else f"{len(results)} checks passed")
    )
    return 1 if failed else 0
