"""One Chromium and its Playwright driver: launched in a box, watched, and ended by pid."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, CDPSession, Error, Playwright, async_playwright

from agentgym.browser import BrowserLimits
from agentgym.errors import SandboxUnavailableError
from agentgym_sandboxes import browser_launcher
from agentgym_sandboxes.browser_gate import BOX_PORT, Gate
from agentgym_sandboxes.browser_thread import within

AGENT_UID = 10001  # as in our images; Chromium's uid where we are root
LAUNCH_S = 60.0
ALIVE_S = 5.0
PLACES = ("/usr/lib/chromium/chromium-headless-shell", "/usr/lib/chromium/chromium")
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
READ_ONLY = ("/etc/fonts", "/etc/ld.so.cache", "/etc/alternatives", "/var/cache/fontconfig", "/etc/localtime")
# Playwright turns these two guards against pages off, for the ease of tests.
KEPT_GUARDS = ("--disable-popup-blocking", "--disable-ipc-flooding-protection")
FLAGS = (
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-quic",
    "--disable-gpu",
    "--disable-smooth-scrolling",  # a page would be shown on its way
    "--no-pings",
    "--dns-prefetch-disable",
    "--deny-permission-prompts",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.*",  # names are resolved behind the gate
    "--proxy-server=socks5://127.0.0.1:9",  # of what belongs to no session: nobody answers
    "--proxy-bypass-list=<-loopback>",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
)


class ChromiumProcess:
    """A running Chromium.

    Attributes:
        boxed: It is in a network and file system of its own.
        pid: Of bubblewrap if boxed, else of Chromium.
        opened: Sessions that it was given so far.
        sessions: Those that are open.
        retired: It gets no more sessions.
    """

    def __init__(self, limits: BrowserLimits, *, boxed: bool) -> None:
        self.boxed, self.pid, self.opened, self.retired = boxed, 0, 0, False
        self.sessions: set[object] = set()
        self.gate = Gate()
        self._limits = limits
        self._directory = tempfile.TemporaryDirectory(prefix="agentgym-browser-", ignore_cleanup_errors=True)
        self._holds: list[int] = []  # pidfds of browser and driver: a pid may be another's by the time we signal it
        self._profile = ""
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self._control: CDPSession | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def browser(self) -> Browser:
        """Playwright's browser."""
        assert self._browser is not None
        return self._browser

    @property
    def dead(self) -> bool:
        """Whether it ended, or is being ended."""
        return self._ending is not None or self._browser is None or not self._browser.is_connected()

    async def start(self) -> None:
        """Launch it.

        Raises:
            SandboxUnavailableError: There is no Chromium, or this host can't make the box.
            playwright.async_api.Error, TimeoutError: It did not start. Nothing is left behind.
        """
        try:
            await within(LAUNCH_S, self._launch())
        except BaseException:
            await asyncio.shield(self.end())
            raise

    async def is_alive(self) -> bool:
        """Whether the browser's own process answers; a page that hangs does not matter."""
        if self.dead or self._control is None:
            return False
        try:
            await within(ALIVE_S, self._control.send("Browser.getVersion"))
        except (Error, TimeoutError):
            return False
        return True

    def memory_mb(self) -> float:
        """Private memory of all its processes: resident pages less those that are shared with others or with files."""
        return sum(map(_private_bytes, list_tree(self.pid))) / (1 << 20)

    async def end(self) -> None:
        """End it, by pid if it does not close, and its driver; leaves no process and no file. Never fails."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        tree = list_tree(self.pid) if self.pid and not self.boxed else {}  # a box's processes end with it
        if self._browser is not None:
            await _within(self._limits.close_s, self._browser.close)
        if self._holds:
            await _end_process(self._holds[0])
            for pid, started in tree.items():
                if list_tree(pid).get(pid) == started:
                    os.kill(pid, signal.SIGKILL)
        if self._playwright is not None:
            await _within(self._limits.close_s, self._playwright.stop)
        for hold in self._holds:
            await _end_process(hold)
            os.close(hold)
        self._holds.clear()
        await self.gate.close()
        self._directory.cleanup()
        if self._profile:  # Playwright's; left over if its driver had to be killed
            shutil.rmtree(self._profile, ignore_errors=True)

    async def find_fault(self) -> str:
        """Return why this host can't make the box, or nothing; tries it with a program that does nothing, then ends."""
        try:
            with self._listen("/usr/bin/true") as listener:
                program = str(Path(self._directory.name) / "chromium")
                trial = await asyncio.create_subprocess_exec(
                    program, "--user-data-dir=", stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
                )
                await within(LAUNCH_S, self._take_hold(listener))
                errors = (await within(LAUNCH_S, trial.communicate()))[1]
            return "" if trial.returncode == 0 else errors.decode(errors="replace").strip() or "it does not start"
        except SandboxUnavailableError as error:
            return str(error)
        finally:
            await asyncio.shield(self.end())

    async def _launch(self) -> None:
        with self._listen(find_chromium()) as listener:
            self._playwright = await async_playwright().start()
            launch = asyncio.ensure_future(
                self._playwright.chromium.launch(
                    executable_path=Path(self._directory.name) / "chromium",
                    artifacts_dir=Path(self._directory.name) / "artifacts",
                    chromium_sandbox=True,
                    ignore_default_args=KEPT_GUARDS,
                    args=FLAGS,
                    env={"HOME": "/tmp", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                    handle_sigint=False,
                    handle_sigterm=False,
                    handle_sighup=False,
                    timeout=LAUNCH_S * 1000,
                )
            )
            try:
                await self._take_hold(listener)
                self._browser = await launch
            finally:
                launch.cancel()
        self._control = await self._browser.new_browser_cdp_session()

    def _listen(self, program: str) -> socket.socket:
        """Write what the launcher needs, and listen for it."""
        directory = Path(self._directory.name)
        plan = {
            "chromium": program,
            "bwrap": find_bwrap() if self.boxed else "",
            "uid": AGENT_UID,
            "port": BOX_PORT,
            "disk_mb": self._limits.disk_mb,
            "read_only": [*READ_ONLY, str(Path(program).resolve().parent)],
        }
        (directory / "launch.json").write_text(json.dumps(plan))
        (directory / "artifacts").mkdir()
        command = shlex.join([sys.executable, "-I", "-S", browser_launcher.__file__, str(directory)])
        (directory / "chromium").write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (directory / "chromium").chmod(0o700)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(directory / "launch.sock"))
        listener.listen(1)
        listener.setblocking(False)
        return listener

    async def _take_hold(self, listener: socket.socket) -> None:
        """Learn the launcher's pid and take over the box's listening socket, before it becomes Chromium."""
        loop = asyncio.get_running_loop()
        caller, _ = await loop.sock_accept(listener)
        with caller:
            await _readable(caller.fileno())
            data, sockets, _, _ = socket.recv_fds(caller, 1 << 16, 1)
            report: dict[str, Any] = json.loads(data)
            if "error" in report:
                raise SandboxUnavailableError(f"this host can't box a browser: {report['error']}")
            self.pid = struct.unpack("3i", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            self._profile = report["profile"]
            self._holds = [os.pidfd_open(pid) for pid in (self.pid, report["driver"]) if pid != os.getpid()]
            for number in sockets:
                gate = socket.socket(fileno=number)
                gate.setblocking(False)
                await self.gate.listen(gate)
            await loop.sock_sendall(caller, b"g")


def find_chromium() -> str:
    """Return the path of the Chromium that is installed; Debian's shell without windows opens pages fastest.

    Raises:
        SandboxUnavailableError: There is none.
    """
    asked = os.environ.get("AGENTGYM_CHROMIUM", "")
    candidates = [asked] if asked else [*PLACES, *(shutil.which(name) or "" for name in NAMES)]
    found = [path for path in candidates if os.access(path, os.X_OK)]
    if not found:
        raise SandboxUnavailableError(
            f"there is no Chromium{f' at {asked}' if asked else ''}: run scripts/chromium.sh, "
            "or name one in the environment variable AGENTGYM_CHROMIUM"
        )
    return found[0]


def find_bwrap() -> str:
    """Return the path of bubblewrap.

    Raises:
        SandboxUnavailableError: There is none.
    """
    path = shutil.which("bwrap") or shutil.which("bwrap", path=str(Path(sys.executable).parent))
    if path is None:
        raise SandboxUnavailableError("there is no bubblewrap: run scripts/chromium.sh, or apt-get install bubblewrap")
    return path


def list_tree(root: int) -> dict[int, int]:
    """Return the pids of a process and its descendants that have not ended, each with its start in clock ticks."""
    parents: dict[int, int] = {}
    starts: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            parents[int(entry.name)] = int(fields[1])
            if fields[0] != "Z":
                starts[int(entry.name)] = int(fields[19])
    tree = {}
    for pid in starts:
        line = pid
        while line and line != root:
            line = parents.get(line, 0)
        if line == root:
            tree[pid] = starts[pid]
    return tree


def _private_bytes(pid: int) -> int:
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0  # it has just ended
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


async def _within(seconds: float, work: Callable[[], Any]) -> None:
    """Ask for an orderly end; whoever asks looks afterwards whether it came."""
    try:
        await within(seconds, work())
    except Exception:  # Playwright raises bare Exception where its driver has gone
        return


async def _end_process(hold: int) -> None:
    """Kill a process unless it has ended, and wait until it has."""
    try:
        await within(0.5, _readable(hold))
    except TimeoutError:
        signal.pidfd_send_signal(hold, signal.SIGKILL)
        await within(10.0, _readable(hold))


async def _readable(number: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(number, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(number)
