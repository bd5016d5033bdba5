"""What pages do by themselves: dialogs, popups, downloads, crashes. Seen to before the first navigation."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

from playwright.async_api import BrowserContext, Dialog, Download, Error, Frame, Page

from agentgym.browser import BrowserLimits, EventKind, PageEvent
from agentgym.sandbox_output import escape_output
from agentgym_sandboxes.browser_thread import within

SHOWN_SCHEMES = ("http:", "https:", "blob:", "about:", "chrome-error:")  # a blob is its page's own


class PageWatch:
    """Keeps the records of one session, and its pages within bounds.

    Attributes:
        crashed: Pages whose renderer ended.
    """

    def __init__(self, context: BrowserContext, limits: BrowserLimits) -> None:
        self.crashed: set[Page] = set()
        self._context = context
        self._limits = limits
        self._events: deque[PageEvent] = deque()
        self._left_out = 0
        self._expected = 0
        self._work: set[asyncio.Task[None]] = set()
        context.on("page", self._see_page)
        context.on("dialog", lambda dialog: self._start(self._dismiss(dialog)))

    async def open_page(self) -> Page:
        """Open a tab that is wanted, so no popup."""
        self._expected += 1
        try:
            return await self._context.new_page()
        finally:
            self._expected -= 1

    def record(self, kind: EventKind, detail: str) -> None:
        """Keep an event, or count it if there are too many."""
        if len(self._events) < self._limits.events:
            self._events.append(PageEvent(kind, one_line(detail)))
        else:
            self._left_out += 1

    def take(self) -> tuple[PageEvent, ...]:
        """Return the events, and forget them; safe in any thread."""
        events = []
        while self._events:
            events.append(self._events.popleft())
        left_out, self._left_out = self._left_out, 0
        if left_out:
            events.append(PageEvent(events[-1].kind, f"and {left_out} more events"))
        return tuple(events)

    async def stop(self) -> None:
        """End what is still being seen to."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def _see_page(self, page: Page) -> None:
        page.on("crash", self._see_crash)
        page.on("download", lambda download: self._start(self._cancel(download)))
        page.on("framenavigated", self._see_navigation)
        if self._expected:
            return
        if len(self._context.pages) > self._limits.tabs:
            self.record("popup", f"closed, there are {self._limits.tabs} tabs already: {page.url}")
            self._start(page.close())
        else:
            self.record("popup", f"became a tab: {page.url}")

    def _see_crash(self, page: Page) -> None:
        self.crashed.add(page)
        self.record("crash", f"the page crashed: {page.url}")

    def _see_navigation(self, frame: Frame) -> None:
        if frame.parent_frame is None and not frame.url.startswith(SHOWN_SCHEMES) and frame.url:
            self.record("navigation", f"left at once: {frame.url}")
            self._start(_leave(frame.page))

    async def _dismiss(self, dialog: Dialog) -> None:
        self.record("dialog", f"{dialog.type}: {dialog.message}")
        # A page that asks whether it may be left is left: it can't hold anybody.
        await (dialog.accept() if dialog.type == "beforeunload" else dialog.dismiss())

    async def _cancel(self, download: Download) -> None:
        self.record("download", f"cancelled: {download.url}")
        await download.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(_bounded(work, self._limits.action_s))
        self._work.add(task)
        task.add_done_callback(self._work.discard)


async def _leave(page: Page) -> None:
    await page.goto("about:blank")


async def _bounded(work: Coroutine[Any, Any, None], seconds: float) -> None:
    try:
        await within(seconds, work)
    except (Error, TimeoutError):
        return  # the page went away, or hangs: whoever acts on it next finds out


def one_line(text: str, max_chars: int = 300) -> str:
    """Return a page's words on one line, escaped and cut."""
    text = escape_page(text[: max_chars + 1]).replace("\n", " ").replace("\t", " ")
    return text if len(text) <= max_chars else f"{text[:max_chars]}…"


def escape_page(text: str) -> str:
    """Escape what :func:`agentgym.sandbox.escape_output` does, and Unicode's line separators, too."""
    text = escape_output(text.encode("utf-8", "replace"))
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
