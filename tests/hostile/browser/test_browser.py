"""Rows 37 to 43 and 53 of the hostile tests: pages that want to stay, to go elsewhere, or to bring the browser down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentgym.browser import BrowserLimits
from agentgym.browser_sync import SyncBrowserSession
from agentgym.errors import PageError, SandboxLostError, SandboxRefusedError
from agentgym.machine import usable_cores

pytest.importorskip("playwright", reason="the extra 'browser' is not installed")
from agentgym_sandboxes.browser import ChromiumBrowser
from agentgym_sandboxes.browser_process import list_tree

pytestmark = pytest.mark.timeout(180)
Make = Callable[..., ChromiumBrowser]
LIMITS = BrowserLimits(action_s=5.0, navigation_s=6.0, close_s=3.0)  # as in conftest.py
SPARE_S = 9.0  # to find out that a page hangs, and to replace it, on a machine that is busy


def kinds(page: SyncBrowserSession) -> list[str]:
    return [event.kind for event in page.take_events()]


def test_row_37_dialogs_are_dismissed_and_recorded(page: SyncBrowserSession, site: Any) -> None:
    site.pages["/stay"] = "<button>press</button><script>onbeforeunload = event => event.preventDefault()</script>"
    page.goto(site.url)
    script = "() => [alert('a\\u202e'), confirm('b'), prompt('c'), print()]"
    assert page.evaluate(script) == [None, False, None, None]
    page.goto(f"{site.url}/stay")
    page.click("button")  # without it Chromium does not let a page ask
    page.goto(site.url)
    assert "hello" in page.snapshot().text
    details = [event.detail for event in page.take_events()]
    assert details == ["alert: a\\u202e", "confirm: b", "prompt: c", "beforeunload: "]


def test_row_37_endless_dialogs_meet_the_deadline(page: SyncBrowserSession, site: Any) -> None:
    with pytest.raises(PageError) as error:
        page.evaluate("() => { while (true) alert(1) }")
    assert error.value.outcome == "timed_out"
    events = page.take_events()
    assert len(events) <= LIMITS.events + 1
    assert page.evaluate("1 + 1") == 2


def test_a_scroll_is_over_when_it_returns_also_on_a_busy_machine(page: SyncBrowserSession, site: Any) -> None:
    site.pages["/"] = "<textarea style='height: 100px'>" + "line\n" * 500 + "</textarea>"
    page.goto(site.url)
    end = page.read("() => { const area = document.querySelector('textarea'); return area.scrollHeight - 100 }")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * usable_cores())]
    try:
        for down, wanted in [(300, 300), (90_000, end), (-200, end - 200), (-90_000, 0)] * 5:
            page.scroll(down, target="textarea")
            assert abs(page.read("() => document.querySelector('textarea').scrollTop") - wanted) <= 10
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_hover_is_felt_by_a_page_that_came_under_the_mouse(page: SyncBrowserSession, site: Any) -> None:
    site.pages["/"] = "<button onmousemove='this.textContent = `felt`'>press</button>"
    for _ in range(2):
        page.goto(site.url)
        page.hover("button")
        assert "felt" in page.snapshot().text


def test_row_38_busy_loop_meets_its_deadline(browser: ChromiumBrowser, page: SyncBrowserSession, site: Any) -> None:
    other = browser.open_sync()
    page.goto(site.url)
    other.goto(site.url)
    with ThreadPoolExecutor() as pool:
        started = time.monotonic()
        hung = pool.submit(page.evaluate, "() => { while (true) {} }")
        answers = 0
        while not hung.done():
            assert other.evaluate("document.title") == "Home"
            answers += 1
        took_s = time.monotonic() - started
    with pytest.raises(PageError, match="not done in 5 s") as error:
        hung.result()
    assert error.value.outcome == "timed_out"
    assert took_s < LIMITS.action_s + SPARE_S
    assert answers > 10
    assert kinds(page) == ["hang"]
    page.goto(site.url)
    assert page.evaluate("document.title") == "Home"


@pytest.mark.parametrize("script", ["while (true) {}", "setTimeout(() => { while (true) {} })"])
def test_row_38_page_that_hangs_while_it_loads_meets_its_deadline(
    page: SyncBrowserSession, site: Any, script: str
) -> None:
    site.pages["/"] = f"<script>{script}</script>"
    started = time.monotonic()
    outcomes = []
    for call in (lambda: page.goto(site.url), page.screenshot):
        try:
            call()
            outcomes.append("ok")
        except PageError as error:
            outcomes.append(error.outcome)
    assert "timed_out" in outcomes
    assert time.monotonic() - started < LIMITS.navigation_s + LIMITS.action_s + SPARE_S
    assert page.evaluate("1") == 1


def test_row_39_popups_are_capped(make: Make, site: Any, wait_for: Any) -> None:
    page = make(action_s=60.0).open_sync()
    site.pages["/many"] = "<button onclick='for (let i = 0; i < 30; i++) window.open(`/?${i}`)'>press</button>"
    page.goto(f"{site.url}/many")
    page.click("button")
    wait_for(lambda: len(page.tabs()) <= LIMITS.tabs)
    events = page.take_events()
    assert {event.kind for event in events} == {"popup"}
    assert len(page.tabs()) + sum("closed" in event.detail for event in events) == 31
    assert [tab.active for tab in page.tabs()].index(True) == 0
    while len(page.tabs()) > 1:
        page.close_tab(1)
    page.goto(site.url)
    assert "hello" in page.snapshot().text


REFUSED = """file:///etc/passwd| file:///etc/passwd|FILE:/etc/passwd|view-source:file:///etc/passwd|chrome://version
chrome://crash|data:text/html,x|javascript:alert(1)|about:config|blob:x|ftp://127.0.0.1/||x|http:\\\\example.com
http://127.0.0.1:1/|http://localhost/|https://example.com|http://[::1|http://a:b:c|http://127.0.0.1:1@example.com/"""


