"""One browser for all environments of a process: it starts with the first that needs it and ends with the last."""

from __future__ import annotations

import atexit
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Sequence

from agentgym.browser import Browser, BrowserSpec, make_browser
from agentgym.browser_sync import SyncBrowserSession

_LOCK = threading.Lock()
_numbers = itertools.count()
_browsers: dict[BrowserSpec, Browser] = {}
_users: dict[BrowserSpec, set[int]] = {}
# What the garbage collector finds is only noted: it may run in a thread that a browser needs to be closed.
_orphans: deque[tuple[BrowserSpec, int, SyncBrowserSession | None]] = deque()


class BrowserSeat:
    """One environment's right to a session in the browser of its process.

    Args:
        owner: The environment; when it is collected without having been closed, its seat is given up, too.
        spec: Which browser; environments with equal ones share it.
    """

    def __init__(self, owner: object, spec: BrowserSpec) -> None:
        self._spec = spec
        self._number = next(_numbers)
        self._held: list[SyncBrowserSession | None] = [None]
        self._finalizer = weakref.finalize(owner, _note_orphan, spec, self._number, self._held)
        self._finalizer.atexit = False  # the end of the process closes every browser

    @property
    def session(self) -> SyncBrowserSession | None:
        """The session of the running episode."""
        return self._held[0]

    def open(self, hosts: Sequence[str], viewport: tuple[int, int]) -> SyncBrowserSession:
        """Give the next episode a session of its own, and forget the one before.

        Raises:
            SandboxUnavailableError: This host has no browser.
            SandboxLostError: It could not open a page.
        """
        self.leave()
        session = self.take().open_sync(hosts, viewport)
        self._held[0] = session
        return session

    def take(self) -> Browser:
        """Sit down: the browser, which need not have started yet, stays until the seat is given up."""
        _bury_orphans()
        with _LOCK:
            _users.setdefault(self._spec, set()).add(self._number)
            if self._spec not in _browsers:
                _browsers[self._spec] = make_browser("chromium", self._spec)
            return _browsers[self._spec]

    def leave(self) -> None:
        """Close the session; the seat stays."""
        session, self._held[0] = self._held[0], None
        if session is not None:
            session.close()

    def give_up(self) -> None:
        """Close the session, and the browser if nobody else uses it; may be called again."""
        self.leave()
        _stand_up(self._spec, self._number)
        _bury_orphans()


def count_users() -> int:
    """Return how many environments of this process hold a browser."""
    _bury_orphans()
    with _LOCK:
        return sum(map(len, _users.values()))


def _stand_up(spec: BrowserSpec, number: int) -> None:
    with _LOCK:
        users = _users.get(spec, set())
        users.discard(number)
        browser = _browsers.pop(spec, None) if not users else None
    if browser is not None:
        browser.close_sync()


def _note_orphan(spec: BrowserSpec, number: int, held: list[SyncBrowserSession | None]) -> None:
    _orphans.append((spec, number, held[0]))


def _bury_orphans() -> None:
    while _orphans:
        spec, number, session = _orphans.popleft()
        if session is not None:
            session.close()
        _stand_up(spec, number)


@atexit.register
def _close_all() -> None:
    with _LOCK:
        browsers = list(_browsers.values())
        _browsers.clear()
        _users.clear()
    for browser in browsers:
        browser.close_sync()
