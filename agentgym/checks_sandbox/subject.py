"""What the checks of a sandbox work with."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agentgym.check_result import require
from agentgym.sandbox import Sandbox, SandboxSpec

SandboxFactory = Callable[[SandboxSpec], Sandbox]


@dataclass(frozen=True)
class Subject:
    """A kind of sandbox under test.

    Attributes:
        make: Makes a box that was not started.
        spec: What boxes are asked for where a check has no wish of its own.
    """

    make: SandboxFactory
    spec: SandboxSpec

    @asynccontextmanager
    async def box(self, *, lease_s: float | None = None, **limits: Any) -> AsyncIterator[Sandbox]:
        """Start a fresh box, with some limits of its own, and close it."""
        spec = dataclasses.replace(
            self.spec,
            lease_s=self.spec.lease_s if lease_s is None else lease_s,
            limits=dataclasses.replace(self.spec.limits, **limits),
        )
        async with self.make(spec) as box:
            yield box


async def say(box: Sandbox, line: str, *, timeout_s: float = 30.0) -> str:
    """Run a line for bash that must succeed, and return what it wrote."""
    result = await box.exec(line, timeout_s=timeout_s)
    require(result.outcome == "ok", f"{line[:120]!r} ended as {result.outcome}: {result.show(max_chars=300)}")
    return result.stdout.decode("utf-8", "replace")
