"""Pages that nobody trusts, in Debian's Chromium, driven by Playwright.

What holds, and by what (``agentgym_sandboxes.browser_probe`` tries most of it on a host):

In a box (bubblewrap and user namespaces, on Linux)
    The network namespace of Chromium has a loopback and nothing else. One socket listens there, and our process serves
    it: the gate (:mod:`agentgym_sandboxes.browser_gate`), which connects to the episode's allowed hosts. So HTTP,
    redirects, WebSocket, beacon, prefetch and anything that JavaScript or an exploited renderer can think of end there;
    WebRTC and DNS find no network at all. Playwright's routes are not used: they see no redirects and no WebRTC.
    Chromium runs as another uid (10001 where we are root), sees ``/usr`` and fonts, read-only, and keeps its own
    sandbox around its renderers (namespaces and seccomp). Profile, cache and shared memory are in memory, capped, and
    go with it. All of its processes are in one PID namespace and end with its first.
Without a box
    The gate, the deadlines and all that Chromium itself refuses hold; ``--host-resolver-rules`` stops DNS, a policy
    stops WebRTC without a proxy. An exploited Chromium reaches the network and every file that its uid can read;
    Chromium's own sandbox is on only where there are user namespaces. ``probe`` and ``ChromiumBrowser.boxed`` say so.
In neither
    An exploit of the kernel; CPU and total memory, but for the replacement of a browser above ``memory_mb`` when the
    next session is opened; what a page sends to an allowed host.

An episode's context has cookies, cache and storage of its own. A page that hangs is replaced, alone; a browser that
dies or does not answer takes its open sessions with it (``SandboxLostError``), and the next ``open`` starts a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from playwright.async_api import Error

from agentgym.browser import Browser, BrowserSpec, check_hosts
from agentgym.errors import SandboxLostError, SandboxUnavailableError
from agentgym.sandbox import Probe
from agentgym_sandboxes.browser_process import ChromiumProcess, find_chromium
from agentgym_sandboxes.browser_session import ChromiumSession
from agentgym_sandboxes.browser_thread import LoopThread, within

OPEN_S = 15.0


class ChromiumBrowser(Browser):
    """See the module.

    Attributes:
        thread: The loop on which the browser lives.
        process: The Chromium that gets the next session.
        boxed: Whether Chromium has a network of its own; ``None`` before the first session.
    """

    name: ClassVar[str] = "chromium"

    def __init__(self, spec: BrowserSpec | None = None) -> None:
        super().__init__(spec)
        self.thread = LoopThread("agentgym-browser")
        self.process: ChromiumProcess | None = None
        self.boxed: bool | None = None
        self._processes: set[ChromiumProcess] = set()
        self._choosing = asyncio.Lock()

    @classmethod
    async def probe(cls) -> Sequence[Probe]:
        """See :meth:`agentgym.browser.Browser.probe`."""
        from agentgym_sandboxes.browser_probe import probe

        return await probe(cls)

    async def open(
        self, allowed_hosts: Sequence[str] | None = None, viewport: tuple[int, int] | None = None
    ) -> ChromiumSession:
        """See :meth:`agentgym.browser.Browser.open`."""
        hosts = self.spec.allowed_hosts if allowed_hosts is None else check_hosts(allowed_hosts)
        size = self.spec.check_viewport(viewport or self.spec.viewport)
        return await self.thread.call(self._open(hosts, size))

    async def close(self) -> None:
        """See :meth:`agentgym.browser.Browser.close`."""
        try:
            await asyncio.shield(self.thread.call(self._end_all()))
        except SandboxLostError:
            return  # it was closed before
        await self.thread.stop()

    async def release(self, process: ChromiumProcess, session: ChromiumSession) -> None:
        """Take a session that has ended off a process, and end a process that nobody needs any more."""
        process.sessions.discard(session)
        if (process.retired or process.dead) and not process.sessions:
            await process.end()
            self._processes.discard(process)

    async def _open(self, hosts: Sequence[str], viewport: tuple[int, int]) -> ChromiumSession:
        for _ in range(2):
            process = await self._choose_process()
            session = ChromiumSession(self, process, viewport)
            process.sessions.add(session)
            process.opened += 1
            try:
                await within(OPEN_S, session.start(hosts))
            except (Error, TimeoutError):
                process.retired = True
                await session.close_here()
            except BaseException:
                await asyncio.shield(session.close_here())
                raise
            else:
                return session
        raise SandboxLostError("the browser could not open a page, twice")

    async def _choose_process(self) -> ChromiumProcess:
        async with self._choosing:
            old, limits = self.process, self.spec.limits
            if old is not None:
                worn = old.retired or old.opened >= limits.contexts_per_browser or old.memory_mb() > limits.memory_mb
                if not worn and await old.is_alive():
                    return old
                self.process, old.retired = None, True
                if not worn:
                    await old.end()  # it hangs or is dead; its sessions learn it from their next call
                if not old.sessions:
                    await old.end()
                    self._processes.discard(old)
            self.process = await self._start_process()
            return self.process

    async def _start_process(self) -> ChromiumProcess:
        limits = self.spec.limits
        find_chromium()
        if self.boxed is None:
            fault = await ChromiumProcess(limits, boxed=True).find_fault()
            if fault and self.spec.require_box:
                raise SandboxUnavailableError(
                    f"no browser outside of a box is wanted, and this host can't make one: {fault}"
                )
            self.boxed = not fault
        for _ in range(2):
            process = ChromiumProcess(limits, boxed=self.boxed)
            try:
                await process.start()
            except (Error, TimeoutError) as error:
                why = error
            else:
                self._processes.add(process)
                return process
        raise SandboxLostError(f"Chromium did not start, twice: {str(why).strip()[:500]}")

    async def _end_all(self) -> None:
        async with self._choosing:
            self.process = None
            for process in list(self._processes):
                await process.end()
            self._processes.clear()
