"""Sampling in a rollout beside raw decoding of the same requests, and continuous batching beside lockstep.

    python benchmarks/rollout.py [decoding] [waiting] [--model DIR] [--episodes 128] [--rounds 3] [--processes 1]
    python benchmarks/rollout.py decoding --model smollm2 --episodes 16 --concurrency 16 --rounds 1

``decoding`` plays the household with many in flight, in groups of eight episodes: games that are new to the machine,
then the same ones again. vLLM's ``LLM.generate``, opened alike in a process of its own, repeats every request of each
rollout: the same prompts in the same order, the same numbers of tokens, all at once. ``waiting`` plays in worlds that
sleep. Sides take turns in every round.

Without ``--model``, the model is tiny and untrained. What it or ``smollm2`` samples is thrown away for an admissible
command, after 8 to 20 tokens, both drawn by the episode's seed, so that all episodes last as long as they may.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import gymnasium

from agentgym import AgentEnv, Completion, Dialogue, Move, Opening, SamplingParams, Task, TaskSet, Transition
from agentgym.chat import ChatRenderer
from agentgym.evaluate import WorldOptions, plan_episodes, play_plan
from agentgym.registry import make_policy
from agentgym.rollout import Episode
from agentgym.train.config import TinySection
from agentgym.train.engine import EngineConfig, Sample, VllmEngine
from agentgym.train.models import build_tiny, load_tokenizer, resolve_model
from agentgym.train.vllm_runtime import engine_arguments, sampling_params
from agentgym_policies.vllm import VllmPolicy

GROUP_SIZE = 8
TOKENS_PER_TURN = (8, 20)
HOUSEHOLD = "agentgym/Household-v0"
HOUSEHOLD_KWARGS: dict[str, Any] = {  # nearly those of recipes/household-tiny.toml; tasks of all kinds
    "data_dir": "generated",
    "expert": "searching",
    "action_format": "thought",
    "system_prompt": "",
    "max_turns": 12,
}
SLEEPY = "benchmarks/Sleepy-v0"
SLEEPY_TURNS = 8
SLEEP_S = (0.05, 0.5)


class SleepyEnv(AgentEnv):
    """A world that sleeps at every step, for a time that the seed of the episode draws."""

    splits: ClassVar[tuple[str, ...]] = ("train",)

    def task_set(self, split: str) -> TaskSet:
        ids = [f"sleep-{i}" for i in range(1000)]
        return TaskSet(self._known_split(split), ids, lambda task_id: self.make_task(task_id, split))

    def _start(self, task: Task) -> Opening:
        return Opening("It is late.", admissible_actions=["sleep"])

    def _move(self, move: Move) -> Transition:
        time.sleep(self.np_random.uniform(*SLEEP_S))
        return Transition("It is later.", admissible_actions=["sleep"])


gymnasium.register(SLEEPY, entry_point=SleepyEnv)  # here, since worker processes read this file again


@dataclass(frozen=True)
class Request:
    """What was asked of the engine, and how many tokens it gave."""

    prompt_ids: list[int]
    tokens: int


@dataclass(frozen=True)
class Round:
    """What one side sampled, in how many seconds, and for how many of them vLLM was in a step."""

    tokens: int
    took_s: float
    busy_s: float

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.took_s

    @property
    def busy(self) -> float:
        """Share of the time that vLLM was in a step."""
        return self.busy_s / self.took_s


class Recorder:
    """An engine that notes what it is asked."""

    def __init__(self, engine: VllmEngine) -> None:
        self.engine, self.config = engine, engine.config
        self.requests: list[Request] = []

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams, stop_token_ids: Sequence[int]
    ) -> Sample:
        place = len(self.requests)
        self.requests.append(Request(list(prompt_ids), 0))
        sample = await self.engine.generate(prompt_ids, sampling, stop_token_ids)
        self.requests[place] = replace(self.requests[place], tokens=len(sample.token_ids))
        return sample


class Wanderer(VllmPolicy):
    """Samples as many tokens as the seed draws and then says some admissible command instead."""

    async def act(self, dialogue: Dialogue) -> Completion:
        chance = random.Random(f"{dialogue.seed} {dialogue.episode} {dialogue.turn}")
        length = chance.randint(*TOKENS_PER_TURN)
        prompt_ids = self.renderer.prompt_ids(dialogue)
        sample = await self.engine.generate(
            [*dialogue.token_ids, *prompt_ids], replace(self.sampling, max_tokens=length), ()
        )
        self.renderer.action_text(sample.token_ids)  # costs what it costs a trained model
        text = dialogue.action_format.render(Move(chance.choice(dialogue.info["admissible_actions"])))
        return Completion(text, tuple(prompt_ids), sample.token_ids, sample.logprobs, sample.finish_reason)


class Lockstep:
    """Holds every episode of a batch back until the slowest world has answered; then all are sampled at once."""

    def __init__(self, policy: VllmPolicy) -> None:
        self.policy, self.name = policy, policy.name
        self.playing = 0
        self._held: list[asyncio.Future[None]] = []

    async def act(self, dialogue: Dialogue) -> Completion:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held.append(gate)
        self._open_when_complete()
        await gate
        return await self.policy.act(dialogue)

    def leave(self, _: object) -> None:
        """Note that an episode of the batch has ended."""
        self.playing -= 1
        self._open_when_complete()

    async def aclose(self) -> None:
        pass

    def _open_when_complete(self) -> None:
        if len(self._held) == self.playing:
            for gate in self._held:
                gate.set_result(None)
            self._held.clear()


def open_config(model: Path, concurrency: int) -> EngineConfig:
    return EngineConfig(str(model), max_model_len=2048, max_num_seqs=concurrency)


def decode_raw(pipe: Connection, config: EngineConfig) -> None:
    """Answer lists of requests with what ``LLM.generate`` takes for them; runs in a process of its own."""
    from vllm import LLM
    from vllm.inputs import TokensPrompt

    from agentgym.train import vllm_runtime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vllm_runtime._limit_threads(config.threads)
        vllm_runtime._skip_rank_kernel()
        llm = LLM.from_engine_args(engine_arguments(config))
    busy_s = 0.0
    step = llm.llm_engine.step

    def timed_step() -> Any:
        nonlocal busy_s
        started_s = time.perf_counter()
        outputs = step()
        busy_s += time.perf_counter() - started_s
        return outputs

    llm.llm_engine.step = timed_step  # type: ignore[method-assign]
    pipe.send(None)
    while requests := pipe.recv():
        llm.reset_prefix_cache()
        params = [sampling_params(SamplingParams(max_tokens=request.tokens), ()) for request in requests]
        prompts = [TokensPrompt(prompt_token_ids=request.prompt_ids) for request in requests]
        busy_s, started_s = 0.0, time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        took_s = time.perf_counter() - started_s
        assert [len(output.outputs[0].token_ids) for output in outputs] == [request.tokens for request in requests]
        pipe.send(Round(sum(request.tokens for request in requests), took_s, busy_s))


@contextmanager
def raw_decoder(config: EngineConfig) -> Iterator[Any]:
    """Give a function from requests to what they took."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=decode_raw, args=(there, config), daemon=True)
    process.start()
    there.close()
    here.recv()

    def decode(requests: Sequence[Request]) -> Round:
        here.send(requests)
        result: Round = here.recv()
        return result

    try:
        yield decode
    finally:
        here.send([])
        process.join()


