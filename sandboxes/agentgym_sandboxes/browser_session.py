"""One episode in a Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, Error, Page
from playwright.async_api import TimeoutError as PlaywrightTimeout

from agentgym.browser import BrowserSession, PageEvent, Snapshot, Tab, Target
from agentgym.errors import PageError, SandboxLostError, SandboxRefusedError
from agentgym_sandboxes import browser_reading as reading
from agentgym_sandboxes.browser_gate import Door
from agentgym_sandboxes.browser_process import ChromiumProcess
from agentgym_sandboxes.browser_thread import within
from agentgym_sandboxes.browser_watch import PageWatch, one_line

if TYPE_CHECKING:
    from agentgym_sandboxes.browser import ChromiumBrowser

T = TypeVar("T")
STILL_ALIVE_S = 2.0  # a page that does nothing else answers in milliseconds
REPLACE_S = 5.0
NOTICE_S = 1.0
# The scheme must be plain to see: what Chromium makes of the rest, the gate judges by the host that is called.
ADDRESS = re.compile(r"https?://[^\s\\]+", re.IGNORECASE)


class ChromiumSession(BrowserSession):
    """See :class:`agentgym.browser.BrowserSession`; made by ``ChromiumBrowser.open``."""

    def __init__(self, owner: ChromiumBrowser, process: ChromiumProcess, viewport: tuple[int, int]) -> None:
        self._owner = owner
        self._process = process
        self._limits = owner.spec.limits
        self._viewport = viewport
        self._worlds = reading.Worlds()
        self._lock = asyncio.Lock()
        self._closed = False
        self._context: BrowserContext
        self._watch: PageWatch
        self._door: Door
        self._page: Page

    async def start(self, hosts: Sequence[str]) -> None:
        """Make context, way out and first page; on the browser's loop."""
        kept: list[Any] = []  # the watch is made after the door that reports to it
        traffic_bytes = self._limits.traffic_mb << 20
        self._door = await self._process.gate.open(
            frozenset(hosts), traffic_bytes, lambda kind, what: kept[0].record(kind, what)
        )
        width, height = self._viewport
        self._context = await self._process.browser.new_context(
            viewport={"width": width, "height": height},
            screen={"width": width, "height": height},
            service_workers="block",
            accept_downloads=False,
            permissions=[],
            locale="en-US",
            timezone_id="UTC",
            proxy={"server": self._door.url},
        )
        self._context.set_default_timeout(self._limits.action_s * 900)  # in ms: says more than our own deadline does
        self._context.set_default_navigation_timeout(self._limits.navigation_s * 900)
        self._watch = PageWatch(self._context, self._limits)
        kept.append(self._watch)
        self._page = await self._watch.open_page()

    # what a user calls, on any loop

    async def goto(self, url: str) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""
        if url != "about:blank" and not ADDRESS.fullmatch(url):
            raise SandboxRefusedError(f"only http:// and https:// addresses can be shown, not {one_line(url)}")
        if url != "about:blank" and _find_host(url) not in self._door.hosts:
            self._watch.record("blocked", _find_host(url))
            raise SandboxRefusedError(f"{one_line(_find_host(url))} is no host of this task")
        await self._act("goto", lambda: self._goto(url), self._limits.navigation_s)

    async def go_back(self) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""
        await self._act("go_back", lambda: self._page.go_back(), self._limits.navigation_s)

    async def evaluate(self, script: str, argument: Any = None) -> Any:
        """See :class:`agentgym.browser.BrowserSession`."""
        self._check_text(script)
        return await self._act("evaluate", lambda: reading.evaluate(self._page, script, argument, self._limits))

    async def read(self, script: str, argument: Any = None) -> Any:
        """See :class:`agentgym.browser.BrowserSession`."""
        self._check_text(script)
        return await self._act("read", lambda: self._worlds.read(self._page, script, argument, self._limits))

    async def click(
        self, target: Target, *, button: Literal["left", "middle", "right"] = "left", count: int = 1
    ) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""
        if not 1 <= count <= 3:
            raise SandboxRefusedError(f"a click is done once to three times, not {count!r}")

        async def click() -> None:
            if isinstance(target, str):
                await self._page.locator(target).click(button=button, click_count=count)
            else:
                await self._page.mouse.click(*target, button=button, click_count=count)
            await self._page.wait_for_load_state("domcontentloaded")

        self._check_points(target)
        await self._act("click", click)

    async def hover(self, target: Target) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""

        async def hover() -> None:
            await self._move_mouse(*await self._find_point(target))

        self._check_points(target)
        await self._act("hover", hover)

    async def drag(self, source: Target, target: Target) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""

        async def drag() -> None:
            start, end = await self._find_point(source), await self._find_point(target)
            await self._page.mouse.move(*start)
            await self._page.mouse.down()
            await self._page.mouse.move(*end, steps=5)
            await self._page.mouse.up()

        self._check_points(source, target)
        await self._act("drag", drag)

    async def type_text(self, text: str, target: Target | None = None) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""

        async def type_text() -> None:
            if isinstance(target, str):
                await self._page.locator(target).fill(text)
                return
            if target is not None:
                await self._page.mouse.click(*target)
            await self._page.keyboard.type(text)

        self._check_text(text)
        self._check_points(target)
        await self._act("type_text", type_text)

    async def press(self, key: str, target: Target | None = None) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""

        async def press() -> None:
            if isinstance(target, str):
                await self._page.locator(target).press(key)
            else:
                if target is not None:
                    await self._page.mouse.click(*target)
                await self._page.keyboard.press(key)
            await self._page.wait_for_load_state("domcontentloaded")

        self._check_text(key)
        self._check_points(target)
        await self._act("press", press)

    async def choose(self, target: str, label: str) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""
        await self._act("choose", lambda: self._page.locator(target).select_option(label))

    async def scroll(self, down_px: float, right_px: float = 0.0, target: Target | None = None) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""
        width, height = self._viewport

        async def scroll() -> None:
            middle = (width / 2, height / 2)
            await self._move_mouse(*(middle if target is None else await self._find_point(target)))
            await self._worlds.read(self._page, reading.DRAW_TWICE, None, self._limits)
            await self._page.mouse.wheel(right_px, down_px)
            await self._worlds.read(self._page, reading.DRAW_TWICE, None, self._limits)

        if not all(math.isfinite(number) and abs(number) <= 1e6 for number in (down_px, right_px)):
            raise SandboxRefusedError(f"a scroll is a number of pixels, not ({right_px!r}, {down_px!r})")
        self._check_points(target)
        await self._act("scroll", scroll)

    async def snapshot(self) -> Snapshot:
        """See :class:`agentgym.browser.BrowserSession`."""
        return await self._act("snapshot", lambda: reading.read_snapshot(self._page, self._limits))

    async def html(self) -> Snapshot:
        """See :class:`agentgym.browser.BrowserSession`."""
        return await self._act("html", lambda: reading.read_html(self._page, self._limits))

    async def screenshot(self, *, full_page: bool = False) -> bytes:
        """See :class:`agentgym.browser.BrowserSession`."""
        return await self._act(
            "screenshot",
            lambda: reading.take_screenshot(self._page, self._viewport, self._limits, full_page=full_page),
        )

    async def tabs(self) -> tuple[Tab, ...]:
        """See :class:`agentgym.browser.BrowserSession`."""

        async def tabs() -> tuple[Tab, ...]:
            return tuple([await reading.describe(page, active=page is self._page) for page in self._context.pages])

        return await self._act("tabs", tabs)

    async def new_tab(self) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""

        async def new_tab() -> None:
            if len(self._context.pages) >= self._limits.tabs:
                raise SandboxRefusedError(f"there are {self._limits.tabs} tabs already; close one first")
            self._page = await self._watch.open_page()

        await self._act("new_tab", new_tab)

    async def select_tab(self, index: int) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""

        async def select_tab() -> None:
            page = self._find_tab(index)
            await page.bring_to_front()
            self._page = page

        await self._act("select_tab", select_tab)

    async def close_tab(self, index: int) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""

        async def close_tab() -> None:
            page = self._find_tab(index)
            await page.close()
            if page is self._page:
                others = self._context.pages
                self._page = others[-1] if others else await self._watch.open_page()

        await self._act("close_tab", close_tab)

    def take_events(self) -> tuple[PageEvent, ...]:
        """See :class:`agentgym.browser.BrowserSession`."""
        return self._watch.take()

    async def close(self) -> None:
        """See :class:`agentgym.browser.BrowserSession`."""
        if not self._closed:
            self._closed = True
            try:
                await asyncio.shield(self._owner.thread.call(self.close_here()))
            except SandboxLostError:
                return  # the whole browser was closed before

    async def close_here(self) -> None:
        """Do what ``close`` does, on the browser's loop; also after a ``start`` that failed."""
        self._closed = True
        if hasattr(self, "_watch"):
            await self._watch.stop()
        if hasattr(self, "_context") and not self._process.dead:
            try:
                await within(self._limits.close_s, self._context.close())
            except (Error, TimeoutError):
                self._process.retired = True  # the context is still in it
                if not await self._process.is_alive():
                    await self._process.end()
        if hasattr(self, "_door"):
            await self._process.gate.shut(self._door)
        await self._owner.release(self._process, self)

    # on the browser's loop

    async def _act(self, what: str, work: Callable[[], Awaitable[T]], deadline_s: float | None = None) -> T:
        if self._closed:
            raise SandboxLostError("the session was closed")
        return await self._owner.thread.call(self._act_here(what, work, deadline_s or self._limits.action_s))

    async def _act_here(self, what: str, work: Callable[[], Awaitable[T]], deadline_s: float) -> T:
        async with self._lock:
            try:
                if self._page.is_closed():  # it closed itself
                    await self._replace_page()
                return await within(deadline_s, work())
            except (TimeoutError, PlaywrightTimeout) as error:
                await self._recover()
                said = f": {_first_line(error)}" if isinstance(error, PlaywrightTimeout) else ""
                raise PageError(f"{what}: not done in {deadline_s:g} s{said}", "timed_out") from None
            except Error as error:
                # "Closed" is what Playwright says of a page, a browser and a driver that ended: find out which.
                if self._page in self._watch.crashed or "closed" in str(error) or self._page.is_closed():
                    await self._recover()
                raise PageError(f"{what}: {_first_line(error)}") from None

    async def _recover(self) -> None:
        """Stop what the page loads; replace it if it does not answer.

        Raises:
            SandboxLostError: The browser does not answer either.
        """
        if self._page not in self._watch.crashed and not self._page.is_closed() and not self._process.dead:
            try:
                await within(STILL_ALIVE_S, self._page.evaluate("() => window.stop()"))
                return
            except (Error, TimeoutError):
                if self._page not in self._watch.crashed:
                    self._watch.record("hang", f"the page did not answer and was closed: {self._page.url}")
        try:
            await self._replace_page()
        except (Error, TimeoutError):
            if await self._process.is_alive():
                await self.close_here()
            else:
                await self._process.end()
            raise SandboxLostError("the browser died or stopped answering") from None

    async def _replace_page(self) -> None:
        old = self._page
        self._page = await within(REPLACE_S, self._watch.open_page())
        self._watch.crashed.discard(old)
        if not old.is_closed():
            await within(REPLACE_S, old.close())

    async def _goto(self, url: str) -> None:
        try:
            await self._page.goto(url)
        except PlaywrightTimeout:
            raise
        except Error as error:
            if "net::" in str(error) and "net::ERR_ABORTED" not in str(error):  # a download is aborted, without notice
                # Chromium's notice of the failure is still to come, and would interrupt the next navigation.
                with contextlib.suppress(PlaywrightTimeout):
                    await self._page.wait_for_url("chrome-error:**", wait_until="commit", timeout=NOTICE_S * 1000)
            raise

    async def _find_point(self, target: Target) -> tuple[float, float]:
        if not isinstance(target, str):
            return target
        await self._page.locator(target).scroll_into_view_if_needed()
        box = await self._page.locator(target).bounding_box()
        if box is None:
            raise PageError(f"{one_line(target)} is not visible")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    async def _move_mouse(self, x: float, y: float) -> None:
        """Move the mouse so that the page hears of it, which it does not if the mouse is there already."""
        await self._page.mouse.move(x, y - 1 if y >= 1 else y + 1)
        await self._page.mouse.move(x, y)

    def _find_tab(self, index: int) -> Page:
        pages = self._context.pages
        if not 0 <= index < len(pages):
            raise SandboxRefusedError(f"there is no tab {index!r}: they are 0 to {len(pages) - 1}")
        return pages[index]

    def _check_points(self, *targets: Target | None) -> None:
        width, height = self._viewport
        for target in targets:
            if isinstance(target, str) or target is None:
                continue
            x, y = target
            if not (0 <= x < width and 0 <= y < height):  # NaN is in no range
                raise SandboxRefusedError(f"the point ({x!r}, {y!r}) is outside of the page's {width}×{height} pixels")

    def _check_text(self, text: str) -> None:
        if len(text.encode("utf-8", "replace")) > self._limits.text_bytes:
            raise SandboxRefusedError(f"at most {self._limits.text_bytes} bytes can be typed at once")


def _find_host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme.lower() == "https" else 80)
    except ValueError:
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _first_line(error: Exception) -> str:
    return one_line(str(error).strip().partition("\n")[0])
