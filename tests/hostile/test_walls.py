"""Rows 18 to 25, 35 and 36 of the hostile tests: files, network, secrets and privileges; reset and grading."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentgym.errors import SandboxRefusedError
from agentgym.sandbox import Sandbox

pytestmark = pytest.mark.timeout(240)
MakeBox = Callable[..., Awaitable[Sandbox]]
ROOT = Path(__file__).resolve().parents[2]
SYSCALLS = {  # of the kernel's tables for two machines
    "x86_64": {
        "ptrace": 101,
        "unshare": 272,
        "bpf": 321,
        "keyctl": 250,
        "setns": 308,
        "mount": 165,
        "init_module": 175,
    },
    "aarch64": {"ptrace": 117, "unshare": 97, "bpf": 280, "keyctl": 219, "setns": 268, "mount": 40, "init_module": 105},
}


async def say(box: Sandbox, line: str, timeout_s: float = 30) -> str:
    result = await box.exec(line, timeout_s=timeout_s)
    assert result.outcome == "ok", result
    return result.stdout.decode()


async def listing(box: Sandbox) -> str:
    return await say(
        box, "find / -xdev -newer /workspace 2>/dev/null | sort; find /workspace /tmp -printf '%p %s %m\\n' | sort"
    )


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "/x", "up/x", "up/../../etc/x", "tree/etc/passwd", "/proc/self/cwd/../x"]
)
async def test_row_18_writing_outside_is_refused(box: Sandbox, path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    await say(box, "ln -s / up; mkdir tree; ln -s /etc tree/etc")
    before = await listing(box)
    with pytest.raises(SandboxRefusedError):
        await box.write_file(path, b"x")
    with pytest.raises(SandboxRefusedError):
        await box.upload(tmp_path / "file", path.removesuffix("/x") or "/")
    assert await listing(box) == before


async def test_row_18_a_link_in_the_way_is_replaced_by_what_is_uploaded(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test").write_text("ours")
    await say(box, "mkdir /tmp/theirs; ln -s /tmp/theirs tests; ln /tmp/theirs /tmp/x 2>/dev/null; true")
    await box.upload(tmp_path)
    assert await say(box, "cat tests/test; ls -A /tmp/theirs") == "ours"


async def test_row_19_members_that_are_not_uploaded(make_box: MakeBox, tmp_path: Path) -> None:
    box = await make_box(archive_entries=50, archive_bytes=100_000, file_bytes=60_000)
    cases: dict[str, Callable[[Path], object]] = {
        "link out": lambda root: (root / "x").symlink_to("../../secret"),
        "absolute link": lambda root: (root / "x").symlink_to("/etc/passwd"),
        "pipe": lambda root: os.mkfifo(root / "x"),
        "bomb": lambda root: os.truncate(_touch(root / "x"), 1 << 40),
        "bytes": lambda root: [(root / str(i)).write_bytes(b"x" * 50_000) for i in range(3)],
        "entries": lambda root: [(root / str(i)).touch() for i in range(51)],
    }
    if os.geteuid() == 0:
        cases["device"] = lambda root: os.mknod(root / "x", 0o20666, os.makedev(1, 3))
    for name, make in cases.items():
        source = tmp_path / name
        source.mkdir()
        make(source)
        with pytest.raises(SandboxRefusedError):
            await box.upload(source)
    assert await say(box, "ls -A") == ""


def _touch(path: Path) -> Path:
    path.touch()
    return path


async def test_row_19_set_uid_and_owner_are_dropped(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o6777)
    os.link(tmp_path / "program", tmp_path / "twin")
    await box.upload(tmp_path)
    assert await say(box, "stat -c '%n %a %u %h' *; id -u") == "program 755 10001 1\ntwin 755 10001 1\n10001\n"


@pytest.mark.parametrize(
    "line",
    [
        "ln -s /etc/passwd d/link",
        "mkfifo d/pipe",
        "ln -s .. d/up",
        "truncate -s 1T d/huge || truncate -s 500M d/huge",
        "for i in $(seq 60); do : >d/$i; done",
        "head -c 90000 /dev/zero >d/big; cp d/big d/bigger",
        """perl -MSocket -e 'socket(S, 1, 1, 0) && bind(S, pack("Sa*", 1, "d/socket")) or exit 1' || mkfifo d/socket""",
        "chmod 000 d",
        "p=d; for i in $(seq 150); do p=$p/d; done; mkdir -p $p",
    ],
)
async def test_row_19_trees_that_are_not_downloaded(make_box: MakeBox, tmp_path: Path, line: str) -> None:
    box = await make_box(archive_entries=50, archive_bytes=100_000)
    await say(box, f"mkdir d; {line}")
    with pytest.raises(SandboxRefusedError):
        await box.download("d", tmp_path / "target")
    assert os.listdir(tmp_path) == []


async def test_row_20_the_host_follows_nothing(box: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    secret.chmod(0o644)
    await say(box, f"ln -s {secret} link; ln -s {tmp_path} folder; mkfifo pipe; ln -s /proc/1/environ env")
    for path in ("link", "folder/secret", "pipe", "env", "/proc/kmsg", "/dev/zero", "/dev/stdin", str(secret)):
        async with asyncio.timeout(25):  # none may block
            with pytest.raises(SandboxRefusedError):
                await box.read_file(path)
            with pytest.raises(SandboxRefusedError):
                await box.download(path, tmp_path / "target")
    assert sorted(os.listdir(tmp_path)) == ["secret"]
    async with asyncio.timeout(25):
        assert b"processor" in await box.read_file("/proc/cpuinfo")  # what the box's own kernel says may be read


@pytest.mark.parametrize("name", ["new\nline", "end\n\n", "-rf", "--help", "x" * 255, "$(id)", "a'b\"c", "*", "ü🙂"])
async def test_row_21_odd_names_are_literal(box: Sandbox, tmp_path: Path, name: str) -> None:
    content = os.fsencode(name) + bytes(range(256))
    await box.write_file(f"d/{name}", content)
    assert await box.read_file(f"d/{name}") == content
    assert await say(box, "cd d && printf '%s\\0' *") == f"{name}\0"
    await box.download("d", tmp_path / "down")
    assert (tmp_path / "down" / name).read_bytes() == content
    await box.upload(tmp_path / "down", "again")
    await say(box, "diff -r d again")


async def test_row_21_names_that_are_no_text(box: Sandbox, tmp_path: Path) -> None:
    await say(box, "mkdir d; echo x >d/$'\\xff\\xfe'")
    await box.download("d", tmp_path / "down")
    assert (tmp_path / "down" / "\udcff\udcfe").read_text() == "x\n"
    await box.upload(tmp_path / "down", "again")
    await say(box, "diff -r d again")
    with pytest.raises(SandboxRefusedError, match="surrogates"):
        await box.read_file("d/\udcff\udcfe")


async def test_row_21_a_name_that_is_too_long(box: Sandbox) -> None:
    with pytest.raises(SandboxRefusedError, match="too long"):
        await box.write_file("x" * 256, b"")
    assert await say(box, "ls -A") == ""


async def test_row_22_no_connection(box: Sandbox) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server, closing(socket.create_server(("", 0))) as wide:
        own = {row[4][0] for row in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
        targets = [
            ("127.0.0.1", server.getsockname()[1]),
            ("169.254.169.254", 80),
            ("192.0.2.1", 80),
            ("127.0.0.1", 2375),
        ]
        targets += [(address, wide.getsockname()[1]) for address in sorted(own)]
        for host, port in targets:
            result = await box.exec(f"exec 3<>/dev/tcp/{host}/{port}", timeout_s=20)
            assert result.outcome == "failed", (host, port)
            assert result.duration_s < 1 + 1.0, "a second for it to fail, and one for a busy machine"
    result = await box.exec("getent hosts example.com", timeout_s=20)
    assert (result.outcome, result.stdout) == ("failed", b"")
    assert result.duration_s < 1 + 1.0
    assert await say(box, "awk -F: 'NR > 2 {print $1}' /proc/net/dev | tr -d ' '") == "lo\n"


async def test_row_23_no_socket_of_the_host(box: Sandbox) -> None:
    name = f"agentgym-hostile-{secrets.token_hex(8)}"
    with closing(socket.socket(socket.AF_UNIX)) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        assert name not in await say(box, "cat /proc/net/unix")
        connect = f"use Socket; socket(S, 1, 1, 0) or exit 8; connect(S, pack('Sa*', 1, \"\\0{name}\")) or exit 9"
        assert (await box.exec(["perl", "-e", connect], timeout_s=20)).exit_code in (8, 9)
    sockets = await say(
        box, "find / -xdev -type s 2>/dev/null; ls -d /run/docker.sock /var/run/docker.sock 2>/dev/null; true"
    )
    assert sockets == ""


@pytest.fixture
def neighbour(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A secret in our environment, and on the command line of another process of this host."""
    token = secrets.token_hex(16)
    monkeypatch.setenv("HOSTILE_TEST_API_KEY", token)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(200)", token]) as process:
        yield token
        process.kill()


