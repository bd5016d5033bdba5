"""Trajectory: the one data type from rollout to reward to loss to leaderboard."""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from agentgym.errors import TrajectoryFileError

Ending = Literal["terminated", "truncated", "context", "infrastructure", "running"]


@dataclass(frozen=True)
class Mark:
    """Where on the picture before it a move acted.

    Attributes:
        kind: ``point``; ``drag``, from the first point to the second; ``box``, by two opposite corners.
        place: ``(x, y)``, or ``(x1, y1, x2, y2)``, in pixels of the picture.
    """

    kind: Literal["point", "drag", "box"]
    place: tuple[float, ...]


@dataclass(frozen=True)
class Turn:
    """One observation and what was said to it.

    Attributes:
        observation: Text that the policy read before acting.
        action: What it said.
        prompt_ids: Token ids that the environment's side appended before this action: observation and template.
        token_ids: Exact ids that the policy sampled.
        logprobs: Log-probability of each sampled id under the sampler, natural log, same length.
        span: Half-open interval that the sampled ids occupy in the whole token sequence.
        reward_terms: Named rewards paid for this action.
        measures: Named figures that the environment or a reward method took of this turn and did not pay.
        state_key: State of the world *before* the action; the anchor of step-level estimators.
        executable: The action acted on the world.
        invalid_action: The text was no move.
        mistake: A slip on purpose, to show how to recover; imitated only where a recipe asks for it.
        image: Name of the picture that was seen before the action, in the folder beside the file
            (:func:`agentgym.pictures.pictures_beside`); empty if there was none or it was not kept.
        mark: Where the action acted on that picture, if the environment says so.
        policy_s: Seconds that the policy took.
        env_s: Seconds that the environment took.
    """

    observation: str
    action: str
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    span: tuple[int, int] = (0, 0)
    reward_terms: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    state_key: str = ""
    executable: bool = True
    invalid_action: bool = False
    mistake: bool = False
    image: str = ""
    mark: Mark | None = None
    policy_s: float = 0.0
    env_s: float = 0.0

    @property
    def reward(self) -> float:
        """Sum of the reward terms."""
        return float(sum(self.reward_terms.values()))


