"""Which episodes to show, before and after, and each turn as the page shows it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from agentgym.report.record import RunRecord
from agentgym.trajectory import Trajectory, Turn

GAINED, LOST, STILL_LOST, STILL_WON, ALONE = "gained", "lost", "still lost", "still won", "one evaluation"
PAIRS = 12
_SHARES = {GAINED: 6, LOST: 3, STILL_LOST: 2, STILL_WON: 1, ALONE: 12}
_TEXT_LIMIT = 6_000  # characters of one observation or action that the page shows


@dataclass(frozen=True)
class TurnView:
    """One turn, its texts safe to show but not yet escaped.

    Attributes:
        observation: What the model read.
        action: What it said.
        flags: What went wrong with it, e.g. ``no move``.
        rewards: Each reward that is not 0, e.g. ``outcome +1``.
        probabilities: Probability of each sampled token under the sampler.
    """

    observation: str
    action: str
    flags: tuple[str, ...]
    rewards: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class EpisodeView:
    """One episode; ``won`` is ``None`` if it could not be graded."""

    title: str
    won: bool | None
    outcome: str
    turns: tuple[TurnView, ...]
    last_words: str


@dataclass(frozen=True)
class Pair:
    """The same task before and after; one of them may be missing."""

    change: str
    task_id: str
    kind: str
    system_prompt: str
    episodes: tuple[EpisodeView, ...]


@dataclass(frozen=True)
class PairTable:
    """How many tasks changed how, and the pairs that are shown."""

    counts: dict[str, int]
    pairs: tuple[Pair, ...]


def pick_pairs(run: RunRecord, limit: int = PAIRS) -> PairTable:
    """Choose what to read: first tasks that were lost before and won after, then tasks lost again, then the others.

    Kinds of tasks take turns, so that one kind does not fill the page. The choice depends on outcomes alone.
    """
    points = [point for point in (run.first, run.last) if point is not None and run.episodes.get(point.label)]
    columns = [{(t.task_id, t.seed): t for t in run.episodes[point.label] if t.scorable} for point in points]
    if not columns:
        return PairTable({}, ())
    titles = [f"Before, update {p.step}" if p is run.first else f"After, update {p.step}" for p in points]
    sorted_out: dict[str, list[tuple[Trajectory, ...]]] = {name: [] for name in _SHARES}
    for key, trajectory in columns[0].items():
        if len(columns) == 1:
            sorted_out[ALONE].append((trajectory,))
        elif (other := columns[1].get(key)) is not None:
            sorted_out[_change(trajectory, other)].append((trajectory, other))
    queues = {name: _alternate_kinds(found) for name, found in sorted_out.items()}
    chosen = {name: queue[: min(limit, _SHARES[name])] for name, queue in queues.items()}
    for name, queue in queues.items():  # what one change leaves free, the others take
        free = limit - sum(map(len, chosen.values()))
        have = len(chosen[name])
        chosen[name] += queue[have : have + max(0, free)]
    pairs = [_view_pair(name, found, titles) for name, group in chosen.items() for found in group]
    return PairTable({name: len(found) for name, found in sorted_out.items() if found}, tuple(pairs[:limit]))


def visible(text: str) -> str:
    """Write control characters out: escapes, lone surrogates and marks that turn the direction of text around."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs") else ascii(char)[1:-1]
        for char in text
    )


def _change(before: Trajectory, after: Trajectory) -> str:
    if after.success:
        return STILL_WON if before.success else GAINED
    return LOST if before.success else STILL_LOST


def _alternate_kinds(found: Sequence[tuple[Trajectory, ...]]) -> list[tuple[Trajectory, ...]]:
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int, tuple[Trajectory, ...]]] = []
    for place, pair in enumerate(found):
        kind = pair[0].kind
        ranked.append((seen.get(kind, 0), place, pair))
        seen[kind] = seen.get(kind, 0) + 1
    return [pair for _, _, pair in sorted(ranked, key=lambda entry: entry[:2])]


def _view_pair(change: str, found: Sequence[Trajectory], titles: Sequence[str]) -> Pair:
    first = found[0]
    views = tuple(_view_episode(trajectory, title) for trajectory, title in zip(found, titles, strict=True))
    return Pair(change, visible(first.task_id), visible(first.kind), _shorten(first.system_prompt), views)


def _view_episode(trajectory: Trajectory, title: str) -> EpisodeView:
    won = {True: "won", False: "lost", None: "not graded"}[trajectory.success]
    cut = {"truncated": ", cut off by a limit", "context": ", the model's context was full"}.get(trajectory.ended, "")
    turns = len(trajectory.turns)
    outcome = f"{won}{cut}; return {trajectory.episode_return:g} in {turns} turn{'s' if turns != 1 else ''}"
    return EpisodeView(
        title=title,
        won=trajectory.success,
        outcome=outcome,
        turns=tuple(_view_turn(turn) for turn in trajectory.turns),
        last_words=_shorten(trajectory.final_observation),
    )


def _view_turn(turn: Turn) -> TurnView:
    flags = ("no move",) if turn.invalid_action else () if turn.executable else ("refused by the world",)
    return TurnView(
        observation=_shorten(turn.observation),
        action=_shorten(turn.action),
        flags=flags,
        rewards=tuple(f"{visible(name)} {value:+g}" for name, value in turn.reward_terms.items() if value),
        probabilities=tuple(math.exp(min(0.0, value)) for value in turn.logprobs if not math.isnan(value)),
    )


def _shorten(text: str) -> str:
    if len(text) <= _TEXT_LIMIT:
        return visible(text)
    return visible(text[:_TEXT_LIMIT]) + f"\n… {len(text) - _TEXT_LIMIT} more characters"
