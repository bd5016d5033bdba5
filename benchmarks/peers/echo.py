"""A world that repeats what it is told, in five libraries: the sides of the second table of ``env_overhead.py``.

``python echo.py SIDE`` runs in an interpreter that has the library, which need not have any other. It prints a line of
JSON that says who it is; for each number of turns on a line of standard input it then plays one episode and prints the
nanoseconds of each turn. A turn is what an agent needs: its action goes in, observation, reward and end come out.
"""

from __future__ import annotations

import contextlib
import gc
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

Step = Callable[[str], Any]
Side = tuple[str, Callable[[], Step]]  # its distribution, and what makes and resets a world and returns its step


def open_bare(turns: int) -> Side:
    """Nobody's library: what Python itself takes."""

    class Echo:
        def reset(self) -> None:
            self.turn = 0

        def step(self, action: str) -> tuple[str, float, bool]:
            self.turn += 1
            return action, 1.0, self.turn >= turns

    env = Echo()

    def start() -> Step:
        env.reset()
        return env.step

    return "", start


def open_agentgym(turns: int) -> Side:
    import gymnasium

    import agentgym

    class Echo(agentgym.AgentEnv):
        def task_set(self, split: str) -> agentgym.TaskSet:
            return agentgym.TaskSet(split, ["echo"], lambda task_id: self.make_task(task_id, split))

        def _start(self, task: agentgym.Task) -> agentgym.Opening:
            return agentgym.Opening("Say something.")

        def _move(self, move: agentgym.Move) -> agentgym.Transition:
            return agentgym.Transition(move.command, {"said": 1.0})

    gymnasium.register("bench/Echo-v0", entry_point=Echo)
    env = agentgym.make("bench/Echo-v0", max_turns=turns)

    def start() -> Step:
        env.reset()
        return env.step

    return "agentgym-core", start


def open_gem(turns: int) -> Side:
    import gem

    class Echo(gem.Env):
        def reset(self, seed: int | None = None) -> tuple[str, dict[str, Any]]:
            super().reset(seed)
            self.turn = 0
            return "Say something.", {}

        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            self.turn += 1
            return action, 1.0, False, self.turn >= turns, {}

    gem.register("bench:Echo-v0", Echo)
    env = gem.make("bench:Echo-v0")

    def start() -> Step:
        env.reset()
        return env.step

    return "gem-llm", start


def open_textarena(turns: int, wrapped: bool = False) -> Side:
    import textarena as ta
    from textarena.envs import DEFAULT_WRAPPERS  # of its own games

    class Echo(ta.Env):
        def reset(self, num_players: int, seed: int | None = None) -> None:
            self.state = ta.SinglePlayerState(num_players=num_players, seed=seed, max_turns=turns)
            self.state.reset(game_state={}, player_prompt_function=lambda player_id, game_state: "Say something.")

        def step(self, action: str) -> tuple[bool, dict[str, Any]]:
            player = self.state.current_player_id
            self.state.add_observation(action, ta.ObservationType.PLAYER_ACTION, from_id=player)
            self.state.add_observation(action, ta.ObservationType.GAME_MESSAGE)
            if self.state.check_turn_limit():
                self.state.set_outcome(1.0)
            return self.state.step()

    ta.register("bench-Echo-v0", Echo, DEFAULT_WRAPPERS if wrapped else None)

    def start() -> Step:
        env = ta.make("bench-Echo-v0")  # anew: LLMObservationWrapper keeps the messages of the episode before
        env.reset(num_players=1)
        env.get_observation()

        def turn(action: str) -> Any:
            done, info = env.step(action)
            return env.get_observation(), done, info

        return turn

    return "textarena", start


def open_skyrl_gym(turns: int) -> Side:
    import skyrl_gym
    from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

    class Echo(BaseTextEnv):
        def __init__(self, env_config: Any = None, extras: dict[str, Any] | None = None) -> None:
            super().__init__()
            self.max_turns = turns

        def step(self, action: str) -> BaseTextEnvStepOutput:
            self.turns += 1
            said = [{"role": "user", "content": action}]
            return BaseTextEnvStepOutput(observations=said, reward=1.0, done=self.turns >= self.max_turns, metadata={})

    skyrl_gym.register("bench_echo", Echo)

    def start() -> Step:
        env = skyrl_gym.make("bench_echo")  # it has no reset
        env.init([{"role": "user", "content": "Say something."}])
        return env.step

    return "skyrl-gym", start


SIDES: dict[str, Callable[[int], Side]] = {
    "bare": open_bare,
    "agentgym": open_agentgym,
    "gem": open_gem,
    "textarena": open_textarena,
    "textarena+wrappers": lambda turns: open_textarena(turns, wrapped=True),
    "skyrl-gym": open_skyrl_gym,
}


def main() -> None:
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # some libraries greet
        turns = int(sys.argv[2])
        distribution, start = SIDES[sys.argv[1]](turns)
        actions = [f"go to countertop {turn}" for turn in range(turns)]
        who = {"version": version(distribution) if distribution else "", "python": platform.python_version()}
        print(json.dumps(who), file=answers, flush=True)
        for _ in sys.stdin:
            step = start()
            gc.collect()
            times = []
            for action in actions:
                before = time.perf_counter_ns()
                step(action)
                times.append(time.perf_counter_ns() - before)
            print(json.dumps(times), file=answers, flush=True)


if __name__ == "__main__":
    main()
