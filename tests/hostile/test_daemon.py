"""Rows 28, 29 and 32: the docker daemon dies or hangs. Only a daemon of the test's own is stopped or killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agentgym.errors import SandboxLostError, SandboxUnavailableError
from agentgym.sandbox import Limits, Sandbox, SandboxSpec
from agentgym_sandboxes import docker_engine
from agentgym_sandboxes.docker import DockerSandbox
from agentgym_sandboxes.docker_engine import Engine, ask

IMAGE = "agentgym/base"
SMALL = SandboxSpec(image=IMAGE, limits=Limits(memory_mb=256, workspace_mb=16, tmp_mb=16), lease_s=600)
pytestmark = pytest.mark.parametrize("kind", ["docker"], indirect=True)


class Daemon:
    """A docker daemon of the test's own, which it may stop and kill."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = f"unix://{directory}/docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # A killed daemon leaves these behind, and the next one would take a zombie's pid for a living containerd.
        for left in ("docker.pid", "exec/containerd/containerd.pid"):
            (self.directory / left).unlink(missing_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *("dockerd", "--host", self.host, "--data-root", f"{self.directory}/data"),
                    *("--exec-root", f"{self.directory}/exec", "--pidfile", f"{self.directory}/docker.pid"),
                    *("--bridge", "none", "--iptables=false", "--ip6tables=false"),
                    *("--add-runtime", "broken=/bin/false"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(300):
            try:
                self.client(5).close()
                return
            except SandboxUnavailableError:
                assert self.process.poll() is None, (self.directory / "log").read_text()[-2000:]
                time.sleep(0.2)
        raise AssertionError("the test's own daemon does not answer")

    def client(self, timeout_s: float = 60) -> Any:
        before = os.environ.get("DOCKER_HOST")
        os.environ["DOCKER_HOST"] = self.host
        try:
            return docker_engine.connect(timeout_s)
        finally:
            os.environ.pop("DOCKER_HOST") if before is None else os.environ.update(DOCKER_HOST=before)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def names(self) -> list[str]:
        api = self.client()
        try:
            return [name for entry in api.containers(all=True) for name in entry["Names"]]
        finally:
            api.close()

    def stop(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is not None:
            self.start()  # only a daemon can end what a killed one has left running
        self.signal(signal.SIGCONT)
        api = self.client()
        for entry in api.containers(all=True):
            ask(api, "remove_container", entry["Id"], force=True)
        api.close()
        self.process.terminate()
        self.process.wait(60)
        data = self.directory / "data"  # each daemon mounts it, and a killed one has not taken it back
        while f" {data} " in Path("/proc/self/mountinfo").read_text():
            subprocess.run(["umount", data], timeout=20, check=True)


@pytest.fixture(scope="module")
def daemon_directory() -> Iterator[Path]:
    # Its images serve all tests here. Short, since the path of a socket has 107 bytes at most.
    directory = Path(tempfile.mkdtemp(prefix="agentgym-daemon-", dir="/var/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def daemon(kind: type[Sandbox], daemon_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon of the test's own, for the boxes of this test; calls to it give up soon."""
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        pytest.skip("only root can start a docker daemon of the test's own, and dockerd must be installed")
    daemon = Daemon(daemon_directory)
    daemon.start()
    try:
        if not (daemon_directory / "loaded").exists():
            shared, own = docker_engine.connect(120), daemon.client(120)
            own.load_image(b"".join(shared.get_image(IMAGE)))
            shared.close()
            own.close()
            (daemon_directory / "loaded").touch()
        monkeypatch.setenv("DOCKER_HOST", daemon.host)
        monkeypatch.setattr(docker_engine, "QUICK_S", 3.0)
        monkeypatch.setattr(docker_engine, "SLOW_S", 8.0)
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture(autouse=True)
async def no_engine_left() -> AsyncIterator[None]:
    """The last box of a process closes its connection to the daemon, with its threads."""
    yield
    assert Engine._engines == {}


async def test_row_28_daemon_dies_in_mid_exec(daemon: Daemon) -> None:
    box = await DockerSandbox(SMALL).start()
    running = asyncio.ensure_future(box.exec("sleep 60", timeout_s=50))
    await asyncio.sleep(1)
    daemon.kill()
    started = time.monotonic()
    with pytest.raises(SandboxLostError):
        await running
    assert time.monotonic() - started < 10
    with pytest.raises(SandboxLostError):
        await box.exec("true", timeout_s=5)
    await box.close()
    daemon.start()
    await _until_empty(daemon)


async def test_row_28_daemon_hangs_in_mid_exec(daemon: Daemon) -> None:
    box = await DockerSandbox(SMALL).start()
    running = asyncio.ensure_future(box.exec("sleep 60", timeout_s=50))
    await asyncio.sleep(1)
    daemon.signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(SandboxLostError, match="does not answer"):
            await running
        assert time.monotonic() - started < 20
    finally:
        daemon.signal(signal.SIGCONT)
    await box.close()
    assert daemon.names() == []


class BrokenSandbox(DockerSandbox):
    """A box whose container can be created, but not started."""

    runtime: ClassVar[str | None] = "broken"


async def test_row_29_start_fails_after_create(daemon: Daemon) -> None:
    with pytest.raises(SandboxUnavailableError, match="start: "):
        await BrokenSandbox(SMALL).start()
    assert daemon.names() == []


async def test_row_29_create_times_out_and_happens_later(daemon: Daemon) -> None:
    async with DockerSandbox(SMALL):  # so that the engine is connected
        box = DockerSandbox(SMALL)
        starting = asyncio.ensure_future(box.start())
        await asyncio.sleep(0)
        daemon.signal(signal.SIGSTOP)
        try:
            with pytest.raises(SandboxLostError, match="does not answer"):
                await starting
        finally:
            daemon.signal(signal.SIGCONT)
        # The daemon now does what it was asked; that container is found by the name that was chosen before.
        for _ in range(300):
            if len(daemon.names()) == 2:
                break
            await asyncio.sleep(0.1)
        assert len(daemon.names()) == 2
        await asyncio.to_thread(DockerSandbox.collect_garbage)
        assert len(daemon.names()) == 1
    assert daemon.names() == []


async def test_row_32_stop_itself_hangs(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    box = await DockerSandbox(SMALL).start()
    (name,) = box._names
    daemon.signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        await box.close()
    finally:
        daemon.signal(signal.SIGCONT)
    assert time.monotonic() - started < 20
    assert f"container {name} could not be removed" in caplog.text
    await asyncio.to_thread(DockerSandbox.collect_garbage)
    await _until_empty(daemon)


async def _until_empty(daemon: Daemon) -> None:
    for _ in range(300):
        if not daemon.names():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"still there: {daemon.names()}")
