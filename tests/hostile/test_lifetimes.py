"""Rows 30, 31, 33 and 34: the parent dies, a user gives up, many come at once; and nothing is left of it.

Rows 28, 29 and 32, in which the daemon dies, are in test_daemon.py.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import re
import subprocess
import sys
import threading
import time
import types
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentgym.sandbox import Limits, Sandbox, SandboxSpec
from agentgym_sandboxes import docker_engine, reaper
from agentgym_sandboxes.docker import DockerSandbox
from agentgym_sandboxes.docker_engine import DockerError, Engine, ask
from agentgym_sandboxes.pool import WarmPool

IMAGE = "agentgym/base"
on_docker = pytest.mark.parametrize("kind", ["docker"], indirect=True)
SMALL = SandboxSpec(image=IMAGE, limits=Limits(memory_mb=256, workspace_mb=16, tmp_mb=16), lease_s=600)


@pytest.fixture
def api(kind: type[Sandbox]) -> Iterator[Any]:
    client = docker_engine.connect(60)
    yield client
    client.close()


@pytest.fixture(autouse=True)
async def no_engine_left() -> AsyncIterator[None]:
    """The last box of a process closes its connection to the daemon, with its threads."""
    yield
    assert Engine._engines == {}


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _own_containers() -> list[str]:
    """Return the containers of the shared daemon that belong to this process."""
    client = docker_engine.connect(60)
    try:
        return _containers_of(client, str(reaper.this_process()))
    finally:
        client.close()


def _containers_of(api: Any, owner: str) -> list[str]:
    return [entry["Id"] for entry in api.containers(all=True, filters={"label": f"{reaper.OWNER}={owner}"})]


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {inspect.getsource(condition).strip()}"
        await asyncio.sleep(0.1)


PARENT = """
import asyncio, sys
from agentgym.sandbox import Limits, SandboxSpec
from agentgym.sandbox_choice import make_sandbox
async def main():
    spec = SandboxSpec(limits=Limits(memory_mb=256, workspace_mb=16, tmp_mb=16), lease_s=float(sys.argv[3]))
    async with make_sandbox(sys.argv[1], spec) as box:
        await box.exec("setsid nohup sleep " + sys.argv[2] + " >/dev/null 2>&1 &", timeout_s=20)
        running = asyncio.ensure_future(box.exec("echo; exec sleep " + sys.argv[2], timeout_s=3000))
        await asyncio.sleep(1)
        print("ready", flush=True)
        await running
