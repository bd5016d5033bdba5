"""Episodes as one HTML page that plays them turn by turn: picture, mark of the action, text, rewards.

The page needs no network and no file beside it. As in a report, all that an environment or a model said is escaped, and
no script but the page's own runs.
"""

from __future__ import annotations

import base64
import importlib.util
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentgym.errors import UsageError
from agentgym.pictures import pictures_beside
from agentgym.report.episodes import visible
from agentgym.report.page import render_page
from agentgym.report.record import load_run
from agentgym.trajectory import Trajectory, Turn, read_trajectories
from agentgym.whole_file import write_whole

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_PICTURES_MB = 200
_TEXT_LIMIT = 50_000  # characters of one observation that the page holds


@dataclass(frozen=True)
class Reel:
    """Episodes to show in one list, and where their pictures are."""

    title: str
    episodes: Sequence[Trajectory]
    pictures: Path


@dataclass
class _Cutting:
    """Pictures that the page holds, each once, and those that it does not."""

    held: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    size: int = 0
    missing: int = 0
    left_out: int = 0

    def add(self, folder: Path, name: str) -> str:
        """Take a picture in and return the key by which a turn names it; empty if it cannot be shown."""
        if not name or name in self.held:
            return name
        path = folder / name
        # A file of trajectories may come from elsewhere; it names nothing outside of its own folder.
        data = path.read_bytes() if path.parent == folder and path.suffix == ".png" and path.is_file() else b""
        if len(data) < 24 or not data.startswith(_PNG):
            self.missing += 1
            return ""
        if self.size + len(data) > _MOST_PICTURES_MB << 20:
            self.left_out += 1
            return ""
        width, height = struct.unpack(">II", data[16:24])
        self.size += len(data)
        self.held[name] = {
            "src": f"data:image/png;base64,{base64.b64encode(data).decode()}",
            "width": width,
            "height": height,
        }
        return name


def open_reels(source: Path) -> list[Reel]:
    """Read a file of trajectories, or the first and the last evaluation of a run's directory.

    Raises:
        UsageError: There is nothing there, or no episode in it.
        TrajectoryFileError: The file is no file of trajectories.
    """
    if source.is_dir():
        run = load_run(source)
        found = [
            Reel(
                f"{label}, {len(episodes)} episodes", episodes, pictures_beside(source / "episodes" / f"{label}.jsonl")
            )
            for label, episodes in run.episodes.items()
        ]
        if not any(reel.episodes for reel in found):
            raise UsageError(f"{source} holds no episodes yet: {' '.join(run.notes) or 'no evaluation was done'}")
        return found
    if not source.exists():
        raise UsageError(
            f"there is no {source}: give a file that `agentgym run` wrote, or a directory that `agentgym train` wrote"
        )
    episodes = list(read_trajectories(source))
    if not episodes:
        raise UsageError(f"{source} holds no episodes")
    return [Reel(source.name, episodes, pictures_beside(source))]


def write_player(reels: Sequence[Reel], page: Path) -> Path:
    """Write the page.

    Args:
        reels: What it lets one choose from.
        page: File to write, replaced as a whole.

    Raises:
        UsageError: Jinja2 is not installed.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise UsageError("watching episodes needs jinja2: pip install 'agentgym-core[train]'")
    cutting = _Cutting()
    episodes = [
        {"reel": number, **_episode(trajectory, reel.pictures, cutting)}
        for number, reel in enumerate(reels)
        for trajectory in reel.episodes
    ]
    values = {
        "title": visible(reels[0].title if len(reels) == 1 else reels[0].episodes[0].env_id),
        "data": {"reels": [visible(reel.title) for reel in reels], "episodes": episodes, "pictures": cutting.held},
        "notes": _notes(cutting),
    }
    text = render_page("player.html.jinja", values, styles=("page.css", "player.css"), script="player.js")
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, text)
    return page


def _notes(cutting: _Cutting) -> list[str]:
    notes = []
    if cutting.missing:
        notes.append(f"{cutting.missing} pictures are not in the folder beside the trajectories, or are no PNG files.")
    if cutting.left_out:
        notes.append(f"{cutting.left_out} pictures were left out of a page that holds {_MOST_PICTURES_MB} MB: "
                     "choose episodes with --episode.")  # fmt: skip
    return notes


def _episode(trajectory: Trajectory, pictures: Path, cutting: _Cutting) -> dict[str, Any]:
    outcome = {True: "won", False: "lost", None: "not graded"}[trajectory.success]
    turns = [_turn(turn, pictures, cutting) for turn in trajectory.turns]
    return {
        "env": visible(trajectory.env_id),
        "task": visible(trajectory.task_id),
        "facts": f"{visible(trajectory.split)} · seed {trajectory.seed} · policy {visible(trajectory.policy)} "
        f"(version {trajectory.policy_version}) · {trajectory.duration_s:.1f} s",
        "won": trajectory.success,
        "outcome": f"{outcome}, {trajectory.ended}, return {trajectory.episode_return:g}",
        "error": visible(trajectory.error),
        "system": _cut(trajectory.system_prompt),
        "target": _target(trajectory, cutting),
        "turns": turns,
        "last": {
            "text": _cut(trajectory.final_observation),
            "picture": cutting.add(pictures, trajectory.final_image),
        },
    }


def _turn(turn: Turn, pictures: Path, cutting: _Cutting) -> dict[str, Any]:
    return {
        "text": _cut(turn.observation),
        "action": _cut(turn.action),
        "picture": cutting.add(pictures, turn.image),
        "mark": None if turn.mark is None else {"kind": turn.mark.kind, "place": turn.mark.place},
        "invalid": turn.invalid_action,
        "refused": not turn.executable,
        "mistake": turn.mistake,
        "rewards": [f"{visible(name)} {value:+g}" for name, value in turn.reward_terms.items() if value],
        "reward": turn.reward,
        "facts": f"{len(turn.token_ids)} tokens · " * bool(turn.token_ids)
        + f"policy {turn.policy_s:.2f} s · environment {turn.env_s:.2f} s",
    }


def _target(trajectory: Trajectory, cutting: _Cutting) -> list[float] | None:
    """Return the box that a grounding task asked for, as privileged ground truth has it, on the first picture.

    Later pictures may show a part of the screen.
    """
    box, size = _numbers(trajectory.privileged.get("box"), 4), _numbers(trajectory.privileged.get("size"), 2)
    first = cutting.held.get(trajectory.turns[0].image) if trajectory.turns else None
    if first is None or not box or not size or min(size) <= 0:
        return None
    return [side * (first["width"], first["height"])[i % 2] / size[i % 2] for i, side in enumerate(box)]


def _numbers(value: Any, count: int) -> list[float]:
    found = value if isinstance(value, list | tuple) and len(value) == count else ()
    return list(found) if all(isinstance(number, int | float) for number in found) else []


def _cut(text: str) -> str:
    if len(text) <= _TEXT_LIMIT:
        return visible(text)
    return visible(text[:_TEXT_LIMIT]) + f"\n… {len(text) - _TEXT_LIMIT} more characters"
