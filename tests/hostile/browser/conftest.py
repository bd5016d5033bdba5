"""A real server on loopback, and a real Chromium for each test, after which nothing may be left."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import pytest

from agentgym.browser import BrowserLimits, BrowserSpec, make_browser
from agentgym.browser_sync import SyncBrowserSession
from agentgym.sandbox_sync import wait

pytest.importorskip("playwright", reason="the extra 'browser' is not installed")
from agentgym_sandboxes.browser import ChromiumBrowser
from agentgym_sandboxes.browser_process import find_chromium, list_tree

LIMITS = BrowserLimits(action_s=5.0, navigation_s=6.0, close_s=3.0)


class Site(http.server.ThreadingHTTPServer):
    """A real server on loopback. What it holds in ``state`` is the truth that a reward would read."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.pages = {"/": "<title>Home</title><p>hello</p>"}
        self.state = MappingProxyType({"sent": 0})
        self.requests: list[tuple[str, str]] = []  # path, cookie
        self.ended = threading.Event()
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.host}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a browser that was ended leaves broken pipes


class Answer(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Cookie", "")))
        if self.path == "/loop":
            self._head(302, Location="/loop")
        elif self.path == "/away":
            self._head(302, Location=self.server.pages["/away"])
        elif self.path == "/socket":
            magic = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
            self._head(101, Upgrade="websocket", Connection="Upgrade", **{"Sec-WebSocket-Accept": accept})
            self.wfile.write(b"\x81\x05hello")
        elif self.path in ("/never", "/file"):
            kind = {"Content-Disposition": "attachment; filename=big.bin"} if self.path == "/file" else {}
            self._head(200, **{"Content-Type": "text/html", **kind})
            while not self.server.ended.is_set():
                self.wfile.write(b"<p>more</p>" * 10_000)
                time.sleep(0.01)
        else:
            body = self.server.pages.get(self.path, "").encode()
            kind = "text/javascript" if self.path.endswith(".js") else "text/html; charset=utf-8"
            self._head(200, **{"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "max-age=999"})
            self.wfile.write(body)

    def _head(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


async def _nothing() -> None:
    pass


wait(_nothing())  # starts the thread of callers that do not await, which stays, before anybody counts threads


@pytest.fixture(autouse=True)
def _nothing_left(chromium: None) -> Iterator[None]:
    """Look for files of Playwright's driver, whose directory is not the tests' own."""
    directory = Path(os.environ.get("TMPDIR", "/tmp"))
    before = set(directory.glob("playwright*"))
    yield
    assert set(directory.glob("playwright*")) <= before


@pytest.fixture
def site(_nothing_left: None) -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield site
    site.ended.set()
    site.shutdown()
    site.server_close()
    thread.join()


@pytest.fixture
def make(site: Site) -> Iterator[Callable[..., ChromiumBrowser]]:
    """Make browsers that are closed after the test, with other limits than those of all tests."""
    made = []

    def make(**limits: float) -> ChromiumBrowser:
        browser = make_browser("chromium", BrowserSpec((site.host,), limits=replace(LIMITS, **limits)))
        assert isinstance(browser, ChromiumBrowser)
        made.append(browser)
        return browser

    yield make
    for browser in made:
        browser.close_sync()


@pytest.fixture
def browser(make: Callable[..., ChromiumBrowser]) -> ChromiumBrowser:
    return make()


@pytest.fixture
def page(browser: ChromiumBrowser) -> SyncBrowserSession:
    return browser.open_sync()


@dataclass(frozen=True)
class Processes:
    """The processes of a browser, as the host sees them."""

    browser: ChromiumBrowser

    def pids(self, mark: bytes = b"") -> list[int]:
        """Return the pids of those whose command line holds a mark."""
        assert self.browser.process is not None
        tree = list_tree(self.browser.process.pid)
        return [pid for pid in tree if mark in Path(f"/proc/{pid}/cmdline").read_bytes()]

    @property
    def main(self) -> int:
        """Pid of Chromium's first process; it is nobody's child but bubblewrap's."""
        name = find_chromium().encode()
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in self.pids(name)}
        return next(pid for pid, line in lines.items() if line.startswith(name) and b"--type=" not in line)

    @property
    def driver(self) -> int:
        """Pid of Playwright's driver."""
        assert self.browser.process is not None
        return int(Path(f"/proc/{self.browser.process.pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def processes(browser: ChromiumBrowser) -> Processes:
    return Processes(browser)


@pytest.fixture
def wait_for() -> Callable[[Callable[[], object]], None]:
    def wait_for(condition: Callable[[], object]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.05)

    return wait_for
