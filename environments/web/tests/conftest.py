"""A real Chromium and a server of the tests' own."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentgym.browser import BrowserLimits, BrowserSpec
from agentgym.env import Opening
from agentgym.task import Task, TaskSet

pytest.importorskip("playwright", reason="the extra 'browser' is not installed")
from agentgym_web import web_env
from agentgym_web.commands import PageAction
from agentgym_web.page_view import PageView
from agentgym_web.shared_browser import BrowserSeat, count_users
from agentgym_web.web_env import Grade, WebEnv

LIMITS = BrowserLimits(action_s=20.0, navigation_s=40.0, close_s=3.0)


class Site(http.server.ThreadingHTTPServer):
    """A server on loopback whose pages a test writes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.pages = {"/": "<title>Home</title><h1>hello</h1>"}
        self.requests: list[tuple[str, str]] = []  # path, cookie
        self.ended = threading.Event()
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.host}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Cookie", "")))
        if self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
            return
        if self.path == "/never":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            while not self.server.ended.wait(0.01):
                self.wfile.write(b"<p>more</p>" * 10_000)
            return
        body = self.server.pages.get(self.path.partition("?")[0], "").encode()
        self.send_response(200)
        kinds = {".bin": "application/octet-stream", ".js": "text/javascript"}
        kind = kinds.get(self.path[self.path.rfind(".") :], "text/html; charset=utf-8")
        self.send_header("Content-Type", kind)
        if self.path.endswith(".bin"):
            self.send_header("Content-Disposition", "attachment; filename=big.bin")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class SiteEnv(WebEnv):
    """An environment on a test's own pages: it pays 1 for an address that ends in ``/won``."""

    def __init__(self, site: Site, **kwargs: Any) -> None:
        super().__init__(limits=LIMITS, **kwargs)
        self.site = site

    def task_set(self, split: str) -> TaskSet:
        return TaskSet(self._known_split(split), ["only"], lambda name: self.make_task(name, split))

    def _start(self, task: Task) -> Opening:
        return self._open(self._enter(self.site.url, [self.site.host]))

    def _grade(self, action: PageAction | None, view: PageView) -> Grade:
        won = view.url.endswith("/won")
        return Grade({"outcome": float(won)}, terminated=won, success=won)

    def _show_address(self, url: str) -> str:
        return url.replace(self.site.url, "http://site")

    def _find_address(self, url: str) -> str:
        return url.replace("http://site", self.site.url)


@pytest.fixture(scope="session", autouse=True)
def _one_browser(chromium: None) -> Iterator[None]:
    """Hold seats, so that the browsers start once for all tests; afterwards nobody may hold one."""

    class Owner:
        pass

    owner = Owner()
    seats = [BrowserSeat(owner, BrowserSpec(limits=limits)) for limits in (LIMITS, web_env.LIMITS)]
    for seat in seats:
        seat.take()
    yield
    for seat in seats:
        seat.give_up()
    assert count_users() == 0


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield site
    site.ended.set()
    site.shutdown()
    site.server_close()
    thread.join()


@pytest.fixture
def make(site: Site) -> Iterator[Callable[..., SiteEnv]]:
    made: list[SiteEnv] = []

    def make(**kwargs: Any) -> SiteEnv:
        made.append(SiteEnv(site, **kwargs))
        return made[-1]

    yield make
    for env in made:
        env.close()
