"""Which kind of sandbox: by name, or the strongest that keeps all its promises on this host."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from agentgym.errors import SandboxUnavailableError, UnknownNameError, UsageError
from agentgym.registry import SANDBOXES_GROUP, list_names, load_named
from agentgym.sandbox import Probe, Sandbox, SandboxSpec
from agentgym.sandbox_memory import keep_choice, recall_choice
from agentgym.sandbox_promises import PROMISES

AUTO = "auto"
_PROBE_S = 120.0

Standing = Literal["held", "not held", "cannot promise", "not tried"]


@dataclass(frozen=True)
class ProbedKind:
    """A kind of sandbox as it was found on this host.

    Attributes:
        name: Under which it is registered.
        kind: Its class; ``None`` if it could not be loaded.
        probes: What was tried, and what came of it.
        error: Why it could not be loaded or probed; empty if it could.
    """

    name: str
    kind: type[Sandbox] | None = None
    probes: tuple[Probe, ...] = ()
    error: str = ""

    def standing(self, promise: str) -> tuple[Standing, str]:
        """Say what became of a promise, and what was seen or why it cannot be promised."""
        if self.kind and promise in self.kind.exceptions:
            return "cannot promise", self.kind.exceptions[promise]
        for probe in self.probes:
            if probe.promise == promise:
                return ("held" if probe.held else "not held"), probe.detail
        return "not tried", self.error

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why ``auto`` does not take it on this host; empty if it may."""
        if self.error:
            return (self.error,)
        if not self.probes:
            return ("it was not probed",)
        found = [(promise, *self.standing(promise)) for promise in (probe.promise for probe in self.probes)]
        return tuple(f"{promise}: {why or 'not held'}" for promise, standing, why in found if standing == "not held")

    @property
    def choosable(self) -> bool:
        """Whether ``auto`` may take it."""
        return self.kind is not None and self.kind.strength > 0 and not self.obstacles


def make_sandbox(name: str = AUTO, spec: SandboxSpec | None = None, **kwargs: Any) -> Sandbox:
    """Make a sandbox; ``async with`` starts it.

    ``auto`` takes the strongest kind whose probes all hold on this host. They run at the first such call, which blocks
    for some seconds until they are done, and what they found is kept for a day: see :mod:`agentgym.sandbox_memory`. A
    kind of strength 0, such as ``local``, is never taken.

    Args:
        name: ``auto``, or a name that `agentgym probe` lists.
        spec: What box is wanted.
        **kwargs: Arguments of the kind, e.g. ``allow_local=True`` for ``local``.

    Raises:
        UnknownNameError: There is no such kind.
        UsageError: It does not take one of the arguments, or needs a package that is not installed.
        SandboxUnavailableError: No kind keeps its promises here, and why; or ``local`` was not allowed, which holds
            nothing back.
    """
    if name == AUTO:
        kind: Callable[..., Sandbox] = _choose_for_this_host()
    else:
        kind = load_named(SANDBOXES_GROUP, "sandbox", name)
    try:
        return kind(spec, **kwargs)
    except TypeError as error:
        raise UsageError(f"sandbox {name!r} cannot be made with {sorted(kwargs)}: {error}") from error


def choose_kind(found: Sequence[ProbedKind]) -> type[Sandbox]:
    """Return the strongest kind that keeps its promises here.

    Raises:
        SandboxUnavailableError: None does; says for each why not.
    """
    fit = [probed.kind for probed in found if probed.choosable and probed.kind is not None]
    if fit:
        return max(fit, key=lambda kind: kind.strength)
    reasons = [f"{probed.name}: {probed.obstacles[0]}" for probed in found if probed.obstacles]
    raise SandboxUnavailableError(
        "no kind of sandbox keeps its promises on this host. "
        + "".join(f"{reason.rstrip('.')}. " for reason in reasons)
        + "Install Docker (Debian: apt-get install docker.io, then pip install 'agentgym-core[docker]') or bubblewrap "
        "(apt-get install bubblewrap); `agentgym probe` shows every promise."
    )


def _choose_for_this_host() -> type[Sandbox]:
    installed = list_names(SANDBOXES_GROUP)
    kept = recall_choice(installed)
    if kept in installed:
        chosen: type[Sandbox] = load_named(SANDBOXES_GROUP, "sandbox", kept)
        return chosen
    chosen = choose_kind(probe_installed())
    keep_choice(chosen.name, installed)
    return chosen


@functools.cache
def probe_installed() -> tuple[ProbedKind, ...]:
    """Probe the kinds that are installed, strongest first, until one is fit; once in a process, in a loop or not."""
    found: list[ProbedKind] = []

    async def probe() -> None:
        kinds = [_load_kind(name) for name in list_names(SANDBOXES_GROUP)]
        for kind in sorted(kinds, key=lambda kind: kind.kind.strength if kind.kind else 0, reverse=True):
            found.append(await _probe_kind(kind))
            if found[-1].choosable:
                return

    with ThreadPoolExecutor(1, "agentgym-probe") as thread:
        thread.submit(asyncio.run, probe()).result()
    return tuple(found)


async def probe_kinds(names: Sequence[str]) -> list[ProbedKind]:
    """Probe kinds by name, one after the other, so that none disturbs another's measurements.

    Raises:
        UnknownNameError: One is not registered.
    """
    return [await _probe_kind(_load_kind(name)) for name in names]


def _load_kind(name: str) -> ProbedKind:
    try:
        return ProbedKind(name, load_named(SANDBOXES_GROUP, "sandbox", name))
    except UnknownNameError:
        raise
    except Exception as error:  # a stranger's code: whatever it raises must not stop the others
        return ProbedKind(name, error=str(error) if isinstance(error, UsageError) else f"it is broken: {error!r}")


async def _probe_kind(found: ProbedKind) -> ProbedKind:
    name, kind = found.name, found.kind
    if kind is None:
        return found
    try:
        probes = tuple(await asyncio.wait_for(kind.probe(), _PROBE_S))
    except Exception as error:  # a stranger's code: that it raised is what was found
        return ProbedKind(name, kind, error=f"its probe failed: {type(error).__name__}: {error}")
    strange = sorted({probe.promise for probe in probes} - set(PROMISES))
    if strange:
        return ProbedKind(
            name, kind, probes, error=f"it probes {strange}, which agentgym.sandbox_promises does not name"
        )
    return ProbedKind(name, kind, probes)
