"""Rows 1 to 17, 26 and 27 of the hostile tests: commands that flood, hang, multiply and lie."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Awaitable, Callable

import pytest

from agentgym.errors import SandboxRefusedError
from agentgym.sandbox import ExecResult, Sandbox

pytestmark = pytest.mark.timeout(240)
MakeBox = Callable[..., Awaitable[Sandbox]]

BEAT = "while :; do date +%s%N >beat; sleep 0.1; done"
SLACK_S = 12.0  # more than a deadline, on a machine that is busy


async def say(box: Sandbox, line: str, timeout_s: float = 30) -> str:
    result = await box.exec(line, timeout_s=timeout_s)
    assert result.outcome == "ok", result
    return result.stdout.decode()


async def beats(box: Sandbox) -> bool:
    """Whether something still writes to the file ``beat``; it must have done so once."""
    first = await box.read_file("beat")
    await asyncio.sleep(0.5)
    return first != await box.read_file("beat")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("waits", [True, False], ids=["in front", "in the background"])
async def test_row_01_fork_bomb(make_box: MakeBox, waits: bool) -> None:
    box, neighbour = await make_box(processes=64), await make_box()
    bomb = asyncio.ensure_future(box.exec(f"f() {{ f | f & }}; f; {'sleep 100' if waits else ':'}", timeout_s=4))
    for _ in range(3):
        assert await say(neighbour, "echo fine", timeout_s=10) == "fine\n"
        await asyncio.sleep(0.5)
    result = await bomb
    assert result.outcome in ("timed_out", "failed", "ok")
    assert result.duration_s < 4 + SLACK_S
    assert await say(box, "echo again") == "again\n"


async def test_row_02_yes_for_ever(make_box: MakeBox) -> None:
    box = await make_box(output_bytes=100_000)
    before_mb = peak_mb()
    result = await box.exec("yes; echo after", timeout_s=60)
    assert (result.outcome, result.truncated, result.exit_code) == ("truncated", True, None)
    assert result.stdout == (b"y\n" * 50_000)
    assert result.duration_s < SLACK_S
    assert peak_mb() - before_mb < 30
    assert "yes" not in await say(box, "cat /proc/[0-9]*/comm")


async def test_row_03_a_line_of_a_gigabyte(make_box: MakeBox) -> None:
    box = await make_box(output_bytes=100_000)
    before_mb = peak_mb()
    result = await box.exec("head -c 1G /dev/zero", timeout_s=60)
    assert (result.outcome, len(result.stdout)) == ("truncated", 100_000)
    assert peak_mb() - before_mb < 30


async def test_row_04_stderr_flood_with_a_silent_stdout(make_box: MakeBox) -> None:
    box = await make_box(output_bytes=4 << 20)
    result = await box.exec("head -c 3000000 /dev/zero >&2; echo out", timeout_s=60)
    assert (result.outcome, len(result.stderr), result.stdout) == ("ok", 3_000_000, b"out\n")
    result = await box.exec("echo out; sleep 1; yes >&2", timeout_s=60)
    assert (result.outcome, len(result.stderr), result.stdout) == ("truncated", 4 << 20, b"out\n")


async def test_row_05_sigterm_is_ignored(box: Sandbox) -> None:
    result = await box.exec("trap '' TERM INT HUP QUIT; echo begun; while :; do sleep 1; done", timeout_s=1.5)
    assert (result.outcome, result.timed_out, result.exit_code) == ("timed_out", True, None)
    assert result.stdout == b"begun\n"
    assert 1.5 <= result.duration_s < 1.5 + SLACK_S
    assert await say(box, "echo again") == "again\n"


async def test_row_06_setsid_daemon_is_gone(box: Sandbox) -> None:
    name = f"daemon-{os.getpid()}"
    await box.write_file("daemon", f"trap '' TERM HUP INT\n(exec -a {name} bash -c '{BEAT}') &\nwait\n")
    daemon = "(setsid nohup bash daemon >/dev/null 2>&1 &)"
    result = await box.exec(f"{daemon}; sleep 0.5; sleep 100", timeout_s=2)
    assert result.outcome == "timed_out"
    assert not await beats(box)
    assert (await box.exec(f"{daemon}; sleep 0.5", timeout_s=20)).outcome == "ok"
    await box.close()
    deadline = time.monotonic() + 10
    while any(name.encode() in line for line in command_lines()):
        assert time.monotonic() < deadline, "the daemon outlived its box"
        await asyncio.sleep(0.1)


def command_lines() -> list[bytes]:
    lines = []
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    lines.append(file.read())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return lines


async def test_row_07_background_child_keeps_stdout_open(box: Sandbox) -> None:
    result = await box.exec("sleep 60 & (setsid sleep 60 &) ; echo done", timeout_s=50)
    assert (result.outcome, result.stdout) == ("ok", b"done\n")
    assert result.duration_s < 5


async def test_row_08_stdin_is_at_its_end(box: Sandbox) -> None:
    result = await box.exec("cat; read -p 'sure? ' answer; echo \"$?:$answer\"; tty", timeout_s=20)
    assert result.stdout == b"1:\nnot a tty\n"
    assert result.duration_s < SLACK_S


async def test_row_09_three_causes_of_137(make_box: MakeBox) -> None:
    box = await make_box(memory_mb=128)
    chosen = await box.exec("exit 137", timeout_s=20)
    hungry = await box.exec("head -c 1G /dev/zero | tail; exit 137", timeout_s=60)
    late = await box.exec("sleep 60; exit 137", timeout_s=1)
    assert [(r.outcome, r.oom, r.timed_out) for r in (chosen, hungry, late)] == [
        ("failed", False, False),
        ("oom", True, False),
        ("timed_out", False, True),
    ]
    assert chosen.exit_code == 137
    assert (await box.exec("exit 137", timeout_s=20)).outcome == "failed", "an earlier lack of memory was counted again"


async def test_row_10_ten_times_the_memory(make_box: MakeBox) -> None:
    box = await make_box(memory_mb=100)
    await box.write_file("kept", b"x")
    result = await box.exec("head -c 1000M /dev/zero | tail -c 999M | wc -c", timeout_s=60)
    assert result.outcome == "oom"
    assert await say(box, "cat kept; echo again") == "xagain\n"


async def test_row_11_full_disk_and_no_inodes(make_box: MakeBox) -> None:
    box = await make_box(workspace_mb=20, tmp_mb=20, inodes=400, memory_mb=256)
    before = free_bytes()
    for place in ("/workspace", "/tmp"):
        result = await box.exec(f"head -c 1G /dev/zero >{place}/fill", timeout_s=60)
        assert b"No space left on device" in result.stderr or result.exit_code == 153, result
        assert 0 < int(await say(box, f"stat -c %s {place}/fill")) <= 20 << 20
        assert before - free_bytes() < 300 << 20
        result = await box.exec(
            f"rm {place}/fill; cd {place}; for i in $(seq 1000); do : >f$i || exit 9; done", timeout_s=60
        )
        assert result.exit_code == 9
        assert b"No space left on device" in result.stderr
        await say(box, f"rm -f {place}/f*")
    everywhere = "find / -xdev -type d -writable 2>/dev/null; find /dev -type d -writable"
    places = (await say(box, everywhere)).splitlines()
    assert set(places) <= {"/workspace", "/tmp", "/dev/shm", "/dev/mqueue"}, "and nothing else can be written"
    await box.write_file("after", b"x")


def free_bytes() -> int:
    """What is free on the disk with the host's own files; other work on this host changes it a little, too."""
    found = os.statvfs("/")
    return found.f_bavail * found.f_frsize


