"""A reward method as a Gymnasium wrapper, for any environment in text and any agent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import OUTCOME, TrajectoryReward, check_finite, place
from agentgym.trajectory import Trajectory, Turn


class RewardWrapper(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Pays what a reward method says, instead of what the environment pays.

    It writes the episode down while it is played. A method whose terms depend on nothing later is paid at each step;
    any other pays 0 until the last step, and then all of it. An environment that gives no ``info["reward_terms"]`` has
    one term, ``outcome``, which is its reward.

    Every step's ``info`` has ``reward_terms`` (what is paid, by name), ``raw_reward_terms`` (the environment's own) and
    ``measures`` (what the method took and did not pay); at the last step of a method that pays at the end, terms and
    measures are the episode's sums. A step of one that pays later has neither.

    Under ``gymnasium.make_vec`` give it as ``wrappers=[functools.partial(RewardWrapper, method=...)]``.

    Args:
        env: Its observations are text, or mappings with ``"text"``.
        method: Shapes single episodes. One that needs a model has been bound to it.

    Raises:
        RewardError: The method compares the episodes of a group.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], method: TrajectoryReward) -> None:
        if method.needs_group:
            raise RewardError(
                f"{type(method).__name__} compares the episodes of a group, and a wrapper sees one at a time: "
                "give it to a training recipe ([[reward]]), or call it with a list of trajectories"
            )
        RecordConstructorArgs.__init__(self, _disable_deepcopy=True, method=method)
        super().__init__(env)
        self.method = method
        self._raw = Trajectory("", "", "")
        self._episode: Trajectory | None = None
        self._said = self._state_key = ""

    @property
    def trajectory(self) -> Trajectory:
        """The running or last episode, as far as it was paid.

        Raises:
            RewardError: There was none yet.
        """
        if self._episode is None:
            raise RewardError("there is no episode yet: call reset()")
        return self._episode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._episode = None
        observation, info = self.env.reset(seed=seed, options=options)
        task = info.get("task", {})
        self._raw = Trajectory(
            env_id=self.env.spec.id if self.env.spec else type(self.unwrapped).__name__,
            task_id=str(task.get("id", "")),
            split=str(task.get("split", "")),
            kind=str(task.get("kind", "")),
            seed=seed or 0,
            system_prompt=str(info.get("system_prompt", "")),
            privileged=dict(info.get("privileged", {})),
        )
        self._episode = self._raw
        self._said = self._text(observation)
        self._state_key = str(info.get("state_key", ""))
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one turn.

        Raises:
            RewardError: The environment's reward is not finite or not the sum of its terms, an observation is no text,
                or the method lacks something.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        over = terminated or truncated
        self._record(str(action), float(reward), info)
        self._said = self._text(observation)
        self._raw = _ended(self._raw, self._said, info, over=over, terminated=terminated)
        terms, measures = self._pay(over)
        paid = {
            **info,
            "reward_terms": terms,
            "raw_reward_terms": info.get("raw_reward_terms", dict(self._raw.turns[-1].reward_terms)),
            "measures": {**info.get("measures", {}), **measures},
        }
        return observation, float(sum(terms.values())), terminated, truncated, paid

    def _record(self, action: str, reward: float, info: Mapping[str, Any]) -> None:
        number = len(self._raw.turns)
        terms = {str(k): float(v) for k, v in info.get("reward_terms", {OUTCOME: reward}).items()}
        turn = Turn(
            observation=self._said,
            action=action,
            reward_terms=terms,
            measures=info.get("measures", {}),
            state_key=self._state_key,
            executable=bool(info.get("executable", True)),
            invalid_action=bool(info.get("invalid_action", False)),
        )
        self._raw = replace(self._raw, turns=(*self._raw.turns, turn))
        check_finite(self._raw)
        if not math.isclose(sum(terms.values()), reward, rel_tol=1e-5, abs_tol=1e-6):
            raise RewardError(
                f"{place(self._raw, number)}: the reward is {reward:g}, but its terms {terms} add up to "
                f"{sum(terms.values()):g}; did a wrapper that knows no terms change it? Put that one outside"
            )
        self._state_key = str(info.get("state_key", ""))

    def _pay(self, over: bool) -> tuple[dict[str, float], dict[str, float]]:
        if not (over or self.method.causal):
            self._episode = self._raw
            return {}, {}
        self._episode = shaped = self.method.shape(self._raw)
        if self.method.causal:
            last = shaped.turns[-1]
            return dict(last.reward_terms), dict(last.measures)
        return shaped.reward_terms, shaped.measures

    def _text(self, observation: Any) -> str:
        text = observation.get("text") if isinstance(observation, Mapping) else observation
        if not isinstance(text, str):
            raise RewardError(
                f"{type(self.unwrapped).__name__} shows {type(observation).__name__}: an observation is text, or a "
                'mapping with "text"'
            )
        return text


def _ended(
    trajectory: Trajectory, observation: str, info: Mapping[str, Any], *, over: bool, terminated: bool
) -> Trajectory:
    """Return the episode as it stands after a turn; the success is known at its end only."""
    success = info.get("success") if over else None
    return replace(
        trajectory,
        final_observation=observation,
        final_state_key=str(info.get("state_key", "")),
        success=None if success is None else bool(success),
        ended=("terminated" if terminated else "truncated") if over else "running",
    )