@dataclass(frozen=True)
class Trajectory:
    """One episode, whole.

    Attributes:
        env_id: Gymnasium id of the environment.
        task_id: Task that was played.
        split: Its split.
        kind: Its family.
        seed: Seed given to ``reset``.
        group: Episodes of one group share task and seed; empty outside training.
        policy: Name of the policy.
        policy_version: Number of weight updates behind the sampler at the start of the episode.
        system_prompt: What the model was told first.
        turns: The turns in order.
        final_observation: What the environment said last.
        final_image: Name of the picture that was seen last, as in :class:`Turn`.
        final_state_key: State of the world after the last turn; empty if the engine cannot tell.
        success: Whether the task was done; ``None`` if it could not be graded.
        ended: ``terminated``: the task ended. ``truncated``: turn limit. ``context``: the model's window was full.
            ``infrastructure``: our fault; mask it, never score it. ``running``: not ended yet, as a wrapper sees it.
        error: What went wrong, for ``infrastructure``.
        privileged: Ground truth of the task, for rewards that need it.
        duration_s: Wall-clock seconds from reset to end.
    """

    env_id: str
    task_id: str
    split: str
    kind: str = ""
    seed: int = 0
    group: str = ""
    policy: str = ""
    policy_version: int = 0
    system_prompt: str = ""
    turns: tuple[Turn, ...] = ()
    final_observation: str = ""
    success: bool | None = None
    ended: Ending = "terminated"
    error: str = ""
    privileged: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0
    final_state_key: str = ""
    final_image: str = ""

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of all rewards."""
        return float(sum(turn.reward for turn in self.turns))

    @property
    def scorable(self) -> bool:
        """False if a fault of ours ended the episode."""
        return self.ended != "infrastructure"

    @property
    def reward_terms(self) -> dict[str, float]:
        """Each named reward, summed over the turns."""
        totals: dict[str, float] = {}
        for turn in self.turns:
            for name, value in turn.reward_terms.items():
                totals[name] = totals.get(name, 0.0) + value
        return totals

    @property
    def measures(self) -> dict[str, float]:
        """Each measure that reward methods took, summed over the turns."""
        totals: dict[str, float] = {}
        for turn in self.turns:
            for name, value in turn.measures.items():
                totals[name] = totals.get(name, 0.0) + value
        return totals

    @property
    def sampled_tokens(self) -> int:
        """Number of token ids that the policy sampled."""
        return sum(len(turn.token_ids) for turn in self.turns)

    def token_ids(self) -> tuple[list[int], list[int], list[float]]:
        """Lay the whole episode out as one sequence.

        Returns:
            ``ids``, ``mask`` and ``logprobs``, each of length L: mask is 1 on sampled ids and 0 on the environment's,
            logprobs are the sampler's on sampled ids and 0 elsewhere.
        """
        ids: list[int] = []
        mask: list[int] = []
        logprobs: list[float] = []
        for turn in self.turns:
            ids += turn.prompt_ids
            mask += [0] * len(turn.prompt_ids)
            logprobs += [0.0] * len(turn.prompt_ids)
            ids += turn.token_ids
            mask += [1] * len(turn.token_ids)
            logprobs += turn.logprobs
        return ids, mask, logprobs


@functools.cache
def _reader() -> Callable[[Any], Trajectory]:
    from pydantic import TypeAdapter  # a tenth of a second of import that only readers of files pay

    return TypeAdapter(Trajectory).validate_python


def dump_trajectory(trajectory: Trajectory) -> str:
    """Return one line of JSON, ASCII only, so that any text survives."""
    return json.dumps(asdict(trajectory), allow_nan=False, separators=(",", ":"), default=str)


def write_trajectories(
    path: str | os.PathLike[str], trajectories: Iterable[Trajectory], *, append: bool = False
) -> int:
    """Write trajectories as JSON lines, each flushed when written.

    Returns:
        How many were written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with open(path, "a" if append else "w", encoding="ascii") as file:
        for trajectory in trajectories:
            file.write(dump_trajectory(trajectory) + "\n")
            file.flush()
            count += 1
    return count


def read_trajectories(path: str | os.PathLike[str]) -> Iterator[Trajectory]:
    """Read trajectories from JSON lines.

    A last line without its newline was torn by a killed writer: it is left out, with a warning.

    Raises:
        TrajectoryFileError: The file is missing, or a line is no trajectory; the message names the line.
    """
    try:
        file = open(path, encoding="utf-8")  # noqa: SIM115  # closed by the with below; opened apart to type the error
    except OSError as error:
        raise TrajectoryFileError(f"cannot read trajectories: {error}") from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if not line.endswith("\n"):
                warnings.warn(f"{path}: line {number} is torn (its writer was killed) and was left out", stacklevel=2)
                return
            try:
                yield _reader()(json.loads(line))
            except ValueError as error:
                raise TrajectoryFileError(f"{path}: line {number} is no trajectory: {error}") from error


def mend_trajectories(path: str | os.PathLike[str]) -> int:
    """Cut off a last line that a killed writer tore, so that the file can be appended to.

    Returns:
        How many bytes were cut off; 0 for a whole file.

    Raises:
        TrajectoryFileError: The file cannot be opened for writing.
    """
    try:
        with open(path, "r+b") as file:
            end = file.seek(0, os.SEEK_END)
            whole = end
            while whole > 0:
                start = max(0, whole - 65_536)
                file.seek(start)
                newline = file.read(whole - start).rfind(b"\n")
                if newline >= 0:
                    whole = start + newline + 1
                    break
                whole = start
            file.truncate(whole)
            return end - whole
    except OSError as error:
        raise TrajectoryFileError(f"cannot mend trajectories: {error}") from error
