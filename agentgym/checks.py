"""Conformance tests that ship with the package, for authors of packs and of sandboxes.

``check_env("agentgym/MyEnv-v0")`` plays an environment for real and says, check by check, whether it keeps the
contract of :class:`agentgym.env.AgentEnv`. ``agentgym check ENV_ID`` prints the same as a table. ``check_sandbox``
does it for a kind of sandbox.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import check_env as check_gymnasium_contract

from agentgym.actions import Move
from agentgym.check_result import CheckError, CheckResult, require
from agentgym.checks_sandbox import check_sandbox
from agentgym.env import AgentEnv
from agentgym.errors import ResetNeededError
from agentgym.registry import make

__all__ = ["CheckError", "CheckResult", "check_env", "check_sandbox", "episode_digest"]

_INFO_KEYS = ("task", "reward_terms", "invalid_action", "executable", "state_key", "privileged")
_BAD_ACTIONS = ("", "\n\n", "no such command", "{", "a" * 10_000_000, "\ud800", "\x00\x1b[2J", "<action>", "🙂" * 99)


@dataclass(frozen=True)
class Probe:
    """What the checks work with.

    Attributes:
        env_id: Environment under test.
        kwargs: Arguments to make it with.
        episodes: Tasks per split to play.
        random_ceiling: Highest success rate that random play may have.
    """

    env_id: str
    kwargs: Mapping[str, Any]
    episodes: int
    random_ceiling: float

    def make(self) -> AgentEnv:
        """Make a fresh environment, unwrapped."""
        env = make(self.env_id, **self.kwargs).unwrapped
        if not isinstance(env, AgentEnv):
            raise CheckError(f"{type(env).__name__} is no agentgym.AgentEnv; subclass it")
        return env


def check_gymnasium(probe: Probe) -> str:
    """Gymnasium's own ``check_env`` passes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that it cannot test render modes of an env made without gym.make
        check_gymnasium_contract(probe.make(), skip_render_check=True)
    return "gymnasium.utils.env_checker.check_env passed"


def check_info(probe: Probe) -> str:
    """Every step's ``info`` has the contract's keys and the reward is the sum of its terms."""
    env = probe.make()
    _, info = env.reset(seed=0)
    require("system_prompt" in info and "tools" in info, "reset's info lacks 'system_prompt' or 'tools'")
    steps = 0
    for action in _random_actions(env, seed=0):
        observation, reward, terminated, truncated, info = env.step(action)
        steps += 1
        missing = [key for key in _INFO_KEYS if key not in info]
        require(not missing, f"info of step {steps} lacks {missing}")
        require(env.observation_space.contains(observation), f"observation of step {steps} is not in the space")
        total = sum(info["reward_terms"].values())
        require(abs(total - reward) < 1e-9, f"step {steps}: reward {reward} is not the sum of its terms {total}")
        if terminated or truncated:
            require(isinstance(info.get("success"), bool), "the last step's info lacks a bool 'success'")
            break
    try:
        env.step("again")
    except ResetNeededError:
        return f"{steps} steps, then step() after the end was refused"
    raise CheckError("step() after the end of the episode must raise ResetNeededError")


