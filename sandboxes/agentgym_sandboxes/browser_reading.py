"""Reading a page within caps that hold in the browser, before anything comes over."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any
from weakref import WeakKeyDictionary

from playwright.async_api import CDPSession, Error, Page

from agentgym.browser import BrowserLimits, Snapshot, Tab
from agentgym.errors import PageError
from agentgym_sandboxes.browser_thread import within
from agentgym_sandboxes.browser_watch import escape_page, one_line

# The page could have changed what its own world calls String or JSON, but no operator, and not the length of a string.
EVALUATE = """async (argument) => {
  let text;
  try {
    const script = (%(script)s
    );
    const value = typeof script === 'function' ? await script(argument) : await script;
    text = value === undefined ? 'null' : JSON.stringify(value);
    if (typeof text !== 'string') return '!it returned no JSON';
  } catch (error) {
    try { text = `${error}`; } catch { text = 'an error without text'; }
    return text.length > 1000 ? '!an error of more than 1000 characters' : '!' + text;
  }
  return text.length > %(cap)d ? '!it returned more than %(cap)d characters' : '=' + text;
}"""

# What follows runs in a world of ours, in which the page has changed nothing; but an element named "title" or
# "attributes" hides what a document or a form has under that name, so both are asked through their prototypes.
MEASURE = """(() => {
  const attributes = Object.getOwnPropertyDescriptor(Element.prototype, 'attributes').get;
  const show = NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT;
  const walker = Document.prototype.createTreeWalker.call(document, document, show);
  let nodes = 0, chars = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    nodes++;
    if (node instanceof Text) chars += node.length;
    else for (const attribute of attributes.call(node)) chars += attribute.value.length;
    if (node instanceof HTMLInputElement || node instanceof HTMLTextAreaElement) chars += node.value.length;
    if (nodes > %(nodes)d || chars > %(chars)d) return false;
  }
  return true;
})()"""

TEXT = """(() => {
  const walker = Document.prototype.createTreeWalker.call(document, document, NodeFilter.SHOW_TEXT);
  let text = '';
  for (let node = walker.nextNode(); node && text.length < %(cap)d; node = walker.nextNode()) {
    const hidden = node.parentNode instanceof HTMLScriptElement || node.parentNode instanceof HTMLStyleElement;
    const words = hidden ? '' : node.data.slice(0, %(cap)d).trim();
    if (words) text += words + '\\n';
  }
  return text.slice(0, %(cap)d);
})()"""

# The number of a world may be that of a page's own world in the process to which the tab has moved meanwhile, so each
# world of ours knows a word that no page knows.
READ = """(async () => {
  if (globalThis.agentgymWord !== '%(word)s') return '?';
  let text;
  try {
    const value = await (%(script)s
    )(%(argument)s);
    text = value === undefined ? 'null' : JSON.stringify(value);
    if (typeof text !== 'string') return '!it returned no JSON';
  } catch (error) { return `!${error}`.slice(0, 1000); }
  return text.length > %(cap)d ? '!it returned more than %(cap)d characters' : '=' + text;
})()"""
# The wheel is taken by a thread that knows the page as it was last drawn, and moves it in the next frame; what a page
# does when the mouse comes is drawn before. A tab behind others draws nothing.
DRAW_TWICE = """async () => {
  for (let frame = 0; frame < 2; frame++) {
    await Promise.race([new Promise(requestAnimationFrame), new Promise(resolve => setTimeout(resolve, 1000))]);
  }
}"""
AGAIN = ("context", "navigated", "Cannot find", "No frame")  # what Chromium says of a document that is no more
ATTEMPTS = 20

GET = "Object.getOwnPropertyDescriptor(Document.prototype, '%s').get.call(document)"
HTML = f"(() => {{ const root = {GET % 'documentElement'}; return root ? root.outerHTML.slice(0, %(cap)d) : ''; }})()"
TITLE = f"{GET % 'title'}.slice(0, 500)"
TITLE_S = 1.0
MAX_FRAMES = 20  # a tree has those of its frames, too, and MEASURE counts the main frame's nodes only


async def evaluate(page: Page, script: str, argument: Any, limits: BrowserLimits) -> Any:
    """Return what a script returns in the page's world; see :meth:`agentgym.browser.BrowserSession.evaluate`."""
    program = EVALUATE % {"script": script, "cap": limits.observation_bytes}
    text = await page.evaluate(program, argument)
    if not isinstance(text, str) or not text.startswith("="):
        raise PageError(f"the script failed: {one_line(str(text)[1:])}")
    try:
        return json.loads(text[1:])
    except (ValueError, RecursionError):
        raise PageError("the script failed: what it returned can't be read") from None


