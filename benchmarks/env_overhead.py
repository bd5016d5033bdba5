"""What our layer adds to a step: over two engines, and over a world that does nothing, beside three other libraries.

Prints two Markdown tables. All sides of a table take turns, step by step or episode by episode, so what else the
machine does slows all alike. Another library is played by an interpreter that has it; it is left out if there is none.

    python benchmarks/env_overhead.py --peer gem=PYTHON --peer textarena=PYTHON --peer skyrl-gym=PYTHON
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import textworld
from textworld_engine import INFOS, record_commands

import agentgym
from agentgym_household.alfred import engine as alfred
from agentgym_household.alfred.compiled import GameCache
from agentgym_household.alfred.generate import draw_recipe, generate_game
from agentgym_household.textworld_env import TextWorldEnv
from agentgym_household.tw.options import CHALLENGES

Step = Callable[[str], Any]
ECHO = Path(__file__).parent / "peers" / "echo.py"
#: What to install for each other library, its module, and the sides of ``peers/echo.py`` that play it.
PEERS = {
    "gem": ("gem-llm==0.1.0", "gem", ("gem",)),
    "textarena": ("textarena==0.7.4", "textarena", ("textarena", "textarena+wrappers")),
    "skyrl-gym": ("skyrl-gym==0.4.0", "skyrl_gym", ("skyrl-gym",)),
}


@dataclass
class Times:
    """Nanoseconds of the same steps on the engine alone and under our layer."""

    raw: list[int] = field(default_factory=list)
    ours: list[int] = field(default_factory=list)

    def play(self, raw: Step, ours: Step, commands: Sequence[str], first: int) -> None:
        """Time both sides at each command; which one goes first alternates."""
        sides = [(raw, self.raw), (ours, self.ours)]
        gc.collect()  # what others left
        for turn, command in enumerate(commands):
            for step, times in sides if (turn + first) % 2 else sides[::-1]:
                before = time.perf_counter_ns()
                step(command)
                times.append(time.perf_counter_ns() - before)

    def row(self, name: str) -> str:
        """Return a row of the table; what is added is the difference at the same step."""
        added = np.subtract(self.ours, self.raw)
        middle, mean = np.median(added) / np.median(self.raw), added.mean() / np.mean(self.raw)
        sides = f"{describe(self.raw)} | {describe(self.ours)}"
        return f"| {name} | {len(self.raw)} | {sides} | {np.median(added) / 1e3:.0f} | {middle:+.1%} | {mean:+.1%} |"


def describe(times: Sequence[int], digits: int = 0) -> str:
    """Return median and 95th percentile in microseconds."""
    middle, high = (value / 1e3 for value in np.percentile(times, (50, 95)))
    return f"{middle:.{digits}f} ({high:.{digits}f})"


def time_textworld(challenge: str, games: int, steps: int, rounds: int) -> Times:
    """Time raw textworld and ``agentgym/TextWorld-v0``."""
    kwargs = {"challenge": challenge, "max_turns": 10_000, "tasks_per_split": games}
    env = agentgym.make("agentgym/TextWorld-v0", **kwargs)
    world = env.unwrapped
    assert isinstance(world, TextWorldEnv)
    world.prepare("train", progress=False)
    times = Times()
    for task in world.task_set("train"):
        commands = record_commands(world, task.id, steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies
            raw = textworld.start(str(world.find_story(task)), textworld.EnvInfos(**INFOS))
        for number in range(rounds):
            raw.reset()
            env.reset(options={"task_id": task.id})
            times.play(raw.step, env.step, commands, number)
        raw.close()
    env.close()
    return times


def time_household(games: int, steps: int, rounds: int) -> dict[str, Times]:
    """Time the memoised ALFWorld engine and ``agentgym/Household-v0``: on first visits, and where both have been.

    Each side has a memory of its own, empty at the first visit. On the way that both have been, our layer leaves the
    engine where it is; what it then costs to leave that way is timed too.
    """
    env = agentgym.make("agentgym/Household-v0", data_dir="generated", max_turns=10_000)
    raw = alfred.MemoPddlEnv()
    visits = {"first visit": Times(), "states seen before": Times(), "half the way seen before": Times()}
    for task in env.unwrapped.task_set("train")[:games]:
        commands = record_commands(env.unwrapped, task.id, steps)
        ways = (commands, commands, branch_off(env.unwrapped, task.id, commands))
        game = generate_game(draw_recipe("train", task.data["index"]))
        for number in range(rounds):
            alfred.GAMES = GameCache()
            raw.load(game)
            alfred.GAMES = GameCache()
            for times, way in zip(visits.values(), ways, strict=True):
                opening, _ = env.reset(options={"task_id": task.id})
                assert raw.reset().feedback == opening
                times.play(raw.step, env.step, way, number)
    raw.close()
    env.close()
    return visits


def branch_off(env: Any, task_id: str, commands: Sequence[str]) -> list[str]:
    """Return the first half of the commands, and as many others as the second half has."""
    chance = random.Random(1)
    env.reset(options={"task_id": task_id})
    way: list[str] = []
    for known in commands:
        way.append(known if 2 * len(way) < len(commands) else chance.choice(env.admissible_actions))
        _, _, terminated, _, _ = env.step(way[-1])
        if terminated:
            break
    return way


def print_engines(args: argparse.Namespace) -> None:
    print(
        "| world | steps | engine alone, µs: median (p95) | under our layer | added, µs | of the median | of the mean |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for challenge in CHALLENGES:
        times = time_textworld(challenge, args.games, args.steps, args.rounds)
        print(times.row(f"TextWorld, {challenge}"), flush=True)
    for visit, times in time_household(4 * args.games, args.steps, args.rounds).items():
        print(times.row(f"memoised ALFWorld, {visit}"), flush=True)


class Player:
    """A process that plays one side of ``peers/echo.py``."""

    def __init__(self, side: str, python: str, turns: int) -> None:
        self.side, self.turns = side, turns
        self.times: list[int] = []
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed in close()
        self._process = subprocess.Popen(
            [python, str(ECHO), side, str(turns)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        self.who: dict[str, str] = self._answer()

    def play(self) -> list[int]:
        """Play an episode and return the nanoseconds of its turns."""
        assert self._process.stdin is not None
        self._process.stdin.write("play\n")
        self._process.stdin.flush()
        times: list[int] = self._answer()
        assert len(times) == self.turns
        return times

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._said.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            raise SystemExit(f"the side {self.side} ended:\n{self._said.read()}")
        return json.loads(line)


def print_echo(pythons: dict[str, str], turns: int, episodes: int) -> None:
    sides = {"bare": sys.executable, "agentgym": sys.executable}
    for name, (_, module, plays) in PEERS.items():
        python = pythons.get(name) or (sys.executable if importlib.util.find_spec(module) else None)
        sides |= dict.fromkeys(plays, python) if python else {}
    players = [Player(side, python, turns) for side, python in sides.items()]
    for episode in range(-3, episodes):  # three to warm up
        for player in players[episode % len(players) :] + players[: episode % len(players)]:
            times = player.play()
            player.times += times if episode >= 0 else []
    bare = statistics.median(players[0].times)
    print("\n| a world that repeats what it is told | Python | µs per turn: median (p95) | over bare Python, µs |")
    print("|---|---|---:|---:|")
    for player in players:
        name = f"{player.side} {player.who['version']}".strip()
        over = (statistics.median(player.times) - bare) / 1e3
        print(f"| {name} | {player.who['python']} | {describe(player.times, 1)} | {over:.1f} |")
        player.close()
    print(f"\n{episodes} episodes of {turns} turns on each side, which took turns.")
    for name, (requirement, _, plays) in PEERS.items():
        if plays[0] not in sides:
            print(f"{name} is absent: python -m venv peers/{name} && peers/{name}/bin/pip install {requirement}, then "
                  f"--peer {name}=peers/{name}/bin/python")  # fmt: skip


def read_peer(text: str) -> tuple[str, str]:
    name, _, python = text.partition("=")
    if name not in PEERS or not Path(python).is_file():
        raise argparse.ArgumentTypeError(f"give NAME=PYTHON, NAME one of {', '.join(PEERS)}; got {text!r}")
    return name, python


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=read_peer, action="append", default=[], help="NAME=PYTHON; may be repeated")
    parser.add_argument(
        "--games", type=int, default=2, help="games of each TextWorld challenge; four times as many rooms"
    )
    parser.add_argument("--steps", type=int, default=60, help="longest episode of the engines")
    parser.add_argument("--rounds", type=int, default=5, help="times that each game is played")
    parser.add_argument("--turns", type=int, default=50, help="turns of an episode of the echo")
    parser.add_argument("--episodes", type=int, default=60, help="episodes of the echo")
    args = parser.parse_args()
    print_engines(args)
    print_echo(dict(args.peer), args.turns, args.episodes)


if __name__ == "__main__":
    main()
