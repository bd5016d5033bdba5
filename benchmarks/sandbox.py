"""Our sandboxes beside SWE-ReX and plain ``docker run``: start, command, reset, pool, many at once.

    python benchmarks/sandbox.py              # about ten minutes
    python benchmarks/sandbox.py --quick      # about two
    python benchmarks/sandbox.py --only bwrap --rounds 1 --parallel 1

Prints Markdown tables. All sides take turns, so what else the machine does slows all of them. Needs root or a docker
daemon, bubblewrap, the images agentgym/base and agentgym/swe (docker/build.sh), and PyPI for SWE-ReX, which gets an
environment (``--swerex-venv``) and an image of its own; what of it cannot be made is said, and has no column.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from abc import ABC, abstractmethod
from collections import defaultdict
from pathlib import Path
from typing import Any

from agentgym.sandbox import Limits, Sandbox, SandboxSpec
from agentgym.sandbox_choice import make_sandbox
from agentgym_sandboxes.pool import WarmPool

PEER = Path(__file__).parent / "peers" / "swerex_boxes.py"
PEER_IMAGE, PEER_BASE = "agentgym-bench/swerex", "agentgym/swe"
PEER_PACKAGES = ("swe-rex==1.4.0", "aiohttp")  # it imports aiohttp and does not ask for it
ANSWER_S = 600.0
PAUSE_S = 2.0  # an episode is longer
MANY_SPEC = SandboxSpec(limits=Limits(cpus=1, memory_mb=256, workspace_mb=64, tmp_mb=64))
# Its server listens where docker_args say, since it cannot be told so by the deployment.
DOCKERFILE = f"""
FROM {PEER_BASE}
USER root
COPY wheels /wheels
RUN python3 -m pip install --no-index --find-links /wheels --break-system-packages swe-rex aiohttp \\
 && mv "$(command -v swerex-remote)" /usr/local/bin/swerex-remote-real
