"""Verbs about sandboxes: `probe` says what they hold back on this host, `gc` removes what dead runs have left."""

from __future__ import annotations

import argparse
import asyncio
import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentgym.cli.arguments import add_verb
from agentgym.errors import SandboxUnavailableError, UsageError
from agentgym.registry import SANDBOXES_GROUP, list_names, load_named
from agentgym.sandbox_promises import PROMISES

if TYPE_CHECKING:
    from agentgym.sandbox import Sandbox
    from agentgym.sandbox_choice import ProbedKind


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `probe` and `gc`."""
    probe = add_verb(
        verbs,
        "probe",
        "Start each kind of sandbox on this host and say which promises it keeps; exit code 1 if none is fit for auto.",
        "agentgym probe bwrap --json",
    )
    probe.add_argument("name", nargs="?", metavar="NAME", help="only this kind (default: all that are installed)")
    probe.add_argument("--json", action="store_true", help="print JSON and nothing else")
    probe.set_defaults(run=print_probes)
    garbage = add_verb(
        verbs,
        "gc",
        "Remove the boxes of runs that are dead or whose lease is over. Boxes of runs that live are left alone.",
        "agentgym gc --dry-run",
    )
    garbage.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    garbage.set_defaults(run=collect_garbage)


def print_probes(args: argparse.Namespace) -> int:
    """Print promises by kinds, the reasons, and what ``auto`` takes."""
    from agentgym.sandbox_choice import choose_kind, probe_kinds
    from agentgym.sandbox_memory import keep_choice

    found = asyncio.run(probe_kinds([args.name] if args.name else list_names(SANDBOXES_GROUP)))
    try:
        chosen, why = choose_kind(found).name, ""
    except SandboxUnavailableError as error:
        chosen, why = None, str(error)
    if not args.name:
        keep_choice(chosen, list_names(SANDBOXES_GROUP))
    if args.json:
        print(json.dumps({"auto": chosen, "kinds": {kind.name: _as_json(kind) for kind in found}}, indent=2))
    else:
        _print_table(found)
        _print_details(found)
        if args.name and not chosen:
            print(f"\nauto does not take {args.name} here.")
        else:
            print(f"\nauto takes {chosen} here." if chosen else f"\n{why}")
    return 0 if chosen else 1


def _as_json(kind: ProbedKind) -> dict[str, object]:
    promises = {}
    for promise in PROMISES:
        standing, detail = kind.standing(promise)
        promises[promise] = {"standing": standing, "detail": detail}
    return {"strength": kind.kind.strength if kind.kind else 0, "error": kind.error, "promises": promises}


def _print_table(found: Sequence[ProbedKind]) -> None:
    width = max(map(len, PROMISES))
    columns = [max(len(kind.name), len("cannot promise")) for kind in found]
    print("  ".join([" " * width, *(f"{k.name:<{c}}" for k, c in zip(found, columns, strict=True))]).rstrip())
    for promise in PROMISES:
        cells = [f"{kind.standing(promise)[0]:<{column}}" for kind, column in zip(found, columns, strict=True)]
        print("  ".join([f"{promise:<{width}}", *cells]).rstrip())


def _print_details(found: Sequence[ProbedKind]) -> None:
    for kind in found:
        print(f"\n{kind.name}: " + (kind.error or ("strength " + str(kind.kind.strength) if kind.kind else "")))
        for promise, meaning in PROMISES.items():
            standing, detail = kind.standing(promise)
            if standing != "not tried":
                text = f"{promise}: {standing}. {' '.join(detail.split()) or meaning}"
                print(textwrap.fill(text, 118, initial_indent="  ", subsequent_indent="    "))


def collect_garbage(args: argparse.Namespace) -> int:
    """Let each installed kind remove what dead runs have left, and list it."""
    removed = 0
    for name in list_names(SANDBOXES_GROUP):
        try:
            kind: type[Sandbox] = load_named(SANDBOXES_GROUP, "sandbox", name)
            lines = kind.collect_garbage(dry_run=args.dry_run)
        except UsageError as error:  # a kind that this host does not have has left nothing that could be found
            print(f"{name}: not looked at: {error}")
            continue
        for line in lines:
            print(f"{name}: {'would remove' if args.dry_run else 'removed'} {line}")
        removed += len(lines)
    print(
        f"{removed} left-over things {'found' if args.dry_run else 'removed'}." if removed else "Nothing was left over."
    )
    return 0
