"""Checks of what commands, files and boxes do when nobody means harm, and of how they end."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from agentgym.check_result import CheckError, require
from agentgym.checks_sandbox.subject import Subject, say
from agentgym.errors import SandboxLostError, SandboxRefusedError
from agentgym.sandbox import Sandbox

_ALL_BYTES = bytes(range(256))
# Where nothing ends it, as in a box that promises nothing, it ends with its directory, or after half a minute.
_BEAT = "for i in $(seq 300); do date +%s%N >beat || exit; sleep 0.1; done"
_SLACK_S = 10.0  # between a deadline and the return, on a busy machine


async def check_starts(subject: Subject) -> str:
    """It starts, a command runs, and it can be closed twice."""
    started_s = time.monotonic()
    async with subject.box() as box:
        await say(box, "true")
        await box.close()
        await box.close()
    return f"{time.monotonic() - started_s:.2f} s from nothing to nothing"


async def check_commands(subject: Subject) -> str:
    """Arguments, directory, environment, stdin, exit status and bytes of output arrive as they were."""
    async with subject.box() as box:
        arguments = ["", "a b", "$HOME", "*", "-n", "ü\n", "'\"`\\"]
        result = await box.exec(["printf", "%s|", *arguments], timeout_s=20)
        require(result.stdout.decode() == "|".join([*arguments, ""]), f"arguments arrived as {result.stdout!r}")
        result = await box.exec(["cat"], timeout_s=20, stdin=_ALL_BYTES * 1000)
        require(result.stdout == _ALL_BYTES * 1000, "256 kB of every byte on stdin did not come back from cat")
        result = await box.exec("cat; echo end", timeout_s=20)
        require((result.outcome, result.stdout) == ("ok", b"end\n"), "without stdin, cat must meet its end at once")
        for code in (1, 42, 137, 255):
            result = await box.exec(f"echo out; echo err >&2; exit {code}", timeout_s=20)
            seen = (result.outcome, result.exit_code, result.stdout, result.stderr)
            require(seen == ("failed", code, b"out\n", b"err\n"), f"exit {code} became {seen}")
        result = await box.exec("kill -9 $$", timeout_s=20)
        seen_signal = (result.outcome, result.exit_code)
        require(seen_signal == ("failed", 137), f"a command that killed itself with signal 9 became {seen_signal}")
        result = await box.exec(["/nowhere/program"], timeout_s=20)
        require(result.outcome == "failed", f"a program that is not there became {result.outcome}")
        await say(box, "mkdir sub")
        await box.exec('printf "%s" "$GIVEN" >here', timeout_s=20, cwd="sub", env={"GIVEN": "a=b\n"})
        require(await box.read_file("sub/here") == b"a=b\n", "cwd or env did not arrive")
    return "arguments, stdin, statuses, directory and environment arrived"


async def check_deadline(subject: Subject) -> str:
    """A command that ignores SIGTERM and its setsid child end at the deadline."""
    async with subject.box() as box:
        line = f"trap '' TERM HUP INT; setsid bash -c 'trap \"\" TERM HUP; {_BEAT}' & sleep 1000"
        result = await box.exec(line, timeout_s=2)
        require(result.outcome == "timed_out", f"the outcome was {result.outcome}")
        require(result.exit_code is None, f"what we ended has no exit status, but got {result.exit_code}")
        require(result.duration_s < 2 + _SLACK_S, f"a deadline of 2 s took {result.duration_s:.1f} s")
        require(not await _beats(box), "a child of setsid outlived the deadline")
    return f"ended after {result.duration_s:.2f} s of 2"


async def _beats(box: Sandbox) -> bool:
    """Say whether something still writes to the file ``beat``."""
    first = await box.read_file("beat")
    await asyncio.sleep(0.5)
    return first != await box.read_file("beat")


async def check_output_cap(subject: Subject) -> str:
    """Floods on stdout, stderr and both are cut at the cap; what just fits is not."""
    cap = 10_000
    async with subject.box(output_bytes=cap) as box:
        for line in ("yes", "head -c 1G /dev/zero", "yes >&2", "yes >&2 & yes", "trap '' PIPE TERM; yes; sleep 1000"):
            result = await box.exec(line, timeout_s=30)
            sizes = (len(result.stdout), len(result.stderr))
            require(result.outcome == "truncated", f"{line!r} became {result.outcome}")
            require(max(sizes) == cap, f"{line!r} gave {sizes} bytes at a cap of {cap}")
            require(result.duration_s < _SLACK_S, f"{line!r} was read for {result.duration_s:.1f} s")
        result = await box.exec(f"head -c {cap} /dev/zero", timeout_s=20)
        require((result.outcome, len(result.stdout)) == ("ok", cap), "output of exactly the cap was not kept")
    return f"5 floods cut at {cap} bytes"


async def check_background(subject: Subject) -> str:
    """A child in the background that holds stdout open delays no result, and is gone after a reset."""
    async with subject.box() as box:
        result = await box.exec(f"setsid bash -c '{_BEAT}' & echo done", timeout_s=30)
        require((result.outcome, result.stdout) == ("ok", b"done\n"), f"it became {result.outcome}")
        require(result.duration_s < _SLACK_S, f"the result came after {result.duration_s:.1f} s")
        await box.reset()
        await asyncio.sleep(0.5)
        left = await say(box, "ls -A")
        require(left == "", f"after a reset it still writes {left!r}")
    return f"returned after {result.duration_s:.2f} s"


async def check_zombies(subject: Subject) -> str:
    """Orphans that have ended leave no entry in the table of processes."""
    async with subject.box() as box:
        line = (
            'cp "$(command -v sleep)" ./agorphan; for i in $(seq 20); do (./agorphan 0.1 &); done; sleep 1; '
            "cat /proc/[0-9]*/status 2>/dev/null | grep -c '^Name:.*agorphan' || true"
        )
        left = (await say(box, line)).strip()
        require(left == "0", f"{left} of 20 orphans are still there")
    return "20 orphans were reaped"


async def check_files(subject: Subject) -> str:
    """Files go in and out to the byte; what leads elsewhere is refused and leaves nothing here."""
    async with subject.box() as box:
        for name in ("plain", "deep/er/file", "-rf", "new\nline", "end\n", "x" * 255, "ü 🙂", "/tmp/elsewhere"):
            await box.write_file(name, _ALL_BYTES)
            require(await box.read_file(name) == _ALL_BYTES, f"{name!r} came back changed")
        await say(box, "mkdir tree && : >tree/empty && ln -s /etc etc && ln -s /etc/passwd secret && mkfifo pipe")
        await say(box, "mkdir bad && ln -s /etc/passwd bad/link && { truncate -s 1T sparse || rm sparse; }")
        for name in ("/etc/x", "../x", "etc/x", "secret", "pipe", "tree", "", "\0"):
            await _refused(f"write {name!r}", box.write_file(name, b"x"))
        for name in ("secret", "pipe", "sparse", "tree", "missing", "/dev/zero", "etc"):
            await _refused(f"read {name!r}", box.read_file(name))
        with tempfile.TemporaryDirectory(prefix="agentgym-check-") as folder:
            target = Path(folder) / "target"
            for name in ("secret", "pipe", "sparse", "bad", "etc", "missing"):
                await _refused(f"download {name!r}", box.download(name, target))
                require(not target.exists(), f"a refused download of {name!r} left something")
            await _round_trip(box, Path(folder))
    return "round trips, and 21 refusals"


async def _round_trip(box: Sandbox, folder: Path) -> None:
    source, target = folder / "source", folder / "back"
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "-x\n").write_bytes(_ALL_BYTES)
    (source / "run").write_text("#!/bin/sh\necho ran\n")
    (source / "run").chmod(0o4755)
    await box.upload(source, "up")
    require(await say(box, "up/run; find up -perm /6000") == "ran\n", "an uploaded program does not run, or is set-uid")
    await box.download("up", target)
    for path in ("a/-x\n", "run"):
        require((target / path).read_bytes() == (source / path).read_bytes(), f"{path!r} came back changed")
    require((target / "a" / "b").is_dir(), "an empty directory got lost")
    await _refused("upload to /etc", box.upload(source, "/etc"))
    os.mkfifo(source / "pipe")
    await _refused("upload of a pipe", box.upload(source))


async def _refused(what: str, work: Awaitable[object]) -> None:
    try:
        await asyncio.wait_for(work, 60)
    except SandboxRefusedError:
        return
    raise CheckError(f"{what} must raise SandboxRefusedError")


async def check_reset(subject: Subject) -> str:
    """After vandalism, a reset gives the files and settings of a new box."""
    tell = "id; umask; pwd; env; find /workspace /tmp ~ -printf '%p %y %m %s %U %l\\n' | sort; cat ~/.bashrc 2>&1; true"
    async with subject.box() as box:
        await say(box, "true")
        before = await say(box, tell)
        await say(
            box, f"mkdir -p a/b; echo x >a/b/c; echo 'exit 9' >~/.bashrc; setsid bash -c '{_BEAT}' >/dev/null 2>&1 &"
        )
        await box.exec(
            "chmod 000 a /tmp/* . ~; mv /workspace /tmp/gone; ln -s /etc /tmp/etc; ulimit -n 5", timeout_s=20
        )
        started_s = time.monotonic()
        await box.reset()
        took_s = time.monotonic() - started_s
        await asyncio.sleep(0.3)
        after = await say(box, tell)
        changed = sorted(set(before.splitlines()) ^ set(after.splitlines()))
        require(before == after, f"a reset box differs from a new one: {changed[:3]}")
    return f"the same {len(before)} bytes of listing, after {took_s:.2f} s"


async def check_lease(subject: Subject) -> str:
    """After its lease, a box is lost."""
    async with subject.box(lease_s=5.0) as box:
        await asyncio.sleep(5.1)
        try:
            await box.exec("true", timeout_s=20)
        except SandboxLostError as error:
            return str(error)
    raise CheckError("a command ran after the lease was over")


async def check_close(subject: Subject) -> str:
    """A closed box refuses commands and leaves no child process and no file descriptor."""
    async with subject.box() as box:  # opens what a process opens once
        await say(box, "true")
    before = _count_ours()
    async with subject.box() as box:
        await say(box, f"setsid bash -c '{_BEAT}' >/dev/null 2>&1 &")
    try:
        await box.exec("true", timeout_s=20)
    except SandboxLostError:
        await asyncio.sleep(1)  # for what is done in the background
        after = _count_ours()
        require(after <= before, f"there were {before} children and descriptors of ours before, and {after} after")
        return f"{before} before, {after} after"
    raise CheckError("a command ran in a closed box")


def _count_ours() -> int:
    """Count child processes and file descriptors, where the system has /proc."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        return 0
    children = sum(len((task / "children").read_text().split()) for task in tasks.iterdir())
    return children + len(os.listdir("/proc/self/fd"))