async def read_snapshot(page: Page, limits: BrowserLimits) -> Snapshot:
    """Return the accessibility tree, or of a page that is too large for that the first of its text."""
    size = {"nodes": limits.observation_nodes, "chars": 4 * limits.observation_bytes}
    small = len(page.frames) <= MAX_FRAMES and await _evaluate_apart(page, MEASURE % size)
    if small:
        text = await page.aria_snapshot(mode="ai", boxes=True)
    else:
        text = await _evaluate_apart(page, TEXT % {"cap": limits.observation_bytes})
    return await _show(page, text, limits, truncated=not small)


async def read_html(page: Page, limits: BrowserLimits) -> Snapshot:
    """Return the document as HTML."""
    text = await _evaluate_apart(page, HTML % {"cap": limits.observation_bytes + 1})
    return await _show(page, text, limits, truncated=False)


async def take_screenshot(page: Page, viewport: tuple[int, int], limits: BrowserLimits, *, full_page: bool) -> bytes:
    """Return a PNG of the viewport, or of the page from its top down to the cap."""
    # Not Playwright's own screenshot: that waits for fonts, and a page can have one that never comes.
    session = await page.context.new_cdp_session(page)
    try:
        arguments: dict[str, Any] = {"format": "png"}
        if full_page:
            width = viewport[0]
            size = (await session.send("Page.getLayoutMetrics"))["cssContentSize"]
            height = max(1, min(int(size["height"]), limits.screenshot_pixels // width))
            arguments["clip"] = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            arguments["captureBeyondViewport"] = True
        return base64.b64decode((await session.send("Page.captureScreenshot", arguments))["data"])
    finally:
        await session.detach()


class Worlds:
    """The worlds apart of one session, kept from one reading to the next: to make one takes longer than to read."""

    def __init__(self) -> None:
        self._word = secrets.token_hex(16)
        self._controls: WeakKeyDictionary[Page, CDPSession] = WeakKeyDictionary()
        self._numbers: WeakKeyDictionary[Page, int] = WeakKeyDictionary()

    async def read(self, page: Page, script: str, argument: Any, limits: BrowserLimits) -> Any:
        """Return what a script returns; see :meth:`agentgym.browser.BrowserSession.read`."""
        settings = {"word": self._word, "script": script, "argument": json.dumps(argument)}
        program = READ % {**settings, "cap": limits.observation_bytes}
        for attempt in range(ATTEMPTS):
            try:
                text = await self._evaluate(page, program)
            except Error as error:
                if attempt == ATTEMPTS - 1 or not any(words in str(error) for words in AGAIN):
                    raise
                text = "?"
            if text != "?":
                break
            self._numbers.pop(page, None)
        if not isinstance(text, str) or not text.startswith("="):
            raise PageError(f"the page could not be read: {one_line(str(text)[1:])}")
        return json.loads(text[1:])

    async def _evaluate(self, page: Page, program: str) -> Any:
        if page not in self._controls:
            self._controls[page] = await page.context.new_cdp_session(page)
        control = self._controls[page]
        if page not in self._numbers:
            frame = (await control.send("Page.getFrameTree"))["frameTree"]["frame"]["id"]
            world = await control.send("Page.createIsolatedWorld", {"frameId": frame, "worldName": "agentgym"})
            self._numbers[page] = world["executionContextId"]
            program = f"globalThis.agentgymWord = '{self._word}'; {program}"
        arguments = {"expression": program, "contextId": self._numbers[page], "returnByValue": True}
        answer = await control.send("Runtime.evaluate", {**arguments, "awaitPromise": True})
        return answer["result"].get("value")


async def describe(page: Page, *, active: bool) -> Tab:
    """Return a tab's address and title; that of a page that hangs is not waited for."""
    try:
        title = one_line(await within(TITLE_S, _evaluate_apart(page, TITLE)))
    except (Error, TimeoutError):
        title = "(does not answer)"
    return Tab(one_line(page.url), title, active)


async def _evaluate_apart(page: Page, script: str) -> Any:
    session = await page.context.new_cdp_session(page)
    try:
        frame = (await session.send("Page.getFrameTree"))["frameTree"]["frame"]["id"]
        world = await session.send("Page.createIsolatedWorld", {"frameId": frame, "worldName": "agentgym"})
        arguments = {"expression": script, "contextId": world["executionContextId"], "returnByValue": True}
        answer = await session.send("Runtime.evaluate", arguments)
    finally:
        await session.detach()
    if "exceptionDetails" in answer:
        raise PageError("the page could not be read")
    return answer["result"].get("value")


async def _show(page: Page, text: str, limits: BrowserLimits, *, truncated: bool) -> Snapshot:
    data = escape_page(text).encode()
    short = data[: limits.observation_bytes].decode(errors="ignore")
    url, title = one_line(page.url), one_line(await _evaluate_apart(page, TITLE))
    return Snapshot(url, title, short, truncated=truncated or len(data) > limits.observation_bytes)
