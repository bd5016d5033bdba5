"""SWE-ReX's side of benchmarks/sandbox.py: runs in a Python of its own, with nothing but swe-rex.

Reads one request a line, ``{"kind": "local" | "docker", "what": "cold" | "exec" | "reset" | "stop" | "parallel",
"count": …}``, does it, and answers with a line ``{"ms": …}`` or ``{"error": …}``. Times are taken here, so that the
pipe between us costs it nothing.
"""

import asyncio
import json
import logging
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from swerex.deployment.docker import DockerDeployment
from swerex.deployment.local import LocalDeployment
from swerex.runtime.abstract import Command

logging.disable(logging.CRITICAL)
IMAGE = "agentgym-bench/swerex"
held = {}
answers, sys.stdout = sys.stdout, sys.stderr  # its logs go to stdout


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def make(kind: str):
    if kind == "local":
        return LocalDeployment()
    # Where the daemon has no bridge, "-p" publishes nothing: on the host's network, each on a port of its own.
    port = find_port()
    docker_args = ["--network", "host", "--env", f"SWEREX_PORT={port}", "--label", f"agentgym.bench={os.getpid()}"]
    # A start that times out reads the output of a container that still runs, and so never returns: give it long.
    return DockerDeployment(image=IMAGE, pull="never", port=port, docker_args=docker_args, startup_timeout=900)


async def run_true(deployment) -> None:
    response = await deployment.runtime.execute(Command(command=["/bin/true"], timeout=60))
    assert response.exit_code == 0


async def start(kind: str):
    deployment = make(kind)
    await deployment.start()
    await run_true(deployment)
    return deployment


async def serve(kind: str, what: str, count: int) -> None:
    if what == "cold":
        held[kind] = await start(kind)
    elif what == "exec":
        await run_true(held[kind])
    elif what == "reset":  # it has no other way than a new one
        await held.pop(kind).stop()
        held[kind] = await start(kind)
    elif what == "stop":
        await held.pop(kind).stop()
    elif what == "parallel":
        # A loop for each: its start sleeps without await between polls that it gives 0.15 s, so that in one loop two
        # starts keep each other from ever seeing that they are up.
        with ThreadPoolExecutor(count) as pool:
            held["many"] = list(pool.map(lambda _: asyncio.run(start(kind)), range(count)))


async def main() -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        started = time.perf_counter()
        try:
            await serve(request["kind"], request["what"], request.get("count", 0))
            answer = {"ms": (time.perf_counter() - started) * 1000}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        for deployment in held.pop("many", []):
            await deployment.stop()
        print(json.dumps(answer), file=answers, flush=True)
    for deployment in held.values():
        await deployment.stop()


asyncio.run(main())
