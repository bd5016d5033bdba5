"""Reset and step of MiniWoB tasks beside the package's own Selenium environment and BrowserGym, in one run.

The sides are processes of their own and take turns, episode by episode (``peers/web_side.py``); an observation is the
page's DOM, with ``--image`` the screenshot, too. The peers need venvs of their own, with ``miniwob`` and
``browsergym-miniwob``, and Debian's chromium and chromium-driver.

    python benchmarks/web_tasks.py --episodes 30 --selenium VENV/bin/python --browsergym VENV/bin/python
    python benchmarks/web_tasks.py --experts 20       # the experts' table instead
    python benchmarks/web_tasks.py --digests 2        # every task twice, and in another process
    python benchmarks/web_tasks.py --memory 8 …       # PSS of each side's environments, with the peers as above
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TASKS = ("click-test-2", "enter-text", "click-checkboxes")
SIDE = Path(__file__).parent / "peers" / "web_side.py"


class Side:
    """One side in a process of its own, told what to do line by line."""

    def __init__(self, name: str, python: str, image: bool) -> None:
        from agentgym_web.miniwob.pages import find_html

        self.name = name
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        environment = {
            **os.environ,
            "MINIWOB_URL": f"{(find_html() / 'miniwob').as_uri()}/",
            "MINIWOB_CHROME_BINARY": chromium or "",
            "MINIWOB_CHROMEDRIVER": driver or "",
        }
        command = [python, str(SIDE), name, *(["--image"] if image else [])]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **wish: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(wish), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} failed: {self.process.communicate()[1].strip()[-1000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def pss_mb(self) -> float:
        from agentgym_sandboxes.browser_process import list_tree

        return sum(pss_kb(pid) for pid in list_tree(self.process.pid)) / 1024

    def close(self) -> None:
        self.process.communicate(timeout=60)


def open_sides(args: argparse.Namespace) -> list[Side]:
    pythons = {"agentgym": sys.executable, "selenium": args.selenium, "browsergym": args.browsergym}
    return [Side(name, python, args.image) for name, python in pythons.items() if python]


def compare(args: argparse.Namespace) -> None:
    sides = open_sides(args)
    times: dict[str, dict[str, list[float]]] = {side.name: {"reset": [], "step": []} for side in sides}
    for task in TASKS:
        for seed in range(args.episodes + 1):
            turn = seed % len(sides)
            for side in (*sides[turn:], *sides[:turn]):
                answer = side.ask(task=task, seed=seed, steps=args.steps)
                if seed:  # the first one starts the browser
                    times[side.name]["reset"].append(answer["reset"])
                    times[side.name]["step"] += answer["step"]
    print("| | reset p50, ms | p95 | step p50, ms | p95 | resets, steps |\n|---|---:|---:|---:|---:|---:|")
    for name, spans in times.items():
        cells = [f"{value:.1f}" for what in spans for value in (statistics.median(spans[what]), p95(spans[what]))]
        print(f"| {name} | {' | '.join(cells)} | {len(spans['reset'])}, {len(spans['step'])} |")
    for side in sides:
        side.close()


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def play_experts(episodes: int, names: Sequence[str]) -> None:
    from agentgym_web.miniwob.experts import EXPERTS
    from agentgym_web.miniwob.miniwob_env import MiniWoBEnv

    good = 0
    print("| task | mean return | turns | episodes | not won |\n|---|---:|---:|---:|---|")
    for name in names or sorted(EXPERTS):
        env = MiniWoBEnv(task=name)
        tasks = env.task_set("train")[:episodes]
        results = [task.validate() for task in tasks]
        mean = statistics.mean(result.episode_return for result in results)
        turns = statistics.mean(result.turns for result in results)
        good += mean >= 0.95
        lost = ", ".join(task.id.rpartition("/")[2] for task, r in zip(tasks, results, strict=True) if not r.solved)
        print(f"| {name} | {mean:.3f} | {turns:.1f} | {episodes} | {lost} |", flush=True)
        env.close()
    print(f"\n{good} of {len(names or EXPERTS)} tasks with a mean return of 0.95 or more.")


def compare_digests(number: int, image: bool) -> None:
    from agentgym_web.miniwob.catalogue import TASKS as ALL
    from agentgym_web.miniwob.digests import digest_tasks

    first, again = digest_tasks(ALL, number, image=image), digest_tasks(ALL, number, image=image)
    imports = "import json; from agentgym_web.miniwob import catalogue as c, digests as d"
    call = f"{imports}; print(json.dumps(d.digest_tasks(c.TASKS, {number}, image={image})))"
    environment = {**os.environ, "PYTHONHASHSEED": "4242"}
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, env=environment, check=True)
    there = json.loads(done.stdout.strip().splitlines()[-1])
    differing = [name for name in ALL if not first[name] == again[name] == there[name]]
    print(f"{len(ALL) - len(differing)} of {len(ALL)} tasks the same, twice here and once in another process")
    print("differing:", ", ".join(differing) or "none")


def measure_memory(args: argparse.Namespace) -> None:
    print(f"| | MB with one environment | with {args.memory} | for each further one |\n|---|---:|---:|---:|")
    for side in open_sides(args):
        sizes = []
        for number in range(args.memory):
            side.ask(more=TASKS[number % len(TASKS)])
            sizes.append(side.pss_mb())
        further = (sizes[-1] - sizes[0]) / max(1, args.memory - 1)
        print(f"| {side.name} | {sizes[0]:.0f} | {sizes[-1]:.0f} | {further:.0f} |", flush=True)
        side.close()


def pss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=30, help="of each task")
    parser.add_argument("--steps", type=int, default=3, help="of each episode")
    parser.add_argument("--image", action="store_true")
    parser.add_argument("--selenium", default="", metavar="PYTHON")
    parser.add_argument("--browsergym", default="", metavar="PYTHON")
    parser.add_argument("--experts", type=int, metavar="EPISODES")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="of --experts; all by default")
    parser.add_argument("--digests", type=int, metavar="NUMBER")
    parser.add_argument("--memory", type=int, metavar="ENVIRONMENTS")
    args = parser.parse_args()
    if args.experts:
        play_experts(args.experts, args.tasks)
    elif args.digests is not None:
        compare_digests(args.digests, args.image)
    elif args.memory:
        measure_memory(args)
    else:
        print(f"Load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n")
        compare(args)


if __name__ == "__main__":
    main()