def test_row_40_other_schemes_and_hosts_are_refused(page: SyncBrowserSession, site: Any) -> None:
    page.goto(site.url)
    for url in REFUSED.replace("\n", "|").split("|"):
        with pytest.raises(SandboxRefusedError):
            page.goto(url)
    assert page.tabs()[0].url == f"{site.url}/"
    page.goto("about:blank")


def test_row_40_pages_cannot_go_there_either(page: SyncBrowserSession, site: Any) -> None:
    for url in ("file:///etc/passwd", "chrome://version", "data:text/html,root:", "view-source:file:///etc/passwd"):
        page.goto(site.url)
        page.evaluate("url => { location.href = url }", url)
        page.evaluate("url => { window.open(url); document.body.append(document.createElement('a')) }", url)
        page.evaluate("url => { const a = document.querySelector('a'); a.href = url; a.textContent = 'go' }", url)
        page.click("a")
        time.sleep(0.3)
        assert all(tab.url.startswith((site.url, "about:blank", ":")) or not tab.url for tab in page.tabs())
        for index in range(len(page.tabs())):
            page.select_tab(index)
            assert "root:" not in page.snapshot().text
        while len(page.tabs()) > 1:
            page.close_tab(1)


def test_row_41_crashed_renderer_is_replaced(
    browser: ChromiumBrowser, processes: Any, page: SyncBrowserSession, site: Any
) -> None:
    page.goto(site.url)
    with ThreadPoolExecutor() as pool:
        step = pool.submit(page.evaluate, "() => new Promise(() => {})")
        time.sleep(0.5)
        for pid in processes.pids(b"--type=renderer"):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(PageError, match=r"evaluate: .*crash"):
            step.result()
    assert kinds(page) == ["crash"]
    page.goto(site.url)
    assert "hello" in page.snapshot().text


@pytest.mark.parametrize("who", ["main", "driver"])
def test_row_42_killed_browser_masks_its_episodes_and_is_replaced(
    browser: ChromiumBrowser, processes: Any, site: Any, who: str
) -> None:
    pages = [browser.open_sync() for _ in range(2)]
    old = processes.main
    victim = getattr(processes, who)
    with ThreadPoolExecutor() as pool:
        step = pool.submit(pages[0].evaluate, "() => new Promise(() => {})")
        time.sleep(0.5)
        started = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(SandboxLostError):
            step.result()
    assert time.monotonic() - started < LIMITS.close_s
    with pytest.raises(SandboxLostError):
        pages[1].goto(site.url)
    with browser.open_sync() as page:
        page.goto(site.url)
        assert "hello" in page.snapshot().text
        assert processes.main != old


@pytest.mark.parametrize("who", ["main", "driver"])
def test_row_42_browser_that_stopped_answering_is_replaced(
    browser: ChromiumBrowser, processes: Any, site: Any, who: str
) -> None:
    lost = browser.open_sync()
    os.kill(getattr(processes, who), signal.SIGSTOP)
    started = time.monotonic()
    with browser.open_sync() as page:
        page.goto(site.url)
    with pytest.raises(SandboxLostError):
        lost.evaluate("1")
    assert time.monotonic() - started < 30


def test_row_43_download_never_reaches_the_host(page: SyncBrowserSession, site: Any, wait_for: Any) -> None:
    site.pages["/"] = "<a href='/file' download>get</a>"
    page.goto(site.url)
    page.click("a")
    seen: list[str] = []
    wait_for(lambda: seen.extend(kinds(page)) or "download" in seen)
    with pytest.raises(PageError):
        page.goto(f"{site.url}/file")
    asked = len(site.requests)
    assert asked >= 2
    assert page.tabs()[0].url == f"{site.url}/"


def test_row_43_flood_of_data_is_cut_off(make: Make, site: Any) -> None:
    page = make(traffic_mb=2).open_sync()
    page.goto(site.url)
    script = """async () => {
        const reader = (await fetch('/never')).body.getReader();
        let bytes = 0;
        try { for (;;) bytes += (await reader.read()).value.length; } catch { return bytes; }
    }"""
    assert 1 << 20 < page.evaluate(script) <= 2 << 20
    assert kinds(page) == ["traffic"]
    with pytest.raises(PageError):
        page.goto(f"{site.url}/more")


def test_row_53_close_that_hangs_is_ended_by_pid(browser: ChromiumBrowser, processes: Any, site: Any) -> None:
    page = browser.open_sync()
    page.goto(site.url)
    pids = [*processes.pids(), processes.driver]
    os.kill(processes.main, signal.SIGSTOP)
    started = time.monotonic()
    page.close()
    browser.close_sync()
    assert time.monotonic() - started < 4 * LIMITS.close_s
    assert not [pid for pid in pids if list_tree(pid)]


@pytest.mark.parametrize("who", ["main", "driver"])
def test_row_53_whole_browser_that_hangs_closes(browser: ChromiumBrowser, processes: Any, site: Any, who: str) -> None:
    browser.open_sync().goto(site.url)
    pids = [*processes.pids(), processes.driver]
    os.kill(getattr(processes, who), signal.SIGSTOP)
    started = time.monotonic()
    browser.close_sync()
    assert time.monotonic() - started < 4 * LIMITS.close_s
    assert not [pid for pid in pids if list_tree(pid)]
