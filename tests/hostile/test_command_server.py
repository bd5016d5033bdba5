"""The server that starts a container's commands runs beside the agent's code, and as the same user."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import pytest

import docker
from agentgym.sandbox import Sandbox
from agentgym_sandboxes import docker_server
from agentgym_sandboxes.docker import DockerSandbox

pytestmark = [pytest.mark.timeout(240), pytest.mark.parametrize("kind", ["docker"], indirect=True)]
MakeBox = Callable[..., Awaitable[Sandbox]]

SYSCALLS = {"x86_64": {"ptrace": 101, "pidfd_open": 434, "pidfd_getfd": 438, "process_vm_writev": 311}}
SYSCALLS["aarch64"] = {"ptrace": 117, "pidfd_open": 434, "pidfd_getfd": 438, "process_vm_writev": 271}


async def say(box: Sandbox, line: str, timeout_s: float = 30) -> str:
    result = await box.exec(line, timeout_s=timeout_s)
    assert result.outcome == "ok", result
    return result.stdout.decode()


def server_pid(box: Sandbox) -> int:
    assert isinstance(box, DockerSandbox)
    return box._require_container().server.pid


async def test_commands_are_started_by_it(box: Sandbox) -> None:
    assert await say(box, "echo $PPID; cat /proc/$PPID/comm") == f"{server_pid(box)}\nperl\n"
    assert server_pid(box) > 0


async def test_the_agent_cannot_write_in_its_name(box: Sandbox) -> None:
    pid = server_pid(box)
    frame = "\\3\\0\\0\\0\\0\\0\\0\\2" + "0\\n"
    for place in (f"/proc/{pid}/fd/1", f"/proc/{pid}/fd/0", f"/proc/{pid}/mem"):
        result = await box.exec(f"printf '{frame}' >{place}; exit 7", timeout_s=20)
        assert (result.exit_code, b"Permission denied" in result.stderr) == (7, True), result
    assert await say(box, f"ls /proc/{pid}/fd 2>/dev/null | wc -l") == "0\n"
    numbers = SYSCALLS[(await say(box, "uname -m")).strip()]
    tries = f"""
        exit 2 if syscall({numbers["ptrace"]}, 16, {pid}, 0, 0) != -1;
        exit 3 if syscall({numbers["process_vm_writev"]}, {pid}, 0, 0, 0, 0, 0) != -1 and $! == 1;
        my $fd = syscall({numbers["pidfd_open"]}, {pid}, 0);
        exit 4 if $fd >= 0 && syscall({numbers["pidfd_getfd"]}, $fd, 1, 0) != -1;
        exit 7;
    """
    assert (await box.exec(["perl", "-e", tries], timeout_s=20)).exit_code == 7


async def test_what_is_written_late_is_no_part_of_the_next_command(box: Sandbox) -> None:
    line = "(for i in 1 2 3 4 5 6; do sleep 0.3; echo late; echo late >&2; touch alive-$i; done) & echo first"
    result = await box.exec(line, timeout_s=20)
    assert (result.outcome, result.stdout, result.stderr) == ("ok", b"first\n", b"")
    started = time.monotonic()
    while "alive-6" not in await say(box, "ls"):
        assert time.monotonic() - started < 60, "it was ended by its own output"
        result = await box.exec("echo mine; sleep 0.1", timeout_s=20)
        assert (result.stdout, result.stderr) == (b"mine\n", b"")


async def test_a_flood_of_an_earlier_command_holds_nothing_up(box: Sandbox) -> None:
    result = await box.exec("(sleep 1; exec yes) & echo first", timeout_s=20)
    assert result.stdout == b"first\n"
    await asyncio.sleep(1.5)
    for _ in range(10):
        result = await box.exec("echo mine", timeout_s=20)
        assert (result.outcome, result.stdout) == ("ok", b"mine\n")
    assert result.duration_s < 5


@pytest.mark.parametrize("signal", ["KILL", "TERM", "STOP"])
async def test_killed_in_the_middle_of_a_command(box: Sandbox, signal: str) -> None:
    """That is the agent's loss, not a fault of ours; what the command has left running ends."""
    pid = server_pid(box)
    line = f"setsid sleep 98711 & echo out; sleep 0.2; kill -{signal} {pid}; sleep 98712"
    result = await box.exec(line, timeout_s=6)
    assert result.stdout == b"out\n"
    assert result.outcome == ("timed_out" if signal == "STOP" else "failed")
    assert result.exit_code == (None if signal == "STOP" else 137)
    assert result.duration_s < 15
    assert await say(box, "grep -lz '9871[12]' /proc/[0-9]*/cmdline; echo again") == "again\n"
    assert server_pid(box) != pid


async def test_killed_between_two_commands(box: Sandbox) -> None:
    for _ in range(3):
        pid = server_pid(box)
        await box.exec(f"(sleep 0.5; kill -9 {pid}) >/dev/null 2>&1 &", timeout_s=20)
        await asyncio.sleep(1)
        assert await say(box, "echo again") == "again\n"
        assert server_pid(box) not in (pid, 0)


async def test_killed_again_and_again(box: Sandbox) -> None:
    """A process that kills all that the agent may kill hits commands, too; each result is typed, and none is late."""
    attack = "while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = $$ ] || kill -9 $p; done; done"
    await box.exec(f"setsid bash -c '{attack}' >/dev/null 2>&1 &", timeout_s=20)
    for _ in range(3):
        result = await box.exec("sleep 1; exit 7", timeout_s=10)
        assert result.outcome in ("ok", "failed", "timed_out")
        assert result.duration_s < 30