COPY swerex-remote /usr/local/bin/swerex-remote
"""


class Side(ABC):
    """What is measured; each method returns milliseconds."""

    name: str
    parallel: bool = True

    @abstractmethod
    async def cold(self) -> float:
        """Start one box and run ``true``; it stays."""

    @abstractmethod
    async def exec(self) -> float:
        """Run ``true`` in it."""

    @abstractmethod
    async def reset(self) -> float:
        """Bring back its initial state and run ``true``."""

    @abstractmethod
    async def stop(self) -> float:
        """Remove it."""

    @abstractmethod
    async def many(self, count: int) -> float:
        """Start so many at once, and run ``true`` in each; then remove them, which is not counted."""


class OurSide(Side):
    """A sandbox of ours."""

    def __init__(self, kind: str) -> None:
        self.name, self._kind = f"agentgym {kind}", kind
        self._box: Sandbox = make_sandbox(kind)

    async def cold(self) -> float:
        started = time.perf_counter()
        self._box = make_sandbox(self._kind)
        await self._box.start()
        await run_true(self._box)
        return since(started)

    async def exec(self) -> float:
        started = time.perf_counter()
        await run_true(self._box)
        return since(started)

    async def reset(self) -> float:
        started = time.perf_counter()
        await self._box.reset()
        await run_true(self._box)
        return since(started)

    async def stop(self) -> float:
        started = time.perf_counter()
        await self._box.close()
        return since(started)

    async def many(self, count: int) -> float:
        boxes = [make_sandbox(self._kind, MANY_SPEC) for _ in range(count)]

        async def use(box: Sandbox) -> None:
            await box.start()
            await run_true(box)

        started = time.perf_counter()
        try:
            await asyncio.gather(*map(use, boxes))
            return since(started)
        finally:
            await asyncio.gather(*(box.close() for box in boxes))


class DockerRun(Side):
    """The command line of docker: ``run --detach`` for a box, ``exec`` for a command."""

    name = "docker run"
    _options = ("--pull", "never", "--network", "none", "--detach", "agentgym/base", "sleep", "600")

    async def cold(self) -> float:
        started = time.perf_counter()
        self._id = (await call("docker", "run", *self._options)).strip()
        await call("docker", "exec", self._id, "/bin/true")
        return since(started)

    async def exec(self) -> float:
        started = time.perf_counter()
        await call("docker", "exec", self._id, "/bin/true")
        return since(started)

    async def reset(self) -> float:
        started = time.perf_counter()
        await self.stop()
        await self.cold()
        return since(started)

    async def stop(self) -> float:
        started = time.perf_counter()
        await call("docker", "rm", "--force", self._id)
        return since(started)

    async def many(self, count: int) -> float:
        sides = [DockerRun() for _ in range(count)]
        started = time.perf_counter()
        try:
            await asyncio.gather(*(side.cold() for side in sides))
            return since(started)
        finally:
            await asyncio.gather(*(side.stop() for side in sides))


class PeerSide(Side):
    """SWE-ReX, in a process of its own."""

    def __init__(self, kind: str, process: asyncio.subprocess.Process) -> None:
        self.name, self._kind, self._process = f"SWE-ReX {kind}", kind, process
        self.parallel = kind == "docker"  # its local deployment is no box; many of it are the same process

    async def ask(self, what: str, **more: Any) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"kind": self._kind, "what": what, **more}).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(self._process.stdout.readline(), ANSWER_S))
        if "error" in answer:
            raise RuntimeError(f"{what}: {answer['error']}")
        return float(answer["ms"])

    async def cold(self) -> float:
        return await self.ask("cold")

    async def exec(self) -> float:
        return await self.ask("exec")

    async def reset(self) -> float:
        return await self.ask("reset")

    async def stop(self) -> float:
        return await self.ask("stop")

    async def many(self, count: int) -> float:
        return await self.ask("parallel", count=count)


def since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


async def run_true(box: Sandbox) -> None:
    result = await box.exec(["/bin/true"], timeout_s=60)
    assert result.outcome == "ok", result


async def call(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, f"{argv}: {stderr.decode()}"
    return stdout.decode()


def run_quietly(*argv: str | Path) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv}: {done.stderr[-500:]}")


def make_peer_python(place: Path) -> Path:
    """Make the environment of SWE-ReX, unless it is there."""
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
        run_quietly(python, "-m", "pip", "install", *PEER_PACKAGES)
    return python


def make_peer_image(python: Path) -> None:
    """Make an image with SWE-ReX in it, unless it is there: its own way, pipx in the container, needs a network."""
    if subprocess.run(["docker", "image", "inspect", PEER_IMAGE], capture_output=True, check=False).returncode == 0:
        return
    ask = ["docker", "run", "--rm", "--pull", "never", "--network", "none", PEER_BASE, "python3", "-V"]
    version = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()[1].rpartition(".")[0]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(DOCKERFILE)
        start = Path(folder) / "swerex-remote"
        start.write_text('#!/bin/sh\nexec swerex-remote-real --host 127.0.0.1 --port "$SWEREX_PORT" "$@"\n')
        start.chmod(0o755)
        pick = ["--only-binary", ":all:", "--python-version", version, "--dest", f"{folder}/wheels"]
        run_quietly(python, "-m", "pip", "download", *pick, *PEER_PACKAGES)
        run_quietly("docker", "build", "--network", "none", "--tag", PEER_IMAGE, folder)


async def find_sides(
    place: Path, problems: list[str], *, ours: list[str], peers: bool
) -> tuple[list[Side], asyncio.subprocess.Process | None]:
    sides: list[Side] = []
    for kind in ours:
        side: Side = OurSide(kind)
        await keep_if_it_works(side, sides, problems)
    if not peers:
        return sides, None
    await keep_if_it_works(DockerRun(), sides, problems)
    try:
        python = await asyncio.to_thread(make_peer_python, place)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        problems.append(f"SWE-ReX could not be installed: {error}")
        return sides, None
    peer = await asyncio.create_subprocess_exec(
        python, PEER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    await keep_if_it_works(PeerSide("local", peer), sides, problems)
    try:
        await asyncio.to_thread(make_peer_image, python)
        await keep_if_it_works(PeerSide("docker", peer), sides, problems)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        problems.append(f"an image with SWE-ReX could not be made: {error}")
    return sides, peer


async def keep_if_it_works(side: Side, sides: list[Side], problems: list[str]) -> None:
    try:
        await side.cold()
        await side.stop()
    except Exception as error:
        problems.append(f"{side.name}: {type(error).__name__} {error}")
    else:
        sides.append(side)


Times = dict[str, dict[str, list[float]]]


async def measure(sides: list[Side], rounds: int, commands: int, count: int, problems: list[str]) -> Times:
    times: Times = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for side in sides:
            times["cold start"][side.name].append(await side.cold())
            times["reset"][side.name].append(await side.reset())
            times["stop"][side.name].append(await side.stop())
    for side in sides:
        await side.cold()
    for _ in range(commands):
        started = time.perf_counter()
        await call("/bin/true")
        times["exec"]["plain spawn"].append(since(started))
        for side in sides:
            times["exec"][side.name].append(await side.exec())
    for side in sides:
        await side.stop()
    for kind in ("bwrap", "docker"):
        if f"agentgym {kind}" in times["exec"]:
            times["warm checkout"][f"agentgym {kind}"] = await measure_pool(kind, 4 * rounds)
    for side in sides:
        if isinstance(side, OurSide):
            times["reset after a pause"][side.name] = await measure_resets(side, rounds)
    for side in sides:
        if side.parallel:
            try:
                times[f"{count} boxes at once"][side.name].append(await side.many(count))
            except Exception as error:
                problems.append(f"{count} at once, {side.name}: {type(error).__name__} {error}")
    return times


async def measure_resets(side: Side, rounds: int) -> list[float]:
    """Reset one box again and again, with a pause in which the next container is made, as in an episode."""
    taken = []
    await side.cold()
    await side.reset()
    for _ in range(rounds):
        await asyncio.sleep(PAUSE_S)
        taken.append(await side.reset())
    await side.stop()
    return taken


async def measure_pool(kind: str, count: int) -> list[float]:
    """Take boxes as an environment would, with a pause in which the pool renews what came back."""
    taken = []
    async with WarmPool(lambda: make_sandbox(kind), size=2) as pool:
        for _ in range(count):
            await asyncio.sleep(PAUSE_S)
            started = time.perf_counter()
            async with pool.checkout():
                taken.append(since(started))
    return taken


def print_tables(times: Times, names: list[str], base: str) -> None:
    print("\n| milliseconds, p50 / p95 | " + " | ".join(names) + " |\n|---|" + "---:|" * len(names))
    for what, row in times.items():
        cells = [f"{at(row[name], 50):.1f} / {at(row[name], 95):.1f}" if row.get(name) else "" for name in names]
        print(f"| {what} | {' | '.join(cells)} |")
    print(f"\n| p50 / p50 of {base} | " + " | ".join(names) + " |\n|---|" + "---:|" * len(names))
    for what, row in times.items():
        if row.get(base):
            cells = [f"{at(row[name], 50) / at(row[base], 50):.3f}" if row.get(name) else "" for name in names]
            print(f"| {what} | {' | '.join(cells)} |")


def at(values: list[float], percent: int) -> float:
    """Return a percentile; of one value, that."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


