"""ALFWorld's engine and the memoised one, side by side: the same games, the same commands, the same text.

Run with ``python benchmarks/alfred_engine.py [GAMES] [STEPS]``. Prints a Markdown table of mean milliseconds. The
engines take turns at every command, so what else the machine does slows both.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import textworld
from textworld.envs.pddl import PddlEnv

from agentgym_household.alfred import engine
from agentgym_household.alfred.alfworld_data import import_alfworld
from agentgym_household.alfred.compiled import GameCache
from agentgym_household.alfred.engine import MemoPddlEnv
from agentgym_household.alfred.generate import draw_recipe, generate_game


def timed(call: Callable[[], Any], into: list[float]) -> Any:
    start = time.perf_counter()
    result = call()
    into.append((time.perf_counter() - start) * 1000)
    return result


def main(games: int = 4, steps: int = 30) -> None:
    demangler = import_alfworld("alfworld.agents.environment.alfred_tw_env").AlfredDemangler
    stock = demangler(PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True)))
    ours = MemoPddlEnv(textworld.EnvInfos(won=True, admissible_commands=True))
    rows = ("stock load", "ours load", "stock reset", "ours reset", "stock step", "ours step")
    rows += ("ours load again", "ours reset again", "ours step again")
    times: dict[str, list[float]] = {name: [] for name in rows}
    for index in range(games):
        game = generate_game(draw_recipe("train", index))
        timed(lambda game=game: stock.load(game), times["stock load"])
        timed(lambda game=game: ours.load(game), times["ours load"])
        seen = timed(stock.reset, times["stock reset"])
        assert timed(ours.reset, times["ours reset"]).feedback == seen.feedback
        chance, commands = random.Random(index), []
        for _ in range(steps):
            command = chance.choice(seen["admissible_commands"])
            commands.append(command)
            seen, _, _ = timed(lambda command=command: stock.step(command), times["stock step"])
            again, _, _ = timed(lambda command=command: ours.step(command), times["ours step"])
            assert (again.feedback, again["admissible_commands"]) == (seen.feedback, seen["admissible_commands"])
        timed(ours.reset, times["ours reset again"])
        for command in commands:
            timed(lambda command=command: ours.step(command), times["ours step again"])
        engine.GAMES = GameCache()  # as another process, which finds the translation on disk
        timed(lambda game=game: ours.load(game), times["ours load again"])
    mean = {name: statistics.mean(values) for name, values in times.items()}
    print("| | ALFWorld 0.4.2 | ours, first visit | ours, seen before | times faster |")
    print("|---|---:|---:|---:|---:|")
    for what in ("load", "reset", "step"):
        first, again, theirs = mean[f"ours {what}"], mean[f"ours {what} again"], mean[f"stock {what}"]
        print(
            f"| {what}, ms | {theirs:.2f} | {first:.2f} | {again:.2f} | {theirs / first:.0f} – {theirs / again:.0f} |"
        )
    print(f"| steps per second | {1000 / mean['stock step']:.0f} | {1000 / mean['ours step']:.0f} "
          f"| {1000 / mean['ours step again']:.0f} | |")  # fmt: skip
    print(f"\n{games} generated games, {steps} random commands each; text and admissible commands were equal at each.")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AGENTGYM_CACHE"] = folder  # no game is known from before
        main(*map(int, sys.argv[1:]))
