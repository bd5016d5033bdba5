"""Processes of the host that flood, linger, ignore their stdin or are cancelled: nothing is left of them."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentgym.errors import SandboxLostError, SandboxRefusedError
from agentgym_sandboxes.process import Ending, HostCommand, HostProcess

ENV = {"PATH": "/usr/bin:/bin"}


def count_ours() -> tuple[int, int, int]:
    """Return how many children, file descriptors and threads this process has."""
    children = sum(len((task / "children").read_text().split()) for task in Path("/proc/self/task").iterdir())
    return children, len(os.listdir("/proc/self/fd")), threading.active_count()


def living_members(session: int) -> Iterator[str]:
    """Yield the processes of a session, but for those that have ended and wait for their reaper."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX" and int(its_session) == session:
            yield stat.parent.name


@pytest.fixture(autouse=True)
async def nothing_is_left() -> Iterator[None]:
    before = count_ours()
    yield
    assert count_ours() == before


async def run(
    line: str, *, timeout_s: float = 20.0, output_bytes: int = 100_000, stdin: bytes = b""
) -> tuple[Ending, HostProcess]:
    async with HostProcess(HostCommand(["bash", "-c", line], ENV, output_bytes, stdin=stdin)) as process:
        ending = await process.wait(timeout_s)
    return ending, process


@pytest.mark.parametrize(
    "line", ["yes", "yes >&2", "head -c 1G /dev/zero", "yes & yes >&2", "trap '' PIPE; yes; sleep 60"]
)
async def test_a_flood_is_cut_while_it_is_read(line: str) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ending, process = await run(line, output_bytes=5000)
    assert ending == "truncated"
    assert max(map(len, process.output)) == 5000
    assert process.duration_s < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20_000


async def test_output_of_exactly_the_cap_is_kept() -> None:
    ending, process = await run("head -c 5000 /dev/zero", output_bytes=5000)
    assert (ending, process.exit_code, process.output) == ("exited", 0, (bytes(5000), b""))


async def test_a_child_that_holds_the_pipes_delays_nothing() -> None:
    ending, process = await run("setsid sleep 3 & echo said")
    assert (ending, process.exit_code, process.output) == ("exited", 0, (b"said\n", b""))
    assert process.duration_s < 2.5


async def test_what_was_written_last_is_read() -> None:
    for _ in range(20):
        _, process = await run("head -c 60000 /dev/zero")
        assert len(process.output[0]) == 60_000


async def test_stdin_is_fed_while_output_is_read() -> None:
    data = os.urandom(3 << 20)
    ending, process = await run("cat", stdin=data, output_bytes=4 << 20)
    assert (ending, process.output[0] == data) == ("exited", True)


@pytest.mark.parametrize("line", ["exec <&-; sleep 0.2", "sleep 0.2", "head -c 10"])
async def test_a_stdin_that_is_not_read_blocks_nothing(line: str) -> None:
    ending, process = await run(line, stdin=bytes(1 << 20))
    assert (ending, process.exit_code) == ("exited", 0)


async def test_without_stdin_its_end_is_met_at_once() -> None:
    assert (await run("cat; echo end"))[1].output == (b"end\n", b"")


async def test_a_deadline_ends_the_process_group() -> None:
    started = time.monotonic()
    ending, process = await run("trap '' TERM; sleep 60 & sleep 60; sleep 60", timeout_s=0.3)
    assert ending == "timed_out"
    assert 0.3 <= time.monotonic() - started < 5
    assert not list(living_members(process.pid))


async def test_exit_statuses() -> None:
    assert [(await run(line))[1].exit_code for line in ("exit 42", "kill -9 $$", "exit 137")] == [42, 137, 137]


async def test_what_cannot_be_started() -> None:
    with pytest.raises(SandboxLostError, match="no-such-program"):
        HostProcess(HostCommand(["no-such-program"], ENV, 100))
    with pytest.raises(SandboxRefusedError):
        HostProcess(HostCommand(["true", *["x" * 100_000] * 100], ENV, 100))


@pytest.mark.parametrize("line", ["cat", "yes", "sleep 60", "exit 3", "trap '' TERM; sleep 60 & cat"])
async def test_cancelled_at_every_await(line: str) -> None:
    before = count_ours()
    for step in range(40):
        task = asyncio.create_task(run(line, stdin=bytes(200_000) if "cat" in line else b""))
        for _ in range(step // 2):
            await asyncio.sleep(0 if step < 20 else 0.0005)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # while it cleans up
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(result, asyncio.CancelledError | tuple), result
        assert count_ours() == before, f"after {step} steps"