def check_determinism(probe: Probe) -> str:
    """The same seed gives the same episode, to the byte, in another process with another hash seed."""
    seeds = list(range(min(probe.episodes, 3)))
    here = [episode_digest(probe.make(), seed) for seed in seeds]
    request = json.dumps({"env_id": probe.env_id, "kwargs": dict(probe.kwargs), "seeds": seeds})
    for hash_seed in ("0", "4242"):
        there = subprocess.run(
            [sys.executable, "-m", "agentgym.checks", request],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        require(there.returncode == 0, f"the other process failed: {there.stderr[-600:]}")
        digests = json.loads(there.stdout.strip().splitlines()[-1])
        differing = [seed for seed, ours, theirs in zip(seeds, here, digests, strict=True) if ours != theirs]
        require(not differing, f"seeds {differing} played differently in a process with PYTHONHASHSEED={hash_seed}")
    return f"{len(seeds)} seeds identical in two other processes"


def check_expert(probe: Probe) -> str:
    """The scripted expert scores 1 on the first tasks of every split."""
    env = probe.make()
    failures: list[str] = []
    played = 0
    for split in env.splits:
        for task in islice(env.task_set(split), probe.episodes):
            result = task.validate()
            played += 1
            if not result.solved or abs(result.episode_return - 1.0) > 1e-6:
                failures.append(f"{task.id} (return {result.episode_return:.3g}: {result.detail})")
    require(played, "no split has any task")
    require(not failures, f"the expert failed {len(failures)} of {played} tasks: {'; '.join(failures[:3])}")
    return f"{played} tasks over {len(env.splits)} splits, return 1 on each"


def check_random(probe: Probe) -> str:
    """Random play stays low, so success means something."""
    env = probe.make()
    wins = 0
    for seed in range(probe.episodes):
        _, info = env.reset(seed=seed)
        for action in _random_actions(env, seed):
            _, _, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                wins += bool(info["success"])
                break
    rate = wins / probe.episodes
    require(rate <= probe.random_ceiling, f"random play won {rate:.0%}, more than {probe.random_ceiling:.0%}")
    return f"random play won {wins} of {probe.episodes}"


def check_bad_actions(probe: Probe) -> str:
    """Whatever a model says is answered by an observation, and costs a turn."""
    env = probe.make()
    env.reset(seed=0)
    for action in _BAD_ACTIONS:
        shown = ascii(action[:20])
        try:
            observation, _, terminated, truncated, info = env.step(action)
        except Exception as error:  # whatever the pack raised is the finding
            raise CheckError(f"action {shown} raised {type(error).__name__}: {error}") from error
        require(env.observation_space.contains(observation), f"action {shown} got an observation outside the space")
        harmless = info["invalid_action"] or not info["executable"]
        require(harmless, f"action {shown} is neither flagged invalid nor as not executable")
        if terminated or truncated:
            env.reset(seed=0)
    return f"{len(_BAD_ACTIONS)} malformed, huge and hostile actions were answered"


def check_privileged(probe: Probe) -> str:
    """No privileged fact is in what a prompt shows at the start."""
    env = probe.make()
    leaves = 0
    for seed in range(probe.episodes):
        observation, info = env.reset(seed=seed)
        shown = f"{info['system_prompt']}\n{_as_text(observation)}"
        for fact in _text_leaves(info["privileged"]):
            leaves += 1
            require(fact not in shown, f"seed {seed}: privileged fact {fact!r} is in the prompt")
    return f"{leaves} privileged facts, none in a prompt"


def check_splits(probe: Probe) -> str:
    """Splits share no task, and an id finds its task again."""
    env = probe.make()
    seen: dict[str, str] = {}
    for split in env.splits:
        tasks = env.task_set(split)
        for task in islice(tasks, 50):
            require(task.split == split, f"task {task.id} of split {split} says that its split is {task.split}")
            require(task.id not in seen, f"task {task.id} is in both {seen.get(task.id)} and {split}")
            require(tasks.get(task.id).id == task.id, f"task_set({split!r}).get({task.id!r}) found another task")
            seen[task.id] = split
    return f"{len(seen)} tasks in {len(env.splits)} disjoint splits"


CHECKS: tuple[Callable[[Probe], str], ...] = (
    check_gymnasium,
    check_info,
    check_splits,
    check_determinism,
    check_expert,
    check_random,
    check_bad_actions,
    check_privileged,
)


def check_env(env_id: str, *, episodes: int = 5, random_ceiling: float = 0.4, **kwargs: Any) -> list[CheckResult]:
    """Run every conformance check against an environment.

    Args:
        env_id: Registered id.
        episodes: Tasks of each split that the expert plays, and episodes of random play.
        random_ceiling: Highest success rate allowed to random play.
        **kwargs: Arguments to make the environment with.

    Returns:
        One result per check, in order; none stops the others.

    Raises:
        UnknownNameError: The environment is not registered.
    """
    probe = Probe(env_id, kwargs, episodes, random_ceiling)
    probe.make().close()
    results = []
    for check in CHECKS:
        started_s = time.monotonic()
        try:
            passed, detail = True, check(probe)
        except Exception as error:  # a check's finding, or the pack's own crash: both are its result
            passed = False
            detail = str(error) if isinstance(error, CheckError) else f"{type(error).__name__}: {error}"
        name = check.__name__.removeprefix("check_")
        results.append(CheckResult(name, passed, detail, time.monotonic() - started_s))
    return results


def episode_digest(env: AgentEnv, seed: int) -> str:
    """Hash everything that an episode of seeded random play shows, privileged facts included."""
    observation, info = env.reset(seed=seed)
    digest = hashlib.sha256()
    for action in ("", *islice(_random_actions(env, seed), 20)):
        if action:
            observation, reward, terminated, truncated, info = env.step(action)
            digest.update(f"{action}|{reward}|{terminated}|{truncated}".encode())
        digest.update(_as_text(observation).encode())
        if not isinstance(observation, str):
            digest.update(np.ascontiguousarray(observation["image"]).tobytes())
        digest.update(json.dumps(info, sort_keys=True, default=str).encode())
        if action and (terminated or truncated):
            break
    return digest.hexdigest()


def _random_actions(env: AgentEnv, seed: int) -> Iterator[str]:
    """Yield random admissible actions; where the engine lists none, random text."""
    chance = np.random.default_rng(seed)
    while True:
        choices = env.admissible_actions
        if choices:
            yield env.action_format.render(Move(command=str(choices[int(chance.integers(len(choices)))])))
        else:
            yield f"try {int(chance.integers(10))}"


def _as_text(observation: Any) -> str:
    return observation if isinstance(observation, str) else str(observation["text"])


def _text_leaves(value: Any) -> Iterator[str]:
    """Yield the texts in a nested value that are long enough to be a fact and no coincidence."""
    if isinstance(value, str) and len(value) >= 8:
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _text_leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _text_leaves(item)


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    one = Probe(request["env_id"], request["kwargs"], episodes=1, random_ceiling=1.0)
    print(json.dumps([episode_digest(one.make(), seed) for seed in request["seeds"]]))
