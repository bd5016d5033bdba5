"""Reset and step of MiniWoB tasks beside the package's own Selenium environment and BrowserGym, in one run.

Each is a process of its own, one after the other; an observation is the page's tree or DOM, with ``--image`` the
screenshot, too. The peers need venvs of their own: ``miniwob`` with Debian's chromium-driver, named by
``MINIWOB_CHROME_BINARY`` and ``MINIWOB_CHROMEDRIVER``, and ``browsergym-miniwob``.

    python benchmarks/web_tasks.py --episodes 30 --selenium VENV/bin/python --browsergym VENV/bin/python
    python benchmarks/web_tasks.py --experts 20       # the experts' table instead
    python benchmarks/web_tasks.py --digests 2        # every task twice, and in another process
    python benchmarks/web_tasks.py --memory 8         # PSS of one environment and of each further one
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

TASKS = ("click-test-2", "enter-text", "click-checkboxes")
Times = dict[str, list[float]]


def time_ours(episodes: int, steps: int, image: bool) -> Times:
    from agentgym_web.miniwob.miniwob_env import MiniWoBEnv

    env = MiniWoBEnv(task=TASKS, image=image, max_turns=1000)
    times: Times = {"reset": [], "step": []}
    for name in TASKS:
        env.reset(seed=0, options={"task_id": f"{name}/train/0"})  # the first one starts the browser
        for number in range(episodes):
            timed(times, "reset", partial(env.reset, seed=0, options={"task_id": f"{name}/train/{number}"}))
            for _ in range(steps):
                timed(times, "step", partial(env.step, "click 5,200"))
    env.close()
    return times


def time_selenium(episodes: int, steps: int, image: bool) -> Times:
    import gymnasium
    import miniwob
    from miniwob.action import ActionTypes

    times: Times = {"reset": [], "step": []}
    for name in TASKS:
        env: Any = gymnasium.make(f"miniwob/{name}-v1", disable_env_checker=True).unwrapped
        assert miniwob.__version__ == "1.1.0"
        env.set_record_screenshots(image)
        env.reset(seed=0)
        for number in range(episodes):
            timed(times, "reset", partial(env.reset, seed=number))
            for _ in range(steps):
                action = env.create_action(ActionTypes.CLICK_COORDS, coords=[5.0, 200.0])
                timed(times, "step", partial(env.step, action))
        env.close()
    return times


def time_browsergym(episodes: int, steps: int, image: bool) -> Times:
    import browsergym.miniwob  # noqa: F401  it registers
    import gymnasium

    times: Times = {"reset": [], "step": []}
    for name in TASKS:
        env: Any = gymnasium.make(f"browsergym/miniwob.{name}", pre_observation_delay=0.0)
        for number in range(max(2, episodes // 10)):  # it starts a browser for each
            timed(times, "reset", partial(env.reset, seed=number))
            for _ in range(steps):
                timed(times, "step", partial(env.step, "mouse_click(5, 200)"))
        env.close()
    return times


def timed(times: Times, what: str, work: Any) -> None:
    started = time.perf_counter()
    work()
    times[what].append((time.perf_counter() - started) * 1000)


RUNS = {"ours": time_ours, "selenium": time_selenium, "browsergym": time_browsergym}


def compare(args: argparse.Namespace) -> None:
    pythons = {"ours": sys.executable, "selenium": args.selenium, "browsergym": args.browsergym}
    print("| | reset p50, ms | p95 | step p50, ms | p95 | resets, steps |\n|---|---:|---:|---:|---:|---:|")
    for name, python in pythons.items():
        if not python:
            continue
        command = [python, __file__, "--one", name, "--episodes", str(args.episodes), "--steps", str(args.steps)]
        done = subprocess.run([*command, *(["--image"] if args.image else [])], capture_output=True, text=True)
        if done.returncode:
            print(f"| {name} | failed: {done.stderr.strip().splitlines()[-1][:200]} |")
            continue
        times: Times = json.loads(done.stdout.strip().splitlines()[-1])
        cells = [f"{value:.1f}" for what in times for value in (statistics.median(times[what]), p95(times[what]))]
        print(f"| {name} | {' | '.join(cells)} | {len(times['reset'])}, {len(times['step'])} |", flush=True)


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def play_experts(episodes: int) -> None:
    from agentgym_web.miniwob.experts import EXPERTS
    from agentgym_web.miniwob.miniwob_env import MiniWoBEnv

    good = 0
    print("| task | mean return | turns | episodes | not won |\n|---|---:|---:|---:|---|")
    for name in sorted(EXPERTS):
        env = MiniWoBEnv(task=name)
        tasks = env.task_set("train")[:episodes]
        results = [task.validate() for task in tasks]
        mean = statistics.mean(result.episode_return for result in results)
        turns = statistics.mean(result.turns for result in results)
        good += mean >= 0.95
        lost = ", ".join(task.id.rpartition("/")[2] for task, r in zip(tasks, results, strict=True) if not r.solved)
        print(f"| {name} | {mean:.3f} | {turns:.1f} | {episodes} | {lost} |", flush=True)
        env.close()
    print(f"\n{good} of {len(EXPERTS)} tasks with a mean return of 0.95 or more.")


def compare_digests(number: int) -> None:
    from agentgym_web.miniwob.catalogue import TASKS as ALL
    from agentgym_web.miniwob.digests import digest_tasks

    first, again = digest_tasks(ALL, number), digest_tasks(ALL, number)
    imports = "import json; from agentgym_web.miniwob import catalogue as c, digests as d"
    call = f"{imports}; print(json.dumps(d.digest_tasks(c.TASKS, {number})))"
    environment = {**os.environ, "PYTHONHASHSEED": "4242"}
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, env=environment, check=True)
    there = json.loads(done.stdout.strip().splitlines()[-1])
    differing = [name for name in ALL if not first[name] == again[name] == there[name]]
    print(f"{len(ALL) - len(differing)} of {len(ALL)} tasks the same, twice here and once in another process")
    print("differing:", ", ".join(differing) or "none")


def measure_memory(count: int) -> None:
    from agentgym_sandboxes.browser_process import list_tree
    from agentgym_web.miniwob.miniwob_env import MiniWoBEnv

    envs, sizes = [], []
    for _ in range(count):
        env = MiniWoBEnv(task=TASKS)
        env.reset(seed=0)
        envs.append(env)
        tree = list_tree(os.getpid())
        sizes.append(sum(pss_kb(pid) for pid in tree) / 1024)
    print(f"PSS of all processes: {sizes[0]:.0f} MB with one environment, {sizes[-1]:.0f} MB with {count}: "
          f"{(sizes[-1] - sizes[0]) / max(1, count - 1):.0f} MB for each further one")  # fmt: skip
    for env in envs:
        env.close()


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
    parser.add_argument("--digests", type=int, metavar="NUMBER")
    parser.add_argument("--memory", type=int, metavar="ENVIRONMENTS")
    parser.add_argument("--one", choices=RUNS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(RUNS[args.one](args.episodes, args.steps, args.image)))
    elif args.experts:
        play_experts(args.experts)
    elif args.digests is not None:
        compare_digests(args.digests)
    elif args.memory:
        measure_memory(args.memory)
    else:
        print(f"Load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n")
        compare(args)


if __name__ == "__main__":
    main()
