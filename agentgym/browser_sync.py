"""A browser's session without ``await``."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Self

from agentgym.browser import BrowserSession, PageEvent, Snapshot, Tab, Target
from agentgym.sandbox_sync import wait


class SyncBrowserSession:
    """The face of :class:`agentgym.browser.BrowserSession` for code that does not await; same names, same errors."""

    def __init__(self, session: BrowserSession) -> None:
        self._session = session

    def goto(self, url: str) -> None:
        """See :meth:`agentgym.browser.BrowserSession.goto`."""
        wait(self._session.goto(url))

    def go_back(self) -> None:
        """See :meth:`agentgym.browser.BrowserSession.go_back`."""
        wait(self._session.go_back())

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """See :meth:`agentgym.browser.BrowserSession.evaluate`."""
        return wait(self._session.evaluate(script, argument))

    def read(self, script: str, argument: Any = None) -> Any:
        """See :meth:`agentgym.browser.BrowserSession.read`."""
        return wait(self._session.read(script, argument))

    def click(self, target: Target, *, button: Literal["left", "middle", "right"] = "left", count: int = 1) -> None:
        """See :meth:`agentgym.browser.BrowserSession.click`."""
        wait(self._session.click(target, button=button, count=count))

    def hover(self, target: Target) -> None:
        """See :meth:`agentgym.browser.BrowserSession.hover`."""
        wait(self._session.hover(target))

    def drag(self, source: Target, target: Target) -> None:
        """See :meth:`agentgym.browser.BrowserSession.drag`."""
        wait(self._session.drag(source, target))

    def type_text(self, text: str, target: Target | None = None) -> None:
        """See :meth:`agentgym.browser.BrowserSession.type_text`."""
        wait(self._session.type_text(text, target))

    def press(self, key: str, target: Target | None = None) -> None:
        """See :meth:`agentgym.browser.BrowserSession.press`."""
        wait(self._session.press(key, target))

    def choose(self, target: str, label: str) -> None:
        """See :meth:`agentgym.browser.BrowserSession.choose`."""
        wait(self._session.choose(target, label))

    def scroll(self, down_px: float, right_px: float = 0.0, target: Target | None = None) -> None:
        """See :meth:`agentgym.browser.BrowserSession.scroll`."""
        wait(self._session.scroll(down_px, right_px, target))

    def snapshot(self) -> Snapshot:
        """See :meth:`agentgym.browser.BrowserSession.snapshot`."""
        return wait(self._session.snapshot())

    def html(self) -> Snapshot:
        """See :meth:`agentgym.browser.BrowserSession.html`."""
        return wait(self._session.html())

    def screenshot(self, *, full_page: bool = False) -> bytes:
        """See :meth:`agentgym.browser.BrowserSession.screenshot`."""
        return wait(self._session.screenshot(full_page=full_page))

    def tabs(self) -> tuple[Tab, ...]:
        """See :meth:`agentgym.browser.BrowserSession.tabs`."""
        return wait(self._session.tabs())

    def new_tab(self) -> None:
        """See :meth:`agentgym.browser.BrowserSession.new_tab`."""
        wait(self._session.new_tab())

    def select_tab(self, index: int) -> None:
        """See :meth:`agentgym.browser.BrowserSession.select_tab`."""
        wait(self._session.select_tab(index))

    def close_tab(self, index: int) -> None:
        """See :meth:`agentgym.browser.BrowserSession.close_tab`."""
        wait(self._session.close_tab(index))

    def take_events(self) -> tuple[PageEvent, ...]:
        """See :meth:`agentgym.browser.BrowserSession.take_events`."""
        return self._session.take_events()

    def close(self) -> None:
        """See :meth:`agentgym.browser.BrowserSession.close`."""
        wait(self._session.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
