"""Rollout: many episodes at once against one policy, where none waits for another.

Each episode is a coroutine in a lane. A lane's environment runs in a thread of its own or in another process, so an
episode that waits for its world leaves the policy free for the others; a policy that batches (vLLM) sees every request
the moment it is made.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import gymnasium

from agentgym.actions import ActionFormat, Move
from agentgym.env import AgentEnv, Observation
from agentgym.errors import AgentGymError, ContextLimitError, InfrastructureError
from agentgym.pictures import PictureFolder
from agentgym.policy import Completion, Dialogue, Message, Policy
from agentgym.trajectory import Ending, Mark, Trajectory, Turn

logger = logging.getLogger(__name__)

EnvFactory = Callable[[], gymnasium.Env[Any, str]]


@dataclass(frozen=True)
class Episode:
    """What to play.

    Attributes:
        env_id: Id to write into the trajectory.
        split: Split of the task.
        task_id: The task; ``None`` draws one by the seed.
        seed: Seed of ``reset`` and of the policy's own chance.
        group: Group that the trajectory belongs to.
        number: Which episode of its run it is, which seeds a policy's chance; ``None`` is its place in the call.
        policy_version: Number of weight updates behind the sampler.
    """

    env_id: str
    split: str
    task_id: str | None = None
    seed: int = 0
    group: str = ""
    number: int | None = None
    policy_version: int = 0


@dataclass
class _Record:
    """A trajectory in the making."""

    episode: Episode
    dialogue: Dialogue
    task: dict[str, Any]
    privileged: dict[str, Any]
    pictures: PictureFolder | None = None
    image: str = ""
    turns: list[Turn] = field(default_factory=list)
    success: bool | None = None
    started_s: float = field(default_factory=time.monotonic)

    async def see(self, observation: Observation) -> None:
        """Keep the picture of an observation, off the event loop's thread."""
        self.image = ""
        if self.pictures is not None and not isinstance(observation, str) and "image" in observation:
            self.image = await asyncio.to_thread(self.pictures.keep, observation["image"])

    def finish(self, policy: Policy, ended: Ending, error: str = "") -> Trajectory:
        last = self.dialogue.messages[-1] if self.dialogue.messages else Message("user", "")
        return Trajectory(
            env_id=self.episode.env_id,
            task_id=str(self.task.get("id", self.episode.task_id or "")),
            split=str(self.task.get("split", self.episode.split)),
            kind=str(self.task.get("kind", "")),
            seed=self.episode.seed,
            group=self.episode.group,
            policy=policy.name,
            policy_version=self.episode.policy_version,
            system_prompt=self.dialogue.system_prompt,
            turns=tuple(self.turns),
            final_observation=last.content if last.role == "user" else "",
            final_image=self.image,
            final_state_key=str(self.dialogue.info.get("state_key", "")),
            success=self.success,
            ended=ended,
            error=error,
            privileged=self.privileged,
            duration_s=time.monotonic() - self.started_s,
        )


class Lane(Protocol):
    """One environment, which plays an episode at a time."""

    @property
    def home(self) -> object:
        """Where the environment lives; lanes of one home share what its engine remembers."""
        ...

    @property
    def action_format(self) -> ActionFormat:
        """How the environment reads actions; known after the first reset."""
        ...

    async def reset(self, seed: int, options: dict[str, Any]) -> tuple[Observation, dict[str, Any]]:
        """Start an episode."""
        ...

    async def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one turn."""
        ...

    async def expert_move(self) -> Move:
        """Return the scripted expert's move in the present state."""
        ...

    async def replace(self) -> None:
        """Throw the environment away after a fault; the next reset makes a new one."""
        ...

    def close(self) -> None:
        """Close the environment."""
        ...