def make_model(folder: Path) -> Path:
    """Make an untrained model that knows the household's words."""
    plan = plan_episodes(HOUSEHOLD, "valid_seen", 24, env_kwargs=HOUSEHOLD_KWARGS)
    texts = []
    for name in ("expert", "random"):
        options = WorldOptions(concurrency=1, env_kwargs=HOUSEHOLD_KWARGS)
        for trajectory in asyncio.run(play_plan(plan, make_policy(name), options, progress=False)):
            texts += [text for turn in trajectory.turns for text in (turn.observation, turn.action)]
    return build_tiny(texts, folder / "tiny", TinySection(hidden=128, layers=4), context=2048)


def plan_groups(env_id: str, groups: int, number: int) -> list[Episode]:
    """Return the groups of a batch; every number has tasks of its own."""
    tasks = plan_episodes(env_id, "train", groups * (number + 1), env_kwargs=HOUSEHOLD_KWARGS)[-groups:]
    return [
        replace(task, number=GROUP_SIZE * i + j, group=str(i))
        for i, task in enumerate(tasks)
        for j in range(GROUP_SIZE)
    ]


@dataclass
class Sides:
    """The rounds of rollouts, and of raw decoding of their requests."""

    rollout: list[Round] = field(default_factory=list)
    raw: list[Round] = field(default_factory=list)

    def row(self, *names: str) -> str:
        """Return a row of the table."""
        pairs = list(zip(self.rollout, self.raw, strict=True))
        speeds = [f"{statistics.median(side.speed for side in sides):.0f}" for sides in (self.rollout, self.raw)]
        ratios = [
            _with_all([getattr(ours, what) / getattr(raw, what) for ours, raw in pairs]) for what in ("speed", "busy")
        ]
        return f"| {' | '.join([*names, *speeds, *ratios])} |"


