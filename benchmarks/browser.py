"""How long a browser's calls take here: start, session, page, action, reading. Prints a Markdown table.

python benchmarks/browser.py --sessions 50
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable
from typing import TypeVar

from agentgym.browser import make_browser

T = TypeVar("T")
PAGE = b"<title>x</title>" + b"<p>some words <a href=/>and a link</a></p>" * 200 + b"<button>press</button>"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE)
    await writer.drain()
    writer.close()


async def measure(sessions: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = defaultdict(list)

    async def timed(what: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        result = await work
        times[what].append((time.perf_counter() - started) * 1000)
        return result

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, make_browser() as browser:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        first = await timed("browser and first session", browser.open([host]))
        await first.close()
        for _ in range(sessions):
            page = await timed("context and page", browser.open([host]))
            await timed("goto, 20 kB", page.goto(f"http://{host}/"))
            await timed("evaluate", page.evaluate("1 + 1"))
            await timed("click a button", page.click("button"))
            await timed("snapshot, 1000 nodes", page.snapshot())
            await timed("screenshot, 1280×720", page.screenshot())
            await timed("close the session", page.close())
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=50)
    times = asyncio.run(measure(parser.parse_args().sessions))
    print(f"Load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n")
    print("| call | p50, ms | p95, ms | n |\n|---|---:|---:|---:|")
    for what, values in times.items():
        p95 = statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]
        print(f"| {what} | {statistics.median(values):.1f} | {p95:.1f} | {len(values)} |")


if __name__ == "__main__":
    main()