class ThreadLane:
    """A lane whose environment lives in a thread of its own; it is made at the first reset."""

    home = None

    def __init__(self, make_env: EnvFactory) -> None:
        self._make_env = make_env
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentgym-env")
        self._env: gymnasium.Env[Any, str] | None = None

    @property
    def action_format(self) -> ActionFormat:
        """How the environment reads actions; known after the first reset."""
        return self._base().action_format

    async def reset(self, seed: int, options: dict[str, Any]) -> tuple[Observation, dict[str, Any]]:
        """Start an episode."""
        observation, info = await self._call(lambda env: env.reset(seed=seed, options=options))
        return observation, info

    async def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one turn."""
        observation, reward, terminated, truncated, info = await self._call(lambda env: env.step(action))
        return observation, reward, terminated, truncated, info

    async def expert_move(self) -> Move:
        """Return the scripted expert's move in the present state."""
        move: Move = await self._call(lambda _: self._base().expert_move())
        return move

    async def replace(self) -> None:
        """Throw the environment away after a fault; the next reset makes a new one."""
        env, self._env = self._env, None
        if env is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, env.close)

    def close(self) -> None:
        """Close the environment and end the thread."""
        if self._env is not None:
            self._thread.submit(self._env.close).result()
        self._thread.shutdown()

    def _base(self) -> AgentEnv:
        assert self._env is not None
        return cast(AgentEnv, self._env.unwrapped)

    async def _call(self, work: Callable[[gymnasium.Env[Any, str]], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)

    def _do(self, work: Callable[[gymnasium.Env[Any, str]], Any]) -> Any:
        if self._env is None:
            self._env = self._make_env()
        try:
            return work(self._env)
        except AgentGymError:
            raise
        except Exception as error:  # the engine's own fault: one episode is masked, the others go on
            logger.exception("an environment crashed; its episode is masked and the environment made anew")
            raise InfrastructureError(f"the environment crashed: {type(error).__name__}: {error}") from error


async def play_episode(
    episode: Episode, lane: Lane, policy: Policy, pictures: PictureFolder | None = None
) -> Trajectory:
    """Play one episode to its end; ``pictures`` keeps what was seen.

    Returns:
        The trajectory. A fault of ours ends it with ``ended="infrastructure"`` and no success; it does not raise.
    """
    record = _Record(episode, Dialogue(episode.number or 0, episode.seed), {}, {}, pictures)
    try:
        await _open(record, lane)
        while True:
            ended = await _take_turn(record, lane, policy)
            if ended is not None:
                return record.finish(policy, ended)
    except ContextLimitError:
        record.success = False
        return record.finish(policy, "context")
    except InfrastructureError as error:
        await lane.replace()
        record.success = None
        return record.finish(policy, "infrastructure", f"{type(error).__name__}: {error}")


async def _open(record: _Record, lane: Lane) -> None:
    episode = record.episode
    options: dict[str, Any] = {"split": episode.split}
    if episode.task_id is not None:
        options["task_id"] = episode.task_id
    observation, info = await lane.reset(episode.seed, options)
    record.task, record.privileged = dict(info["task"]), dict(info.get("privileged", {}))
    await record.see(observation)
    record.dialogue = Dialogue(
        episode=episode.number or 0,
        seed=episode.seed,
        system_prompt=info.get("system_prompt", ""),
        action_format=lane.action_format,
        messages=[Message("user", _text(observation))],
        info=info,
        task_id=record.task["id"],
        expert=lane.expert_move,
    )


async def _take_turn(record: _Record, lane: Lane, policy: Policy) -> Ending | None:
    dialogue = record.dialogue
    before_s = time.monotonic()
    said = await policy.act(dialogue)
    acted_s = time.monotonic()
    observation, _, terminated, truncated, info = await lane.step(said.text)
    stepped_s = time.monotonic()
    record.turns.append(_turn(record, said, info, acted_s - before_s, stepped_s - acted_s))
    await record.see(observation)
    dialogue.token_ids += [*said.prompt_ids, *said.token_ids]
    dialogue.closed = said.finish_reason == "stop"
    dialogue.messages += [Message("assistant", said.text), Message("user", _text(observation))]
    dialogue.info = info
    if not (terminated or truncated):
        return None
    record.success = bool(info["success"]) if "success" in info else None
    return "terminated" if terminated else "truncated"


def _turn(record: _Record, said: Completion, info: dict[str, Any], policy_s: float, env_s: float) -> Turn:
    dialogue = record.dialogue
    start = len(dialogue.token_ids) + len(said.prompt_ids)
    return Turn(
        observation=dialogue.observation,
        action=said.text,
        prompt_ids=said.prompt_ids,
        token_ids=said.token_ids,
        logprobs=said.logprobs,
        span=(start, start + len(said.token_ids)),
        reward_terms=dict(info["reward_terms"]),
        measures=dict(info.get("measures", {})),
        state_key=str(dialogue.info.get("state_key", "")),
        executable=bool(info["executable"]),
        invalid_action=bool(info["invalid_action"]),
        mistake=said.mistake,
        image=record.image,
        mark=Mark(info["mark"]["kind"], tuple(info["mark"]["place"])) if "mark" in info else None,
        policy_s=policy_s,
        env_s=env_s,
    )


def _text(observation: Observation) -> str:
    return observation if isinstance(observation, str) else str(observation["text"])


class _Deal:
    """Deals out episodes to homes: those of one task to the same home, where its game was loaded already.

    With one home, and for episodes of no particular task, the order is that of the list. A home that has nothing left
    of its own helps the one with the most.
    """

    def __init__(self, episodes: Sequence[Episode], homes: Collection[object]) -> None:
        groups: dict[Any, deque[int]] = {}
        for place, episode in enumerate(episodes):
            alone = episode.task_id is None or len(homes) == 1
            groups.setdefault(place if alone else (episode.split, episode.task_id), deque()).append(place)
        self._fresh = deque(groups.values())
        self._started: dict[object, deque[int]] = {home: deque() for home in homes}

    def take(self, home: object) -> int | None:
        """Return the place in the list of what to play next there; ``None`` if all is dealt out."""
        own = self._started[home]
        if not own and self._fresh:
            own += self._fresh.popleft()
        if not own:
            own = max(self._started.values(), key=len)
        return own.popleft() if own else None


class Rollout:
    """A set of lanes that plays episodes, reused from batch to batch.

    Args:
        worlds: Makes one environment; or the lanes themselves, which are closed with the rollout.
        policy: Acts in all of them.
        concurrency: Episodes in flight, each in a lane with an environment of its own; lanes that are given count.

    Attributes:
        pictures: Keeps the pictures that are seen, if set.
    """

    def __init__(self, worlds: EnvFactory | Sequence[Lane], policy: Policy, concurrency: int = 8) -> None:
        self.policy = policy
        self.pictures: PictureFolder | None = None
        self._lanes = [ThreadLane(worlds) for _ in range(max(1, concurrency))] if callable(worlds) else list(worlds)

    async def play(
        self, episodes: Sequence[Episode], on_done: Callable[[Trajectory], None] | None = None
    ) -> list[Trajectory]:
        """Play the episodes.

        Args:
            episodes: What to play.
            on_done: Called with each trajectory the moment it ends, in order of ending.

        Returns:
            The trajectories in the episodes' order.
        """
        finished: dict[int, Trajectory] = {}
        numbered = [e if e.number is not None else replace(e, number=i) for i, e in enumerate(episodes)]
        deal = _Deal(numbered, {lane.home for lane in self._lanes})

        async def work(lane: Lane) -> None:
            while (place := deal.take(lane.home)) is not None:
                finished[place] = trajectory = await play_episode(numbered[place], lane, self.policy, self.pictures)
                if on_done is not None:
                    on_done(trajectory)

        try:
            async with asyncio.TaskGroup() as group:
                for lane in self._lanes:
                    group.create_task(work(lane))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return [finished[i] for i in range(len(episodes))]

    def close(self) -> None:
        """Close the environments and where they live; the policy is the caller's."""
        for lane in self._lanes:
            lane.close()
