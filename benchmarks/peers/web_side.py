"""One side of the comparison on MiniWoB: plays the episodes that it is told to on standard input, and times them.

Runs in a venv that has the side's own packages, started by ``benchmarks/web_tasks.py``:

    {"task": "enter-text", "seed": 3, "steps": 3}   ->   {"reset": 12.3, "step": [4.5, 4.4, 4.6]}   (milliseconds)
    {"more": "enter-text"}                          ->   {"envs": 2}     another environment is open beside the first

Each peer gets its quickest setting: the Selenium environment without its wait, BrowserGym without its delays.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from typing import Any

POINT = (150, 8)  # in the task's words, where a click does nothing


class Ours:
    """agentgym/MiniWoB-v0, in one boxed browser for all environments of a process."""

    def __init__(self, task: str, image: bool) -> None:
        from agentgym_web.miniwob.miniwob_env import MiniWoBEnv

        self.task = task
        self.env = MiniWoBEnv(task=task, observation="dom", image=image, max_turns=1000)

    def reset(self, seed: int) -> None:
        self.env.reset(seed=0, options={"task_id": f"{self.task}/train/{seed}"})

    def step(self) -> bool:
        return self.env.step(f"click {POINT[0]},{POINT[1]}")[2]


class Selenium:
    """The package's own environment; its pages are not loaded anew between episodes."""

    def __init__(self, task: str, image: bool) -> None:
        import gymnasium
        import miniwob
        from miniwob.action import ActionTypes

        gymnasium.register_envs(miniwob)
        self.env: Any = gymnasium.make(f"miniwob/{task}-v1", disable_env_checker=True).unwrapped
        self.env.set_record_screenshots(image)
        self.action = lambda: self.env.create_action(ActionTypes.CLICK_COORDS, coords=[float(p) for p in POINT])

    def reset(self, seed: int) -> None:
        self.env.reset(seed=seed)

    def step(self) -> bool:
        return bool(self.env.step(self.action())[2])


class BrowserGym:
    """BrowserGym's; it starts a browser for each episode and always takes DOM, accessibility tree and screenshot."""

    def __init__(self, task: str, image: bool) -> None:
        import browsergym.miniwob  # noqa: F401  it registers
        import gymnasium
        from playwright.sync_api import BrowserType

        if not hasattr(BrowserType, "plain_launch"):
            BrowserType.plain_launch = BrowserType.launch
            BrowserType.launch = self._launch
        self.env: Any = gymnasium.make(
            f"browsergym/miniwob.{task}", pre_observation_delay=0.0, slow_mo=0, timeout=60_000, disable_env_checker=True
        )

    @staticmethod
    def _launch(browser_type: Any, args: tuple[str, ...] = (), **given: Any) -> Any:
        chromium = os.environ["MINIWOB_CHROME_BINARY"]
        return browser_type.plain_launch(executable_path=chromium, args=[*args, "--no-sandbox"], **given)

    def reset(self, seed: int) -> None:
        self.env.reset(seed=seed)

    def step(self) -> bool:
        return bool(self.env.step(f"mouse_click({POINT[0]}, {POINT[1]})")[2])


SIDES = {"agentgym": Ours, "selenium": Selenium, "browsergym": BrowserGym}


def play(side: Any, seed: int, steps: int) -> dict[str, Any]:
    """Time a reset and some steps, none of which ends the episode."""
    times = [time.perf_counter()]
    side.reset(seed)
    times.append(time.perf_counter())
    for _ in range(steps):
        if side.step():
            raise RuntimeError("the click ended the episode, so that the sides did not do the same")
        times.append(time.perf_counter())
    spans = [(end - start) * 1000 for start, end in itertools.pairwise(times)]
    return {"reset": spans[0], "step": spans[1:]}


def main() -> None:
    """Answer on standard output, which engines may not write to."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    make, image = SIDES[sys.argv[1]], "--image" in sys.argv
    sides: dict[str, Any] = {}
    kept: list[Any] = []
    for line in sys.stdin:
        wish = json.loads(line)
        if "more" in wish:
            kept.append(make(wish["more"], image))
            kept[-1].reset(0)
            answer: dict[str, Any] = {"envs": len(kept)}
        else:
            if wish["task"] not in sides:
                for old in sides.values():
                    old.env.close()
                sides = {wish["task"]: make(wish["task"], image)}
            answer = play(sides[wish["task"]], wish["seed"], wish["steps"])
        print(json.dumps(answer), file=answers, flush=True)
    for side in (*sides.values(), *kept):
        side.env.close()


if __name__ == "__main__":
    main()
