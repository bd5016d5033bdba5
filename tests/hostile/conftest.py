"""What the hostile tests use: boxes of each kind on this host, and proof after each test that nothing of it is left."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentgym.errors import UsageError
from agentgym.registry import SANDBOXES_GROUP, load_named
from agentgym.sandbox import Limits, Sandbox, SandboxSpec

ROOT = Path(__file__).resolve().parents[2]
SETTLE_S = 20.0  # for what ends in the background: removal of a container, death of a killed process

MakeBox = Callable[..., Awaitable[Sandbox]]


@functools.cache
def install_docker() -> str:
    """See to it that a daemon answers and has the image; return why that cannot be, or nothing."""
    if not _docker_answers():
        if os.geteuid() != 0:
            return "no docker daemon answers, and only root can start one"
        print("\nStarting a docker daemon: scripts/docker.sh")
        _run_script("scripts/docker.sh")
    inspect = ["docker", "image", "inspect", "agentgym/base"]
    if subprocess.run(inspect, capture_output=True, timeout=60).returncode != 0:
        if os.geteuid() != 0:
            return "there is no image agentgym/base, and only root can build it: sudo docker/build.sh base"
        print("\nBuilding agentgym/base: docker/build.sh base")
        _run_script("docker/build.sh", "base")
    return ""


@functools.cache
def install_bwrap() -> str:
    """See to it that bubblewrap is installed; return why that cannot be, or nothing."""
    if shutil.which("bwrap"):
        return ""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return "bubblewrap is not installed, and only root can install it: sudo apt-get install bubblewrap"
    print("\nInstalling bubblewrap")
    _run_script("apt-get", "update", "-q")
    _run_script("apt-get", "install", "-qqy", "--no-install-recommends", "bubblewrap")
    return ""


def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "version"], capture_output=True, timeout=60).returncode == 0


def _run_script(name: str, *arguments: str) -> None:
    program = str(ROOT / name) if "/" in name else name
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{name} failed: {done.stdout[-1000:]} {done.stderr[-2000:]}"


@functools.cache
def _find_kind(name: str) -> tuple[type[Sandbox] | None, str]:
    obstacle = {"docker": install_docker, "bwrap": install_bwrap}[name]()
    if obstacle:
        return None, obstacle
    kind: type[Sandbox] = load_named(SANDBOXES_GROUP, "sandbox", name)
    return kind, ""


@pytest.fixture(params=["docker", "bwrap"])
def kind(request: pytest.FixtureRequest) -> type[Sandbox]:
    """Each kind of sandbox; skipped, with the reason, only where the host cannot have it."""
    found, obstacle = _find_kind(request.param)
    if found is None:
        pytest.skip(obstacle)
    return found


@pytest.fixture
async def make_box(kind: type[Sandbox]) -> AsyncIterator[MakeBox]:
    """Starts boxes with limits of the test's own, and closes them."""
    boxes: list[Sandbox] = []

    async def make(*, lease_s: float = 600.0, **limits: Any) -> Sandbox:
        box = kind(SandboxSpec(lease_s=lease_s, limits=Limits(**limits)))
        boxes.append(box)
        return await box.start()

    yield make
    for box in boxes:
        await box.close()


@pytest.fixture
async def box(make_box: MakeBox) -> Sandbox:
    """A started box with the default limits."""
    return await make_box()


# After each test, nothing of it is left