def _with_all(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"


def decoding(engine: VllmEngine, policy: VllmPolicy, model: Path, args: argparse.Namespace) -> None:
    """Print the table of rollouts beside raw decoding."""
    recorder = Recorder(engine)
    policy.engine = recorder  # type: ignore[assignment]  # it has what a policy asks of an engine
    sides: dict[tuple[str, str], Sides] = {}
    with ExitStack() as stack, asyncio.Runner() as runner:
        decode = stack.enter_context(raw_decoder(open_config(model, args.concurrency)))
        rollouts = {}
        for workers in ("thread", "process"):
            options = WorldOptions(args.concurrency, workers, env_kwargs=HOUSEHOLD_KWARGS, processes=args.processes)
            rollouts[workers] = options.open_rollout(HOUSEHOLD, policy)
            stack.callback(rollouts[workers].close)
            runner.run(rollouts[workers].play(plan_groups(HOUSEHOLD, 2, len(rollouts) - 1)))  # warms up
        for number in range(args.rounds):
            for place, (workers, rollout) in enumerate(rollouts.items()):
                plan = plan_groups(HOUSEHOLD, args.episodes // GROUP_SIZE, 1 + len(rollouts) * number + place)
                for games in ("new", "known"):
                    recorder.requests.clear()
                    engine.call(lambda llm: llm.reset_prefix_cache())
                    busy_s, started_s = engine.counters.busy_s, time.perf_counter()
                    runner.run(rollout.play(plan))
                    took_s = time.perf_counter() - started_s
                    tokens = sum(request.tokens for request in recorder.requests)
                    side = sides.setdefault((workers, games), Sides())
                    side.rollout.append(Round(tokens, took_s, engine.counters.busy_s - busy_s))
                    side.raw.append(decode(recorder.requests))
    print("| workers | games | rollout, tokens/s | `LLM.generate`, tokens/s | ratio | busy in vLLM's steps, ratio |")
    print("|---|---|---:|---:|---|---|")
    for names, side in sorted(sides.items(), key=lambda item: item[0][1], reverse=True):
        print(side.row(*names))
    print(
        f"\n{args.episodes} episodes a round of {HOUSEHOLD_KWARGS['max_turns']} turns, {args.concurrency} in flight.\n"
    )


def waiting(policy: VllmPolicy, args: argparse.Namespace) -> None:
    """Print the table of continuous batching beside lockstep."""
    kwargs = {"max_turns": SLEEPY_TURNS}
    plan = plan_episodes(SLEEPY, "train", args.episodes, env_kwargs=kwargs)
    lockstep = Lockstep(policy)
    seconds: dict[str, list[float]] = {"lockstep": [], "continuous": []}
    with ExitStack() as stack, asyncio.Runner() as runner:
        options = WorldOptions(args.concurrency, "process", env_kwargs=kwargs, processes=args.processes)
        rollout = options.open_rollout(SLEEPY, policy)
        stack.callback(rollout.close)
        runner.run(rollout.play(plan[: args.concurrency]))  # warms up
        for _ in range(args.rounds):
            started_s = time.perf_counter()
            rollout.policy = lockstep
            for start in range(0, args.episodes, args.concurrency):
                batch = plan[start : start + args.concurrency]
                lockstep.playing = len(batch)
                runner.run(rollout.play(batch, lockstep.leave))
            seconds["lockstep"].append(time.perf_counter() - started_s)
            started_s = time.perf_counter()
            rollout.policy = policy
            runner.run(rollout.play(plan))
            seconds["continuous"].append(time.perf_counter() - started_s)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = [slow / fast for slow, fast in zip(seconds["lockstep"], seconds["continuous"], strict=True)]
    print("| | seconds, median | times faster | in each round |\n|---|---:|---:|---|")
    print(f"| lockstep | {medians['lockstep']:.1f} | 1 | |")
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"| continuous batching | {medians['continuous']:.1f} | {statistics.median(ratios):.2f} | {shown} |")
    print(
        f"\n{args.episodes} episodes of {SLEEPY_TURNS} turns, {args.concurrency} in flight, worlds that sleep "
        f"{SLEEP_S[0] * 1000:.0f} to {SLEEP_S[1] * 1000:.0f} ms a step."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", help="decoding, waiting; both by default")
    parser.add_argument("--model", help="smollm2, or a trained model's directory, which then chooses the moves")
    parser.add_argument("--episodes", type=int, default=128, help="episodes in a round, a multiple of 8")
    parser.add_argument("--concurrency", type=int, default=64, help="episodes in flight")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=0, help="processes of workers = process")
    args = parser.parse_args()
    given = resolve_model(args.model) if args.model else None
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AGENTGYM_CACHE"] = folder  # games are new, as in training
        model = given or make_model(Path(folder))
        engine = VllmEngine(open_config(model, args.concurrency))
        plays = Wanderer if args.model in (None, "smollm2") else VllmPolicy
        policy = plays(engine=engine, renderer=ChatRenderer(load_tokenizer(model)))
        try:
            if "waiting" in args.parts or not args.parts:
                waiting(policy, args)
            if "decoding" in args.parts or not args.parts:
                decoding(engine, policy, model, args)
        finally:
            engine.close()


if __name__ == "__main__":
    main()
