"""A GRPO update beside TRL's: the same model, prompts, group size, number of sampled tokens and learning rate.

Run with ``python benchmarks/grpo_update.py --trl-python PATH``. Prints a Markdown table. Both sides are open all the
time and take turns, one update each, so what else the machine does slows both; while one works, the other waits.

The task has one turn: its prompts are opening observations of the household, the reward is a checksum of the answer,
which no two answers share, so that every sequence is learned from. Ends of turn are ignored: all answers are as long.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import psutil
import torch

import agentgym
from agentgym import AgentEnv, Move, Opening, Task, TaskSet, Transition
from agentgym.chat import ChatRenderer
from agentgym.machine import machine_size, usable_cores
from agentgym.registry import make_policy
from agentgym.rollout import Episode
from agentgym.train.config import Recipe, load_recipe, parse_recipe
from agentgym.train.curriculum import open_task_stream
from agentgym.train.engine import EngineConfig
from agentgym.train.grpo import Grpo
from agentgym.train.learner import Learner, learner_config
from agentgym.train.models import build_tiny, load_tokenizer, resolve_model
from agentgym.train.replicas import EngineReplicas
from agentgym.train.sync import push_weights
from agentgym.train.warmstart import world_options
from agentgym.trajectory import Trajectory

ENV_ID = "benchmark/OneTurn-v0"
TRL_PYTHON = "TRL_PYTHON"
DEMO = Path(__file__).parents[1] / "recipes" / "household-tiny.toml"
HOW_TO = f"""TRL lives in an environment of its own. Make one and run this again:
    python3 -m venv trl && trl/bin/pip install torch==2.13.0 trl==1.16.0
    python benchmarks/grpo_update.py --trl-python trl/bin/python   (or set ${TRL_PYTHON})"""


@dataclass(frozen=True)
class Size:
    """What both sides do in an update."""

    tasks: int = 4
    group_size: int = 8
    answer_tokens: int = 48
    learning_rate: float = 1e-6
    dtype: str = "float32"
    engines: int = 1

    @property
    def sampled_tokens(self) -> int:
        """Tokens that an update samples."""
        return self.tasks * self.group_size * self.answer_tokens


@dataclass(frozen=True)
class Update:
    """What one update took: seconds, those of them in sampling, and seconds of this process's processor time."""

    whole_s: float
    sample_s: float
    cpu_s: float


# The task


class OneTurn(AgentEnv):
    """Shows one of the household's opening observations; any answer ends the episode."""

    openings: ClassVar[Mapping[str, str]] = {}

    def task_set(self, split: str) -> TaskSet:
        """Return one task for each opening."""
        return TaskSet(split, list(self.openings), lambda task_id: self.make_task(task_id, split))

    def _start(self, task: Task) -> Opening:
        return Opening(self.openings[task.id])

    def _read(self, action: str) -> Move:
        return Move(command=action)

    def _move(self, move: Move) -> Transition:
        return Transition("", {"checksum": zlib.crc32(move.command.encode()) / 2**32}, terminated=True)


