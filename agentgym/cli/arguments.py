"""Arguments that several verbs share, and how `key=value` is read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from agentgym.errors import UsageError


def add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    """Add a verb whose help ends in an example."""
    return verbs.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_env_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add what names and makes an environment."""
    parser.add_argument(
        "env_id", metavar="ENV_ID", nargs=None if required else "?", help="an id that `agentgym packs` lists"
    )
    parser.add_argument(
        "--env-arg",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of the environment, JSON or text; may be repeated",
    )


def read_pairs(pairs: Sequence[str], option: str) -> dict[str, Any]:
    """Read `key=value` pairs; a value is JSON if it can be, else text.

    Raises:
        UsageError: A pair has no `=` or no key, or a key comes twice.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise UsageError(f"{option} takes KEY=VALUE, e.g. {option} seed=7; got {pair!r}")
        if key in values:
            raise UsageError(f"{option} {key} was given twice")
        values[key] = _read_value(text)
    return values


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