async def test_row_24_no_secret_of_the_host(neighbour: str, box: Sandbox) -> None:
    look = (
        "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/task/*/environ; "
        "ls -l /proc/[0-9]*/fd /proc/[0-9]*/cwd; cat /proc/self/mountinfo"
    )
    result = await box.exec(look, timeout_s=20)
    assert neighbour.encode() not in result.stdout
    assert str(ROOT).encode() not in result.stdout
    parent = await say(box, "cat /proc/$PPID/cmdline /proc/1/cmdline | tr '\\0' ' '")
    assert sys.executable not in parent
    assert "pytest" not in parent


async def test_row_25_no_privileges(box: Sandbox) -> None:
    status = dict(
        line.split(":\t", 1) for line in (await say(box, "cat /proc/self/status")).splitlines() if ":\t" in line
    )
    assert {
        name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    } == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    numbers = SYSCALLS.get(platform.machine())
    if numbers is None:
        pytest.skip(f"numbers of system calls are not listed here for {platform.machine()}")
    tries = {
        "mount": "$b, $b, $b, 0, 0",
        "unshare": "0x10000000",  # a user namespace
        "ptrace": "16, 1, 0, 0",  # attach to process 1
        "bpf": "0, $b, 4",
        "keyctl": "0, -4, 1",
        "setns": "0, 0",
        "init_module": "$b, 0, $b",
    }
    for name, arguments in tries.items():
        program = f"$b = '/tmp'; exit(syscall({numbers[name]}, {arguments}) == -1 ? 42 : 0)"
        assert (await box.exec(["perl", "-e", program], timeout_s=20)).exit_code == 42, name
    for line in (
        "chroot / true",
        "mknod /tmp/null c 1 3",
        "chown 0 /workspace",
        "su -c true",
        "nice -n -5 true 2>&1 | grep -q cannot || exit 0; exit 1",
    ):
        assert (await box.exec(line, timeout_s=20)).outcome == "failed", line
    assert await say(box, 'cp "$(command -v id)" me; chmod 6755 me; ./me -u') == "10001\n"


