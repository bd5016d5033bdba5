"""Verbs that say what is installed: `packs` and `policies`."""

from __future__ import annotations

import argparse
import inspect

from agentgym.cli.arguments import add_verb
from agentgym.errors import UsageError
from agentgym.registry import POLICIES_GROUP, list_names, load_named, load_packs

_SHOWN = 12  # environments of a pack; some bring hundreds


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `packs` and `policies`."""
    packs = add_verb(
        verbs, "packs", "List the installed packs, their environments, and the broken ones.", "agentgym packs"
    )
    packs.set_defaults(run=list_packs)
    policies = add_verb(verbs, "policies", "List the policies that can act, and their arguments.", "agentgym policies")
    policies.set_defaults(run=list_policies)


def list_packs(args: argparse.Namespace) -> int:
    """Print each pack with its environments; a broken one with the reason."""
    packs = load_packs()
    for pack in packs:
        print(f"{pack.name} ({pack.distribution})")
        if pack.error:
            print(f"  broken: {pack.error}")
        for env_id in pack.env_ids[:_SHOWN]:
            print(f"  {env_id}")
        if len(pack.env_ids) > _SHOWN:
            print(f"  … and {len(pack.env_ids) - _SHOWN} more, such as {pack.env_ids[-1]}")
    if not packs:
        print("No pack is installed. Try: pip install agentgym-household")
    return 0


def list_policies(args: argparse.Namespace) -> int:
    """Print each policy with the first line of its documentation and its arguments."""
    for name in list_names(POLICIES_GROUP):
        try:
            factory = load_named(POLICIES_GROUP, "policy", name)
        except UsageError as error:
            print(f"{name}\n  not usable: {error}")
            continue
        arguments = ", ".join(
            str(parameter.replace(annotation=inspect.Parameter.empty))
            for parameter in inspect.signature(factory).parameters.values()
        )
        print(f"{name}\n  {(inspect.getdoc(factory) or '').partition(chr(10))[0]}")
        if arguments:
            print(f"  --policy-arg: {arguments}")
    return 0