async def end_peer(peer: asyncio.subprocess.Process) -> None:
    """End SWE-ReX, and what it has left behind."""
    assert peer.stdin is not None
    peer.stdin.close()
    try:
        await asyncio.wait_for(peer.wait(), 60)
    except TimeoutError:
        peer.kill()
        await peer.wait()
    left = (await call("docker", "ps", "--all", "--quiet", "--filter", f"label=agentgym.bench={peer.pid}")).split()
    if left:
        await call("docker", "rm", "--force", *left)


async def run(options: argparse.Namespace) -> None:
    rounds, commands, count = (3, 20, 10) if options.quick else (options.rounds, options.commands, options.parallel)
    problems: list[str] = []
    ours, peers = ([options.only], False) if options.only else (["bwrap", "docker"], True)
    sides, peer = await find_sides(options.swerex_venv, problems, ours=ours, peers=peers)
    try:
        times = await measure(sides, rounds, commands, count, problems)
    finally:
        if peer is not None:
            await end_peer(peer)
    names = ["plain spawn", *(side.name for side in sides)]
    base = "SWE-ReX docker" if "SWE-ReX docker" in names else "docker run"
    print_tables(times, names, base)
    pairs = zip(times["exec"].get("agentgym bwrap", []), times["exec"].get("plain spawn", []), strict=False)
    if overhead := [ours - plain for ours, plain in pairs]:
        print(f"\nbwrap's exec over a plain spawn: {at(overhead, 50):.1f} / {at(overhead, 95):.1f} ms")
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{rounds} starts and {commands} commands on each side, in turns; {os.cpu_count()} cores, load {load}.")
    print("\n".join(f"Failed: {problem}" for problem in problems))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 starts, 20 commands, 10 at once")
    parser.add_argument("--only", choices=["bwrap", "docker"], help="this kind, beside nothing but a plain spawn")
    parser.add_argument("--rounds", type=int, default=20, help="starts of each side")
    parser.add_argument("--commands", type=int, default=100, help="commands of each side")
    parser.add_argument("--parallel", type=int, default=50, help="boxes at once")
    parser.add_argument("--swerex-venv", type=Path, default=Path(tempfile.gettempdir()) / "agentgym-bench-swerex")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
