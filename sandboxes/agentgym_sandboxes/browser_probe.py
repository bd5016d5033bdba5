"""What a Chromium on this host holds, found by trying."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentgym.browser import BrowserLimits, BrowserSession, BrowserSpec
from agentgym.errors import AgentGymError, PageError, SandboxRefusedError
from agentgym.sandbox import Probe
from agentgym_sandboxes.browser_process import ChromiumProcess, list_tree

if TYPE_CHECKING:
    from agentgym_sandboxes.browser import ChromiumBrowser

LIMITS = BrowserLimits(action_s=5.0, navigation_s=10.0)
PNG = b"\x89PNG\r\n\x1a\n"
# Tries every way out at one port of the host that is not allowed; WebRTC asks it for this browser's address.
ESCAPE = """async (port) => {
  const host = `127.0.0.1:${port}`;
  const link = document.createElement('link');
  link.rel = 'prefetch'; link.href = `http://${host}/prefetch`; document.head.append(link);
  navigator.sendBeacon(`http://${host}/beacon`, 'x');
  const socket = new WebSocket(`ws://${host}/socket`);
  const server = {urls: `turn:${host}?transport=tcp`, username: 'a', credential: 'b'};
  const peer = new RTCPeerConnection({iceServers: [server]});
  peer.createDataChannel('x'); await peer.setLocalDescription(await peer.createOffer());
  await fetch(`http://${host}/fetch`).catch(() => 0);
  await fetch('http://name-to-look-up.example/').catch(() => 0);
  await new Promise(resolve => setTimeout(resolve, 500));
}"""


@dataclass
class Host:
    """Two ports of this host, and the connections that came in on each."""

    allowed: int = 0
    forbidden: int = 0
    calls: int = 0


async def probe(kind: type[ChromiumBrowser]) -> Sequence[Probe]:
    """Try each promise; see :meth:`agentgym.browser.Browser.probe`."""
    async with kind(BrowserSpec(limits=LIMITS)) as browser, _listen() as host:
        started = time.monotonic()
        try:
            page = await browser.open([f"127.0.0.1:{host.allowed}"])
        except AgentGymError as error:
            return [Probe("starts", False, str(error))]
        process = browser.process
        assert process is not None
        found = [
            Probe("starts", True, f"{process.browser.version}, first page after {time.monotonic() - started:.1f} s"),
            Probe(
                "boxed", process.boxed, "a network, PID and mount namespace" if process.boxed else "no bubblewrap here"
            ),
            await _try("renders", _render(page, host)),
            await _try("no host network", _reach_out(page, host, process)),
            await _try("no host files", _read_file(page)),
            _find_root(process),
            await _try("deadline", _hang(page, browser.open)),
        ]
    return [*found, Probe("close", not list_tree(process.pid), "no process is left")]


async def _try(promise: str, trial: Awaitable[tuple[bool, str]]) -> Probe:
    try:
        held, detail = await trial
    except AgentGymError as error:
        held, detail = False, str(error)
    return Probe(promise, held, detail)


async def _render(page: BrowserSession, host: Host) -> tuple[bool, str]:
    await page.goto(f"http://127.0.0.1:{host.allowed}/")
    text, picture = (await page.snapshot()).text, await page.screenshot()
    return "hello" in text and picture.startswith(PNG), f"a page's text, and a PNG of {len(picture)} bytes"


async def _reach_out(page: BrowserSession, host: Host, process: ChromiumProcess) -> tuple[bool, str]:
    await page.evaluate(ESCAPE, host.forbidden)
    own, ours = (os.stat(f"/proc/{pid}/ns/net").st_ino for pid in (_find_chromium(process), os.getpid()))
    place = "in a network of its own" if own != ours else "but in the host's network"
    return host.calls == 0 and own != ours, f"{host.calls} connections came through, Chromium is {place}"


async def _read_file(page: BrowserSession) -> tuple[bool, str]:
    try:
        await page.goto("file:///etc/passwd")
    except SandboxRefusedError as error:
        with contextlib.suppress(PageError):  # Chromium opens no file for a page, so the script may fail
            await page.evaluate("() => { location.href = 'file:///etc/passwd' }")
        return "root" not in (await page.snapshot()).text, str(error)
    return False, "file:///etc/passwd was opened"


def _find_root(process: ChromiumProcess) -> Probe:
    lines = [Path(f"/proc/{pid}/status").read_text().partition("\nUid:")[2].split() for pid in list_tree(process.pid)]
    uids = sorted({int(uid) for line in lines for uid in line[:4]})
    return Probe("no root", bool(uids) and 0 not in uids, f"{len(lines)} processes of uid {', '.join(map(str, uids))}")


async def _hang(page: BrowserSession, open_page: Callable[[], Awaitable[BrowserSession]]) -> tuple[bool, str]:
    other, started = await open_page(), time.monotonic()
    try:
        await page.evaluate("() => { while (true); }")
    except PageError as error:
        took_s, works = time.monotonic() - started, await page.evaluate("1 + 1") == await other.evaluate("1 + 1") == 2
        return (
            works and error.outcome == "timed_out",
            f"a busy loop was ended after {took_s:.1f} s; another page went on",
        )
    return False, "a busy loop returned"


def _find_chromium(process: ChromiumProcess) -> int:
    """Return the pid of Chromium's first process: below bubblewrap, if there is one."""
    for pid in sorted(list_tree(process.pid)):
        name, _, kind = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")
        if b"chrom" in name and b"--type=" not in kind:
            return pid
    return process.pid


@contextlib.asynccontextmanager
async def _listen() -> AsyncIterator[Host]:
    host = Host()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\r\n<p>hello</p>")
        await writer.drain()
        writer.close()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host.calls += 1
        writer.close()

    allowed = await asyncio.start_server(answer, "127.0.0.1", 0)
    forbidden = await asyncio.start_server(count, "127.0.0.1", 0)
    async with allowed, forbidden:
        host.allowed, host.forbidden = (server.sockets[0].getsockname()[1] for server in (allowed, forbidden))
        yield host