async def test_no_process_is_left_for_it(make_box: MakeBox) -> None:
    box = await make_box(processes=32)
    fill = "for i in $(seq 40); do sleep 98713 & done >/dev/null 2>&1; echo filled"
    await box.exec(fill, timeout_s=10)
    result = await box.exec("echo again", timeout_s=30)
    assert (result.outcome, result.stdout) == ("ok", b"again\n")


async def test_stdin_that_is_not_read(box: Sandbox) -> None:
    """The command ends first, or closes it, or hands it on; the next one meets nothing of it."""
    data = b"\0\xff\3\0\0\0\0\0\0\x02" * 400_000
    for line in ("exit 3", "exec <&-; sleep 0.3; exit 3", "head -c 7 >/dev/null; exit 3"):
        result = await box.exec(line, timeout_s=20, stdin=data)
        assert (result.outcome, result.exit_code) == ("failed", 3)
        assert await say(box, "cat | wc -c") == "0\n"
    result = await box.exec(["cat"], timeout_s=20, stdin=data[:1_000_000])
    assert result.stdout == data[:1_000_000]
    result = await box.exec("sleep 98714", timeout_s=1, stdin=data)
    assert result.outcome == "timed_out"
    assert await say(box, "cat | wc -c") == "0\n"


async def test_what_cannot_be_run_is_said_as_a_shell_says_it(box: Sandbox) -> None:
    assert (await box.exec(["no-such-program"], timeout_s=20)).exit_code == 127
    assert (await box.exec(["/etc/passwd"], timeout_s=20)).exit_code == 126
    assert (await box.exec(["true"], timeout_s=20, cwd="/nowhere")).exit_code == 125
    assert (await box.exec("kill -9 $$", timeout_s=20)).exit_code == 137
    assert (await box.exec(["printf", "%s|", "", "a=b\nc", ""], timeout_s=20)).stdout == b"|a=b\nc||"


async def test_commands_inherit_nothing_of_it(box: Sandbox) -> None:
    await box.exec("sleep 5 & echo", timeout_s=20)  # one more pipe that the server keeps
    look = "ls /proc/self/fd | sort -n | tr '\\n' ' '; grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status; ulimit -c"
    stdout = await say(box, look)
    assert stdout.splitlines()[0].startswith("0 1 2 3 ")  # the third is the directory that ls reads
    assert isinstance(box, DockerSandbox)
    with contextlib.closing(docker.from_env()) as client:  # whoever started the daemon may have ignored some already
        plain = client.containers.get(box._require_container().name).exec_run(["grep", "^SigIgn", "/proc/self/status"])
    assert plain.exit_code == 0
    assert plain.output.decode() in stdout
    assert (await box.exec("yes | head -1; exit ${PIPESTATUS[0]}", timeout_s=20)).exit_code == 141, "SIGPIPE"
    pid = server_pid(box)
    assert (await box.exec("kill -TERM 0; sleep 5", timeout_s=20)).exit_code == 143, "it has a process group of its own"
    assert await say(box, "echo $PPID") == f"{pid}\n"


@pytest.mark.parametrize("program", ["/usr/bin/no-such-perl", "/bin/false", "/usr/bin/yes"])
async def test_without_it_the_daemon_starts_them(
    make_box: MakeBox, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """As in an image without Perl; and what is no server is not mistaken for one."""
    monkeypatch.setattr(docker_server, "_PERL", program)
    monkeypatch.setattr(docker_server, "_START_S", 3.0)
    box = await make_box()
    assert server_pid(box) == 0
    assert await say(box, "cat; pwd", timeout_s=40) == "/workspace\n"
    result = await box.exec("sleep 60", timeout_s=1)
    assert result.outcome == "timed_out"
    assert await say(box, "echo again", timeout_s=40) == "again\n"


# What a server could send if the agent's code were its master
FORGER = """
    $| = 1;
    sub say_ { print pack('CxxxN', $_[0], length $_[1]) . $_[1] }
    say_(3, "$$\\n");
    sysread STDIN, $_, 9999;
"""
FORGERIES = {
    "nothing": ("sleep 99", "timed_out", None),
    "its end": ("", "failed", 137),
    "no number": ('say_(3, "zero\\n"); sleep 99', "failed", 137),
    "a huge number": ('say_(3, (9 x 200) . "\\n"); sleep 99', "failed", 137),
    "an endless line": ("say_(3, '0' x 1000) while 1", "failed", 137),
    "a frame without end": ("print pack('CxxxN', 1, 0xffffffff); print 'x' x 99999 while 1", "truncated", None),
    "an unknown kind": ("say_(9, 'x' x 99999) while 1", "truncated", None),
    "an end too many": ('say_(3, "0\\n"); say_(3, "0\\n"); say_(1, \'late\'); sleep 99', "ok", 0),
    "noise": ("srand 7; print pack('C*', map { int rand 256 } 1 .. 5000); sleep 99", "timed_out", None),
}


@pytest.mark.parametrize("what", FORGERIES)
async def test_what_it_sends_is_not_believed_beyond_a_result(
    make_box: MakeBox, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    body, outcome, exit_code = FORGERIES[what]
    monkeypatch.setattr(docker_server, "_script", lambda: FORGER + body)
    box = await make_box(output_bytes=10_000)
    assert server_pid(box) > 0
    for _ in range(2):
        result = await box.exec("touch begun", timeout_s=3)
        assert (result.outcome, result.exit_code) in [(outcome, exit_code), ("truncated", None)]
        assert max(len(result.stdout), len(result.stderr)) <= 10_000
        assert result.duration_s < 15
    monkeypatch.undo()
    assert await say(box, "ls") == "", "or they were no forgeries"
