"""The conformance suite for authors of sandboxes.

``check_sandbox("docker")`` starts boxes for real, attacks them, and says promise by promise (see
:data:`agentgym.sandbox_promises.PROMISES`) what held. ``agentgym check --sandbox docker`` prints the same as a table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from agentgym.check_result import CheckError, CheckResult, require
from agentgym.checks_sandbox import commands, limits, walls
from agentgym.checks_sandbox.subject import SandboxFactory, Subject
from agentgym.sandbox import Sandbox, SandboxSpec
from agentgym.sandbox_choice import make_sandbox
from agentgym.sandbox_promises import PROMISES

_CHECK_S = 180.0

CHECKS: Mapping[str, Callable[[Subject], Awaitable[str]]] = {
    "starts": commands.check_starts,
    "commands": commands.check_commands,
    "deadline": commands.check_deadline,
    "output cap": commands.check_output_cap,
    "background": commands.check_background,
    "zombies": commands.check_zombies,
    "files": commands.check_files,
    "no network": walls.check_no_network,
    "no capabilities": walls.check_no_capabilities,
    "no host files": walls.check_no_host_files,
    "no host secrets": walls.check_no_host_secrets,
    "no host processes": walls.check_no_host_processes,
    "processes": limits.check_processes,
    "memory": limits.check_memory,
    "cpus": limits.check_cpus,
    "workspace size": limits.check_workspace_size,
    "inodes": limits.check_inodes,
    "open files": limits.check_open_files,
    "reset": commands.check_reset,
    "lease": commands.check_lease,
    "close": commands.check_close,
}


def check_sandbox(sandbox: str | SandboxFactory, spec: SandboxSpec | None = None) -> list[CheckResult]:
    """Run every conformance check against a kind of sandbox; takes a minute or two.

    A promise that the kind declares in ``exceptions`` is not tried: an attack that nothing holds back would meet the
    host. It is reported as declared; the check ``probe`` fails if the kind's own probe says that it keeps it.

    Args:
        sandbox: A registered name, or what makes a box from a spec, such as the class.
        spec: What the boxes are asked for; checks of limits ask for smaller ones.

    Returns:
        One result for its probe and one per promise; none stops the others, except a box that does not start.

    Raises:
        UnknownNameError: The sandbox is not registered.
        SandboxUnavailableError: It cannot be made on this host.
    """
    make: SandboxFactory = (lambda spec: make_sandbox(sandbox, spec)) if isinstance(sandbox, str) else sandbox
    return asyncio.run(_check(Subject(make, spec or SandboxSpec())))


async def _check(subject: Subject) -> list[CheckResult]:
    kind = type(subject.make(subject.spec))
    results = [await _run_check("probe", check_probe(kind))]
    for promise, check in CHECKS.items():
        if promise in kind.exceptions:
            results.append(CheckResult(promise, True, f"declared: {kind.exceptions[promise]}", 0.0, declared=True))
            continue
        results.append(await _run_check(promise, check(subject)))
        if promise == "starts" and not results[-1].passed:
            break
    return results


async def check_probe(kind: type[Sandbox]) -> str:
    """What the kind declares and what its probe says agree, and are named as they should be."""
    for promise, reason in kind.exceptions.items():
        require(promise in PROMISES, f"exceptions name {promise!r}, which agentgym.sandbox_promises does not")
        require(reason, f"exceptions give no reason for {promise!r}")
    require("starts" not in kind.exceptions, "a box that does not start is none")
    probes = await kind.probe()
    require(probes and probes[0].promise == "starts", "the first probe is 'starts'")
    for probe in probes:
        require(
            probe.promise in PROMISES, f"it probes {probe.promise!r}, which agentgym.sandbox_promises does not name"
        )
        contradicts = probe.held and probe.promise in kind.exceptions
        require(not contradicts, f"{probe.promise!r} was found to hold, and is declared not to")
    return f"{sum(probe.held for probe in probes)} of {len(probes)} probes held; {len(kind.exceptions)} exceptions"


async def _run_check(name: str, check: Awaitable[str]) -> CheckResult:
    started_s = time.monotonic()
    try:
        passed, detail = True, await asyncio.wait_for(check, _CHECK_S)
    except Exception as error:  # a check's finding, or the box's own crash: both are its result
        passed = False
        detail = str(error) if isinstance(error, CheckError) else f"{type(error).__name__}: {error}"
    return CheckResult(name, passed, detail, time.monotonic() - started_s)