class EndlessRenderer(ChatRenderer):
    """Lets no token end an answer."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.stop_token_ids = ()


def read_household(tasks: int) -> tuple[str, dict[str, str]]:
    """Return the system prompt and the opening observations of the first train tasks."""
    env = agentgym.make("agentgym/Household-v0", data_dir="generated")
    openings = {}
    for task_id in env.unwrapped.task_set("train").ids[:tasks]:
        openings[task_id], info = env.reset(seed=0, options={"split": "train", "task_id": task_id})
    env.close()
    return info["system_prompt"], openings


# The two sides


def cpu_seconds() -> float:
    """Return what this process and those under it have used so far; the other side is one of them, but waits."""
    this = psutil.Process()
    return sum(times.user + times.system for times in (part.cpu_times() for part in [this, *this.children(True)]))


class OurSide:
    """Learner, engine and rollout, put together as ``agentgym train`` puts them together."""

    def __init__(self, model: Path, recipe: Recipe, stack: contextlib.ExitStack) -> None:
        sampling = recipe.sampling
        learner = Learner(model, learner_config(recipe, recipe.grpo))
        config = EngineConfig(
            str(model),
            dtype=sampling.dtype,
            max_model_len=sampling.context,
            max_num_seqs=sampling.concurrency,
            kv_cache_bytes=sampling.kv_cache_mb << 20,
        )
        engine = EngineReplicas(config, sampling.engines)
        stack.callback(engine.close)
        push_weights(engine, learner.model)
        runner = stack.enter_context(asyncio.Runner())
        renderer = EndlessRenderer(load_tokenizer(model))
        policy = make_policy("vllm", engine=engine, renderer=renderer, max_tokens=sampling.max_tokens)
        rollout = world_options(recipe).open_rollout(ENV_ID, policy)
        stack.callback(rollout.close)

        def play(plan: Sequence[Episode]) -> list[Trajectory]:
            return runner.run(rollout.play(plan))

        self.grpo = Grpo(recipe, open_task_stream(recipe), learner, engine, play)
        self.steps = 0

    def update(self, size: Size) -> Update:
        """Do one update."""
        started_s, used_s = time.perf_counter(), cpu_seconds()
        figures = self.grpo.update(self.steps)
        whole_s, cpu_s = time.perf_counter() - started_s, cpu_seconds() - used_s
        self.steps += 1
        assert figures["tokens/sampled"] == size.sampled_tokens, figures
        assert figures["groups/tied"] == 0, figures
        return Update(whole_s, float(figures["seconds/sample"] or 0), cpu_s)


class TrlSide:
    """TRL's trainer in its own process."""

    def __init__(self, python: str, wanted: Mapping[str, Any], stack: contextlib.ExitStack) -> None:
        script = Path(__file__).parent / "peers" / "trl_grpo.py"
        self.log = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - the stack closes it
        self.process = subprocess.Popen(
            [python, str(script), json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        stack.callback(self.process.wait)
        assert self.process.stdin is not None
        stack.callback(self.process.stdin.close)
        self._answer()

    def update(self, size: Size) -> Update:
        """Have the other process do one update."""
        started_s = time.perf_counter()
        print(file=self.process.stdin, flush=True)
        answer = self._answer()
        whole_s = time.perf_counter() - started_s
        assert answer["sampled_tokens"] == size.sampled_tokens, answer
        return Update(whole_s, answer["sample_s"], answer["cpu_s"])

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(f"TRL's side ended:\n{self.log.read()[-4000:]}")
        answer: dict[str, float] = json.loads(line)
        return answer


# The measurement


def make_recipe(size: Size, system_prompt: str) -> Recipe:
    return parse_recipe(
        {
            "env": {"id": ENV_ID, "kwargs": {"system_prompt": system_prompt}},
            "model": {"dtype": size.dtype},
            "grpo": {
                "updates": 1000,
                "tasks_per_update": size.tasks,
                "group_size": size.group_size,
                "learning_rate": size.learning_rate,
            },
            "sampling": {
                "max_tokens": size.answer_tokens,
                "concurrency": size.tasks * size.group_size,
                "engines": size.engines,
            },
            "eval": {"split": "train", "episodes": 0},
        }
    )


@contextlib.contextmanager
def model_dir(name: str, texts: Sequence[str]) -> Iterator[Path]:
    """Give the directory of ``smollm2``, of ``tiny`` with the demo's size, or of any other model."""
    if name != "tiny":
        yield resolve_model(name)
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "tiny"
        yield build_tiny(texts, target, load_recipe(DEMO).model.tiny)


def compare(name: str, size: Size, arguments: argparse.Namespace) -> list[str]:
    """Measure one model and return its rows of the table."""
    system_prompt, OneTurn.openings = read_household(size.tasks)
    recipe = make_recipe(size, system_prompt)
    with model_dir(name, [system_prompt, *OneTurn.openings.values()]) as model, contextlib.ExitStack() as stack:
        renderer = ChatRenderer(load_tokenizer(model))
        prompts = [renderer.opening_ids(system_prompt, opening) for opening in OneTurn.openings.values()]
        wanted = {
            "model": str(model),
            "prompts": prompts,
            "group_size": size.group_size,
            "answer_tokens": size.answer_tokens,
            "learning_rate": size.learning_rate,
            "dtype": size.dtype,
            "threads": usable_cores(),
            "micro_batch": arguments.trl_micro_batch or (size.tasks * size.group_size if name == "tiny" else 2),
            "options": arguments.trl_options,
        }
        sides = {
            "TRL": TrlSide(arguments.trl_python, wanted, stack),
            "agentgym": OurSide(model, recipe, stack),
        }
        taken: dict[str, list[Update]] = {side: [] for side in sides}
        for number in range(1 + arguments.updates):
            for side in sides:
                update = sides[side].update(size)
                print(f"{name} {side} {number}: {update}", file=sys.stderr)
                if number:  # the first one warms up
                    taken[side].append(update)
    trained = size.group_size * sum(len(ids) + size.answer_tokens for ids in prompts)
    return [row(name, side, taken, size, trained) for side in sides]


def row(name: str, side: str, taken: Mapping[str, Sequence[Update]], size: Size, trained: int) -> str:
    """Return one side's line; ``trained``: tokens of all sequences of an update, prompts included, without padding."""

    def median(who: str, what: str) -> float:
        return statistics.median(getattr(update, what) for update in taken[who])

    whole_s, sample_s, cpu_s = (median(side, what) for what in ("whole_s", "sample_s", "cpu_s"))
    fastest_s, *_, slowest_s = sorted(update.whole_s for update in taken[side])
    return (
        f"| {name} | {side} | {whole_s:.2f} ({fastest_s:.2f} – {slowest_s:.2f}) | {cpu_s:.2f} "
        f"| {size.sampled_tokens / sample_s:.0f} | {trained / (whole_s - sample_s):.0f} "
        f"| {whole_s / median('TRL', 'whole_s'):.2f} | {cpu_s / median('TRL', 'cpu_s'):.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", default=os.environ.get(TRL_PYTHON), help="interpreter of TRL's environment")
    parser.add_argument("--models", nargs="+", default=["smollm2", "tiny"])
    parser.add_argument("--updates", type=int, default=6, help="measured updates of each side, after one to warm up")
    parser.add_argument("--tasks", type=int, default=4, help="prompts of an update; their groups have 8 answers")
    parser.add_argument("--engines", type=int, default=1, help="our replicas of vLLM, as sampling.engines of a recipe")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="bfloat16: autocast")
    parser.add_argument("--trl-micro-batch", type=int, help="sequences of one of TRL's forward passes")
    parser.add_argument("--trl-options", type=json.loads, default={}, help="more fields of GRPOConfig, as JSON")
    arguments = parser.parse_args()
    if not arguments.trl_python:
        print(HOW_TO)
        return
    gymnasium.register(ENV_ID, entry_point=OneTurn, disable_env_checker=True, order_enforce=False)
    torch.set_num_threads(usable_cores())
    size = Size(tasks=arguments.tasks, dtype=arguments.dtype, engines=arguments.engines)
    rows = [line for name in arguments.models for line in compare(name, size, arguments)]
    print("| model | side | s per update | CPU s | sampled tokens/s | trained tokens/s | time / TRL's | CPU / TRL's |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    print("\n".join(rows))
    print(
        f"\n{size.tasks} prompts, groups of {size.group_size}, {size.answer_tokens} tokens an answer, {size.dtype}; "
        f"medians (range) of {arguments.updates} updates each, in turns, on {machine_size()}."
    )


if __name__ == "__main__":
    main()
