"""What becomes of a bubblewrap box whose owner is killed, and of its neighbours."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentgym.sandbox import SandboxSpec
from agentgym_sandboxes.bwrap import BwrapSandbox
from agentgym_sandboxes.bwrap_keeper import KEEPER_SCRIPT
from agentgym_sandboxes.cgroup import find_controllers, find_stale

OWNER = """
import asyncio
from agentgym_sandboxes.bwrap import BwrapSandbox

async def main():
    async with BwrapSandbox() as box:
        print(box._link._process.pid, flush=True)
        await box.exec("setsid sleep 7654 & echo; sleep 7654", timeout_s=60)

asyncio.run(main())
"""


def find_sleepers() -> list[int]:
    """Return the processes that the owner's command started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\x007654\0":
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def read_mounts() -> list[str]:
    """Return the mounts that this process sees, but for those of docker daemons, which other runs change."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "docker" not in line]


def start_owner() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)


async def test_a_killed_owner_leaves_nothing_and_its_neighbour_lives() -> None:
    mounts = read_mounts()
    async with BwrapSandbox() as neighbour:
        owner = start_owner()
        try:
            assert owner.stdout is not None
            keeper = int(owner.stdout.readline())
            await wait_until(lambda: len(find_sleepers()) == 2)
        finally:
            owner.kill()
            owner.communicate()
        await wait_until(lambda: not find_sleepers() and not is_alive(keeper))
        assert read_mounts() == mounts
        if find_controllers():
            mine = [line for line in BwrapSandbox.collect_garbage(dry_run=True) if f":{owner.pid}:" in line]
            assert len(mine) >= 1
            assert [line for line in BwrapSandbox.collect_garbage() if f":{owner.pid}:" in line] == mine
            assert not [group for group in find_stale() if f":{owner.pid}:" in str(group.directories)]
        assert (await neighbour.exec("echo alive", timeout_s=20)).stdout == b"alive\n"
        assert not [line for line in BwrapSandbox.collect_garbage(dry_run=True) if f":{os.getpid()}:" in line]


async def test_the_lease_ends_a_running_command() -> None:
    async with BwrapSandbox(SandboxSpec(lease_s=3.0)) as box:
        running = asyncio.create_task(box.exec("sleep 60", timeout_s=50))
        started = time.monotonic()
        with pytest.raises(Exception, match="lease") as raised:
            await running
        assert type(raised.value).__name__ == "SandboxLostError"
        assert time.monotonic() - started < 20
        assert not await box.is_running()


async def test_a_keeper_that_stops_answering_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentgym_sandboxes.bwrap_exec.ANSWER_S", 0.5)
    async with BwrapSandbox() as box:
        assert box._link is not None
        os.kill(box._link._process.pid, signal.SIGSTOP)
        with pytest.raises(Exception, match="does not answer") as raised:
            await box.reset()
        assert type(raised.value).__name__ == "SandboxLostError"


# Everything that is needed is imported before the privileges are gone: the user may not be able to read it.
UNPRIVILEGED = """
import asyncio, json, os, sys
from agentgym.sandbox import Limits, SandboxSpec
from agentgym_sandboxes import bwrap, box_probe, reaper

async def main():
    async with bwrap.BwrapSandbox(SandboxSpec(limits=Limits(processes=40, workspace_mb=8))) as box:
        async def say(line):
            return (await box.exec(line, timeout_s=30)).stdout.decode().strip()
        print(await say("id -u"))
        await box.exec("for i in $(seq 80); do (: >p$i; exec sleep 100) & done", timeout_s=4)
        print(await say("ls | wc -l"))
        print(await say("rm p*; head -c 16M /dev/zero >fill; stat -c %s fill"))
        print(await say("awk '/^Cap/ && $2 !~ /^0+$/' /proc/self/status; cat /proc/net/dev | grep -c :"))
        await box.reset()
        print(await say("ls | wc -l"))
    print(box._cgroup)

sys.executable = sys.argv[1]
reaper.this_process()
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test of this file runs as this user already")
def test_without_root_a_box_holds_all_but_memory_and_cpus() -> None:
    pythons = [python for python in (sys.executable, shutil.which("python3", path=os.defpath)) if python]
    python = next((python for python in pythons if can_run_as_nobody(python)), None)
    if python is None:
        pytest.skip(f"no other user can run {' or '.join(pythons)}, or read {KEEPER_SCRIPT}")
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, python], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    user, processes, size, network, left, group = done.stdout.splitlines()
    assert (user, network, left, group) == ("10001", "1", "0", "None")
    assert 0 < int(processes) <= 40
    assert 0 < int(size) <= 8 << 20


def can_run_as_nobody(python: str) -> bool:
    argv = [python, "-I", "-S", "-c", f"open({KEEPER_SCRIPT!r})"]
    try:
        done = subprocess.run(
            argv, user=65534, group=65534, extra_groups=(), capture_output=True, timeout=60, check=False
        )
    except PermissionError:
        return False
    return done.returncode == 0


async def wait_until(condition: object) -> None:
    assert callable(condition)
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not happen within 10 s")