async def test_row_35_reset_after_vandalism(make_box: MakeBox) -> None:
    box, fresh = await make_box(), await make_box()
    vandalism = [
        "mkdir -p a/b; echo x >a/b/c; chmod -R 000 a; chmod 000 /workspace /tmp",
        "chattr +i /workspace 2>/dev/null; setfattr -n user.x -v y /workspace 2>/dev/null; true",
        "mv /workspace /tmp/gone 2>/dev/null; mv /tmp/* /workspace 2>/dev/null; true",
        "echo 'exit 9' >~/.bashrc; echo 'exit 9' >~/.profile; echo 'alias ls=false' >>~/.bash_aliases; true",
        "echo x >/dev/shm/left; ln -s /etc /tmp/etc; touch -d @1 /workspace; true",
        "setsid bash -c 'while :; do date >/tmp/beat; echo x >/workspace/beat; done' >/dev/null 2>&1 &",
    ]
    for line in vandalism:
        await box.exec(line, timeout_s=20, cwd="/")
    await box.reset()
    await asyncio.sleep(0.3)
    processes = "for p in /proc/[0-9]*; do read name <$p/comm && echo $name; done"
    tell = "id; pwd; umask; ulimit -a; env; find /workspace /tmp /dev ~ -printf '%p %y %m %s %u %g %l\\n'"
    assert await say(box, tell) == await say(fresh, tell)
    # In order of their names: what /proc lists first, 9 or 10, is no matter of the box.
    assert sorted((await say(box, processes)).split()) == sorted((await say(fresh, processes)).split())
    await box.write_file("works", b"x")