asyncio.run(main())
"""


class Parent:
    """Another process with a box, in which two processes run that bear a mark."""

    def __init__(self, kind: str, lease_s: float) -> None:
        self.mark = f"{1000 + uuid.uuid4().int % 10**6}.{uuid.uuid4().int % 10**6}"
        argv = [sys.executable, "-c", PARENT, kind, self.mark, str(lease_s)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.owner = str(reaper._owner(self.process.pid))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def processes(self) -> list[int]:
        """Return the processes of this host that bear the mark, but for the parent itself."""
        mark, found = self.mark.encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "cmdline").read_bytes() and int(entry.name) != self.process.pid:
                    found.append(int(entry.name))
            except OSError:  # it has ended
                continue
        return found


async def test_row_30_parent_killed(kind: type[Sandbox]) -> None:
    api = docker_engine.connect(60)
    async with kind(SMALL) as neighbour:
        parent = await asyncio.to_thread(Parent, kind.name, 12.0)
        try:
            # In a bubblewrap box, what the first command left in the background has ended with it.
            assert len(parent.processes()) >= (1 if kind.name == "bwrap" else 2)
        finally:
            parent.kill()
        await _until(lambda: parent.processes() == [] and _containers_of(api, parent.owner) == [], 30)
        assert (await neighbour.exec("echo alive", timeout_s=20)).stdout == b"alive\n"
    api.close()


@on_docker
async def test_row_31_reaper_never_touches_a_live_run(api: Any) -> None:
    async with DockerSandbox(SMALL) as own:
        crashed = await asyncio.to_thread(Parent, "docker", 600.0)
        living = await asyncio.to_thread(Parent, "docker", 600.0)
        try:
            assert not _lines_about(crashed) + _lines_about(living)
            crashed.kill()
            (line,) = _lines_about(crashed)
            assert "is dead" in line
            assert len(_containers_of(api, crashed.owner)) == 1
            DockerSandbox.collect_garbage()
            assert _containers_of(api, crashed.owner) == []
            assert crashed.processes() == []
            assert len(_containers_of(api, living.owner)) == 1
            assert len(living.processes()) >= 2
            assert (await own.exec("echo alive", timeout_s=20)).stdout == b"alive\n"
        finally:
            living.kill()
            DockerSandbox.collect_garbage()
    assert living.processes() == []


def _lines_about(parent: Parent) -> list[str]:
    return [line for line in DockerSandbox.collect_garbage(dry_run=True) if f"process {parent.process.pid}," in line]


@on_docker
@pytest.mark.timeout(600)
async def test_row_33_a_hundred_concurrent_starts(api: Any) -> None:
    networks = len(api.networks())
    most_threads = 0

    async def use() -> str:
        nonlocal most_threads
        async with DockerSandbox(SMALL) as box:
            most_threads = max(most_threads, threading.active_count())
            return box._require_container().id

    before = threading.active_count()
    ids = await asyncio.gather(*(use() for _ in range(100)))
    assert len(set(ids)) == 100
    assert most_threads - before <= 16
    assert len(api.networks()) == networks


@on_docker
async def test_row_33_a_pool_of_containers_is_bounded(api: Any) -> None:
    owner, most = str(reaper.this_process()), 0

    async def use(pool: WarmPool) -> None:
        nonlocal most
        async with pool.checkout() as box:
            assert (await box.exec("ls; touch used", timeout_s=30)).stdout == b""
            most = max(most, len(_containers_of(api, owner)))

    async with WarmPool(lambda: DockerSandbox(SMALL), size=2, starts=2) as pool:
        await pool.wait_ready()
        started = time.perf_counter()
        box = await pool.take()
        print(f"checkout of a warm box: {1e3 * (time.perf_counter() - started):.2f} ms")
        pool.give_back(box)
        await asyncio.gather(*(use(pool) for _ in range(8)))
    assert most <= 3 * 2  # each box keeps the next container ready, and an old one may be on its way out


@types.coroutine
def _cancelled_at(work: Awaitable[Any], turn: int, seen: list[int]) -> Generator[Any, Any, Any]:
    """Run something, and cancel its task when it waits for the n-th time; ``seen`` is how often it waited."""
    steps = work.__await__()
    seen[0] = 0
    error: BaseException | None = None
    while True:
        try:
            waited_for = steps.send(None) if error is None else steps.throw(error)
        except StopIteration as end:
            return end.value
        error = None
        seen[0] += 1
        if seen[0] == turn:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        try:
            yield waited_for
        except BaseException as caught:
            error = caught


@pytest.mark.timeout(600)
async def test_row_34_cancelled_at_every_await(kind: type[Sandbox]) -> None:
    """A box's whole life is cut off at its first, second, … wait. Nothing is left, and no lock is held."""
    mark = f"{1000 + uuid.uuid4().int % 10**6}.{uuid.uuid4().int % 10**6}"

    async def live(box: Sandbox) -> None:
        async with box:
            await box.exec(f"sleep {mark} >/dev/null 2>&1 & echo", timeout_s=20, stdin=b"read by nobody")
            await box.exec(f"sleep {mark}", timeout_s=0.3)
            await box.reset()
            await box.exec("true", timeout_s=20)

    turn, reached = 0, True
    while reached:
        turn += 1
        box, seen = kind(SMALL), [0]
        task = asyncio.ensure_future(_as_coroutine(_cancelled_at(live(box), turn, seen)))
        ended, _ = await asyncio.wait({task}, timeout=120)
        assert ended, f"cancelled at wait {turn}, it hangs"
        reached = seen[0] >= turn
        assert task.cancelled() or not reached or task.exception() is None, task
        await asyncio.wait_for(box.close(), 60)
        # A close that was itself cut off goes on in the background.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=60)
        assert _own_containers() == [], f"cancelled at wait {turn}"
        assert _marked(mark) == [], f"cancelled at wait {turn}"
        assert Engine._engines == {}
    print(f"{kind.name}: cancelled at each of {turn - 1} waits")
    assert turn > 5