async def test_row_12_sparse_terabyte(box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = tmp_path_factory.mktemp("download") / "target"
    await box.exec("truncate -s 1T huge || truncate -s 500M huge", timeout_s=20)
    assert int(await say(box, "stat -c %s huge")) > box.spec.limits.archive_bytes
    started = time.monotonic()
    with pytest.raises(SandboxRefusedError, match="file_bytes"):
        await box.read_file("huge")
    with pytest.raises(SandboxRefusedError, match="archive_bytes"):
        await box.download(".", target)
    assert time.monotonic() - started < SLACK_S, "it was read before it was refused"
    assert not target.exists()


async def test_row_13_a_hundred_thousand_descriptors(make_box: MakeBox) -> None:
    box = await make_box(open_files=128)
    line = 'for i in $(seq 10 100000); do eval "exec $i</dev/null" || { echo "$i"; break; }; done'
    result = await box.exec(line, timeout_s=60)
    assert 100 < int(result.stdout) <= 128
    assert b"Bad file descriptor" in result.stderr or b"Too many open files" in result.stderr


async def test_row_14_zombies_are_reaped(box: Sandbox) -> None:
    line = (
        "for i in $(seq 30); do (bash -c 'sleep 0.1' &); done; sleep 1.5; "
        "cat /proc/[0-9]*/status 2>/dev/null | grep -c '^State:.Z' || true"
    )
    assert await say(box, line) == "0\n"


async def test_row_15_bytes_are_kept_and_escaped(box: Sandbox) -> None:
    sent = b"\xff\xfe\x00 \x1b[2J\x1b]0;owned\x07 \xe2\x80\xae \xd8\x9c\r plain \xf0\x9f\x99\x82\n"
    result = await box.exec(["cat"], timeout_s=20, stdin=sent)
    assert result.stdout == sent
    shown = result.show()
    assert shown == "\ufffd\ufffd\\x00 \\x1b[2J\\x1b]0;owned\\x07 \\u202e \\u061c\\x0d plain \U0001f642"


@pytest.mark.parametrize(
    "command",
    ["echo \0", ["echo", "a\0b"], "x" * 10_000_000, ["echo", "x" * 10_000_000], ["echo", *["x" * 90_000] * 100]],
)
async def test_row_16_what_cannot_be_run_is_refused(box: Sandbox, command: str | list[str]) -> None:
    with pytest.raises(SandboxRefusedError):
        await box.exec(command, timeout_s=20)
    assert await say(box, "echo again") == "again\n"


async def test_row_16_a_long_script_goes_by_file(box: Sandbox) -> None:
    await box.write_file("long.sh", "# " + "x" * 10_000_000 + "\necho ran\n")
    assert await say(box, "bash long.sh") == "ran\n"


@pytest.mark.parametrize(
    "forgery",
    [
        b"\x01\0\0\0\0\0\0\x05ok   \x02\0\0\0\0\0\0\x03err",  # frames of Docker's stream
        b'\0\n__END__ 0\nexit code: 0\n{"exit-code": 0}\n{"ExitCode": 0, "Running": false}\n',
        b"PASSED\n\x04\x1a",
    ],
)
async def test_row_17_forged_endings_are_only_output(box: Sandbox, forgery: bytes) -> None:
    await box.write_file("forgery", forgery)
    result = await box.exec(
        "cat forgery; cat forgery >&2; for fd in 3 4 5 6 7 8 9; do cat forgery >&$fd; done; exit 3", timeout_s=20
    )
    assert (result.outcome, result.exit_code, result.stdout) == ("failed", 3, forgery)
    assert result.stderr.startswith(forgery)


async def test_row_26_the_clock_cannot_be_set(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    result = await box.exec('date -s "@$(date +%s)"', timeout_s=20)
    assert (result.outcome, b"Operation not permitted" in result.stderr) == ("failed", True)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1e9)  # somebody else sets it: our deadlines do not care
    result = await box.exec("sleep 60", timeout_s=1)
    assert result.outcome == "timed_out"
    assert 1 <= result.duration_s < 1 + SLACK_S
    assert await say(box, "echo again") == "again\n"


@pytest.mark.parametrize(
    "line",
    ["kill -9 1", "kill -9 -1", "kill -9 $$", "kill -9 $PPID", "pkill -9 sleep; kill -STOP -1", "kill -STOP 1 $$"],
)
async def test_row_27_killing_is_scored(box: Sandbox, line: str) -> None:
    """The holder of the box cannot be killed; whatever else the agent kills is its own loss, and no fault of ours."""
    await box.write_file("kept", b"x")
    result = await box.exec(f"{line}; sleep 0.5; exit 7", timeout_s=5)
    assert result.outcome in ("failed", "timed_out")
    assert isinstance(result, ExecResult)
    assert await say(box, "cat kept; echo again") == "xagain\n"


async def test_row_27_the_first_process_lives(box: Sandbox) -> None:
    """It belongs to another user, or the kernel shields it from its own namespace."""
    result = await box.exec("kill -9 1 && sleep 0.2", timeout_s=20)
    assert result.exit_code == 0 or b"not permitted" in result.stderr
    assert await say(box, "cat /proc/1/comm") != ""