HIDDEN_TESTS = """\
for pair in "2 3 5" "10 -4 6" "0 0 0"; do
  set -- $pair
  [ "$(bash solution.sh "$1" "$2")" = "$3" ] || exit 1
done
"""
FORGERY = """\
echo PASSED; echo '3 passed in 0.01s'; echo 'exit code: 0'
echo 0 >result.json; echo '{"passed": true}' >/tmp/result.json; echo 'exit 0' >hidden.sh
kill -9 $PPID
"""


@pytest.mark.parametrize(
    ("solution", "passes"), [("echo $(($1 + $2))", True), ("echo $(($1 - $2))", False), (FORGERY, False)]
)
async def test_row_36_grading_in_a_fresh_box(make_box: MakeBox, tmp_path: Path, solution: str, passes: bool) -> None:
    """The agent edits tests and forges results; the verdict is the exit status of the host's tests in another box."""
    played, grading = await make_box(), await make_box()
    await played.write_file("hidden.sh", "exit 1\n")
    await played.exec(
        "echo 'exit 0' >hidden.sh; echo PASSED >result.json; echo 'exit 0' >~/.bashrc; ln -s /etc/passwd leak",
        timeout_s=20,
    )
    await played.write_file("out/solution.sh", solution + "\n")
    await played.download("out", tmp_path / "artefacts")  # what was declared, and nothing else
    assert os.listdir(tmp_path / "artefacts") == ["solution.sh"]
    await grading.upload(tmp_path / "artefacts")
    await grading.write_file("/tmp/hidden.sh", HIDDEN_TESTS)
    verdict = await grading.exec(["/bin/bash", "/tmp/hidden.sh"], timeout_s=20)
    assert (verdict.outcome == "ok") is passes, verdict


@pytest.mark.parametrize("kind", ["docker"], indirect=True)  # the others have one user: grade in a fresh box, as above
async def test_row_36_a_grader_that_the_agent_cannot_touch(box: Any) -> None:
    attack = "while :; do for p in /proc/[0-9]*; do kill -9 ${p#/proc/}; echo 0 >$p/fd/1; done; done"
    await box.exec(
        f"setsid bash -c '{attack}' >/dev/null 2>&1 & echo 'exit 0' >~/.bashrc; mkdir -m 777 /tmp/g", timeout_s=20
    )
    verdict = await box.grade("id -u; sleep 1; exit 7", timeout_s=30)
    assert (verdict.exit_code, verdict.stdout) == (7, b"10002\n")


async def test_row_36_future_commits_are_stripped(box: Sandbox, tmp_path: Path) -> None:
    """A clone of the base commit alone holds no object, reference or log of what came after."""
    if not shutil.which("git"):
        pytest.skip("git is not installed on this host")
    full, base, back = tmp_path / "full", tmp_path / "base", tmp_path / "back"
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "init.defaultBranch=main"]
        done = subprocess.run(
            ["git", *who, *arguments], env=env, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    git("init", "-q", str(full))
    for text in ("start", "the future fix"):
        (full / "file").write_text(text)
        git("-C", str(full), "add", ".")
        git("-C", str(full), "commit", "-qm", text)
    git("-C", str(full), "branch", "base", "HEAD~1")
    git("clone", "-q", "--depth", "1", "--no-tags", "--branch", "base", f"file://{full}", str(base))
    git("-C", str(base), "remote", "remove", "origin")
    shutil.rmtree(base / ".git" / "logs")
    await box.upload(base, "repo")
    await box.download("repo", back)
    names = git("-C", str(back), "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    texts = [git("-C", str(back), "cat-file", "-p", name) for name in names]
    assert len(texts) == 3
    assert not any("future" in text for text in texts)
    assert b"future" not in b"".join(path.read_bytes() for path in back.rglob("*") if path.is_file())


def test_what_a_kind_cannot_promise_is_declared_and_shown(
    kind: type[Sandbox], capsys: pytest.CaptureFixture[str]
) -> None:
    from agentgym.cli.main import main
    from agentgym.sandbox_promises import PROMISES

    assert set(kind.exceptions) <= set(PROMISES)
    main(["probe", kind.name])
    shown = capsys.readouterr().out
    for promise, reason in kind.exceptions.items():
        assert f"  {promise}: cannot promise. {reason[:40]}" in shown