async def _as_coroutine(work: Any) -> Any:
    return await work


def _marked(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:  # it has ended
            continue
    return found


@on_docker
async def test_row_34_a_cancelled_command_is_ended_before_the_next(kind: type[Sandbox]) -> None:
    async with kind(SMALL) as box:
        await box.exec("sleep 98701 >/dev/null 2>&1 &", timeout_s=20)
        running = asyncio.ensure_future(box.exec("touch begun; sleep 98702", timeout_s=60))
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        result = await box.exec("ls; grep -lz '9870[12]' /proc/[0-9]*/cmdline", timeout_s=20)
        assert result.stdout == b"begun\n"
        assert result.session_lost


@on_docker
async def test_a_hundred_leaked_containers_are_reaped(api: Any) -> None:
    """Created, running, paused and ended ones of a dead owner; those of others with like names stay."""
    child = await asyncio.create_subprocess_exec("sleep", "60")
    labels = {reaper.OWNER: str(reaper._owner(child.pid)), reaper.EXPIRES: str(int(time.time()) + 3600)}
    child.kill()
    await child.wait()
    expired = {**labels, reaper.OWNER: "another-boot:1:1:1", reaper.EXPIRES: str(int(time.time()) - 1)}
    others = [
        {reaper.OWNER: str(reaper.this_process()), reaper.EXPIRES: labels[reaper.EXPIRES]},
        {reaper.OWNER: "another-boot:1:1:1", reaper.EXPIRES: labels[reaper.EXPIRES]},
        {reaper.OWNER: "not an owner", reaper.EXPIRES: "0"},
        {},
    ]

    def create(marks: dict[str, str]) -> str:
        made: str = api.create_container(IMAGE, ["60"], entrypoint=["sleep"], name=f"ag-{uuid.uuid4()}", labels=marks)[
            "Id"
        ]
        return made

    # Another run that starts now may reap them before us: that they are gone is what counts.
    kept = [create(marks) for marks in others]
    leaked = [create(labels) for _ in range(99)] + [create(expired)]
    try:
        for made in leaked[:4]:
            ask(api, "start", made)
        ask(api, "pause", leaked[0])
        ask(api, "kill", leaked[1])
        started = time.monotonic()
        lines = DockerSandbox.collect_garbage()
        took_s = time.monotonic() - started
        print(f"{len(lines)} leaked containers reaped in {took_s:.1f} s")
        states = {word for line in lines for word in re.findall(r"\((\w+)\)", line)}
        assert states == {"created", "running", "paused", "exited"}
        present = {entry["Id"] for entry in api.containers(all=True)}
        assert not present & set(leaked)
        assert set(kept) <= present
    finally:
        for made in [*kept, *leaked]:
            try:
                ask(api, "remove_container", made, force=True)
            except DockerError as error:
                assert error.status == 404


@on_docker
@pytest.mark.timeout(900)
async def test_a_thousand_commands_leave_nothing_behind(api: Any) -> None:
    def measure() -> tuple[int, int, int, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return _open_files(), threading.active_count(), len(_own_containers()), pages * 4096

    async with DockerSandbox(SMALL) as box:
        for _ in range(50):
            await box.exec("echo", timeout_s=20)
        before = measure()
        started = time.monotonic()
        for number in range(1000):
            result = await box.exec(f"echo {number}", timeout_s=20)
            assert result.stdout == b"%d\n" % number
        print(f"1000 commands: {time.monotonic() - started:.1f} s; files, threads, containers, memory:")
        after = measure()
        print(before, after)
        assert after[0] <= before[0]
        assert after[1] <= before[1] + 12  # the pool of threads fills up to its bound
        assert after[2] == before[2] == 1
        assert after[3] <= before[3] + (16 << 20)
