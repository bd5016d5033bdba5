"""The verb that plays back: `view` writes episodes as one HTML page with pictures and marks of what was clicked."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from agentgym.cli.arguments import add_verb
from agentgym.errors import UsageError

PAGE = "episodes.html"


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `view`."""
    view = add_verb(
        verbs,
        "view",
        "Write episodes as one HTML page that plays them turn by turn, with screenshots and the clicked spots, and "
        "print where it is.",
        "agentgym view run.jsonl --episode 3 --out episode-3.html",
    )
    view.add_argument(
        "source",
        type=Path,
        metavar="RUN",
        help="file that `agentgym run` wrote, or directory that `agentgym train` wrote: its first and last evaluation",
    )
    view.add_argument(
        "--episode",
        type=int,
        action="append",
        default=[],
        metavar="NUMBER",
        help="show only this one, from 0; -1 is the last; may be repeated (default: all)",
    )
    view.add_argument("--out", type=Path, metavar="PAGE", help=f"page to write (default: FILE.html, or RUN/{PAGE})")
    view.set_defaults(run=write_view)


def write_view(args: argparse.Namespace) -> int:
    """Write the page and print where it is."""
    from agentgym.report.player import open_reels, write_player

    reels = open_reels(args.source)
    if args.episode:
        chosen = []
        for reel in reels:
            count = len(reel.episodes)
            for number in args.episode:
                if not -count <= number < count:
                    raise UsageError(f"{reel.title} holds {count} episodes and none with number {number}")
            chosen.append(replace(reel, episodes=[reel.episodes[number] for number in args.episode]))
        reels = chosen
    default = args.source / PAGE if args.source.is_dir() else args.source.with_suffix(".html")
    page = args.out or default
    if page.is_dir() or page.resolve() == args.source.resolve():
        raise UsageError(
            f"--out names the page to write, and {page} is {'a folder' if page.is_dir() else 'its source'}"
        )
    print(write_player(reels, page))
    return 0