@dataclass(frozen=True)
class Traces:
    """What a test can leave behind on the host."""

    threads: frozenset[str] = frozenset()
    children: frozenset[str] = frozenset()
    boxed: frozenset[str] = frozenset()
    descriptors: int = 0
    listeners: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def surplus(self, before: Traces) -> dict[str, Any]:
        """Return what is here and was not before."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            old = getattr(before, name)
            more = value - old if isinstance(value, frozenset) else max(0, value - old)
            if more:
                found[name] = more
        return found


def look_around() -> Traces:
    """List what this process, and boxes that lost their parent, have on this host."""
    return Traces(
        threads=frozenset(thread.name for thread in threading.enumerate() if thread.name != "agentgym-sandboxes"),
        children=frozenset(_children()),
        boxed=frozenset(_orphans_in_boxes()),
        descriptors=len(os.listdir("/proc/self/fd")),
        listeners=frozenset(_listeners()),
        mounts=frozenset(_mounts()),
        files=frozenset(os.listdir(tempfile.gettempdir())),
        containers=frozenset(_containers()),
        groups=frozenset(_control_groups()),
    )


def _children() -> list[str]:
    # A thread may end while we look.
    pids = [pid for task in Path("/proc/self/task").iterdir() for pid in _read(str(task / "children")).split()]
    return [f"{pid} {_read(f'/proc/{pid}/cmdline')[:200]}" for pid in pids]


def _orphans_in_boxes() -> list[str]:
    """Processes in a PID namespace of their own that are below this process, or whose parents have all ended.

    Boxes of other runs on this host have a living parent; containers have one of containerd, and are counted by label.
    """
    ours, found = os.readlink("/proc/self/ns/pid"), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns" / "pid") == ours:
                continue
            line = _line_of_parents(int(entry.name))
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
        if not _read(str(entry / "cmdline")):  # it is dead, and its parent, somebody else's, has not yet asked
            continue
        contained = any(name.startswith("containerd-shim") for name in line.values())
        if os.getpid() in line or (len(line) < 4 and not contained):
            found.append(f"{entry.name} {_read(str(entry / 'cmdline'))[:200]}")
    return found


def _line_of_parents(pid: int) -> dict[int, str]:
    """Return a process, its parent, and so on, each with its name."""
    line: dict[int, str] = {}
    while pid:
        stat = _read(f"/proc/{pid}/stat")
        line[pid] = stat[stat.index("(") + 1 : stat.rindex(")")]
        pid = int(stat[stat.rindex(")") + 2 :].split()[1])
    return line


def _listeners() -> list[str]:
    """Listening TCP sockets of this process."""
    mine = {_read_link(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    rows = [row.split() for table in ("tcp", "tcp6") for row in _read(f"/proc/net/{table}").splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in mine]


def _mounts() -> list[str]:
    """Mount points of this process, but for those of docker daemons, which other runs change."""
    lines = _read("/proc/self/mountinfo").splitlines()
    return [line.split()[4] for line in lines if "docker" not in line]


def _containers() -> list[str]:
    """Containers that this process owns, by their label."""
    if not shutil.which("docker"):
        return []
    ask = ["docker", "ps", "--all", "--format", '{{.ID}} {{.Names}} {{.Status}} {{.Label "agentgym.owner"}}']
    done = subprocess.run(ask, capture_output=True, text=True, timeout=60)
    return [line for line in done.stdout.splitlines() if f":{os.getpid()}:" in line]


def _control_groups() -> list[str]:
    """Control groups of bwrap boxes of this process, whose names hold its id."""
    # At the root of each hierarchy; further down, daemons remove directories while we look.
    found = [path for pattern in ("agentgym*", "*/agentgym*") for path in Path("/sys/fs/cgroup").glob(pattern)]
    return [str(path) for path in found if f":{os.getpid()}:" in path.name]


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # it was closed meanwhile
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


_BEFORE = pytest.StashKey[Traces]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Look around before any fixture of the test. It has an empty directory of its own for temporary files."""
    if "kind" in getattr(item, "fixturenames", ()):
        warm_up()
    item.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # pytest's own directory, before ours
    tempfile.tempdir = tempfile.mkdtemp(prefix="agentgym-hostile-")
    item.stash[_BEFORE] = look_around()
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Look around after the last fixture has gone: threads of a loop end with it."""
    yield
    if _BEFORE not in item.stash:
        return
    deadline = time.monotonic() + SETTLE_S
    while (surplus := look_around().surplus(item.stash[_BEFORE])) and time.monotonic() < deadline:
        time.sleep(0.1)
    shutil.rmtree(tempfile.gettempdir())
    tempfile.tempdir = None
    if surplus:
        pytest.fail(f"the test left behind: {surplus}")


@functools.cache
def warm_up() -> None:
    """Open once what a process opens once and keeps, so that no test is blamed for it."""

    async def start_and_close() -> None:
        for name in ("docker", "bwrap"):
            found, _ = _find_kind(name)
            if found is not None:
                async with found():
                    pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            asyncio.run(start_and_close())
        except UsageError as error:
            print(f"\nA kind of sandbox cannot start here: {error}")
