"""Accuracy on screens as the papers give it: by platform or group and by text or icon, from played episodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agentgym.errors import UsageError
from agentgym.trajectory import Trajectory


@dataclass(frozen=True)
class Cell:
    """How many of the answers to one kind of question hit."""

    hits: int
    count: int

    @property
    def accuracy(self) -> float:
        """Share of hits."""
        return self.hits / self.count


def accuracy_by_kind(trajectories: Iterable[Trajectory]) -> dict[str, Cell]:
    """Count hits by kind (``desktop/text``), by its parts (``desktop``, ``text``), and over all.

    An answer that could not be read is a miss, as the papers count it; an episode that a fault of ours ended is left
    out. ``all`` is over questions (ScreenSpot-v2, ScreenSpot-Pro); SeeClick's mean is that of :func:`mean_of_cells`.

    Raises:
        UsageError: There is no graded episode.
    """
    counts: dict[str, list[int]] = {}
    for trajectory in trajectories:
        if not trajectory.scorable:
            continue
        for kind in dict.fromkeys((trajectory.kind, *trajectory.kind.split("/"), "all")):
            cell = counts.setdefault(kind, [0, 0])
            cell[0] += bool(trajectory.success)
            cell[1] += 1
    if not counts:
        raise UsageError("there is no episode that could be graded")
    return {kind: Cell(*counts[kind]) for kind in sorted(counts, key=lambda kind: (kind == "all", kind))}


def mean_of_cells(cells: dict[str, Cell]) -> float:
    """Return the mean accuracy over platform-and-type cells, as SeeClick's paper averages (arXiv 2401.10935)."""
    own = [cell.accuracy for kind, cell in cells.items() if "/" in kind]
    if not own:
        raise UsageError("no kind has a platform and a type")
    return sum(own) / len(own)


def report(trajectories: Iterable[Trajectory]) -> str:
    """Return the accuracies as a Markdown table."""
    cells = accuracy_by_kind(trajectories)
    rows = [f"| {kind} | {cell.accuracy:.1%} | {cell.hits} | {cell.count} |" for kind, cell in cells.items()]
    return "\n".join(["| kind | accuracy | hits | n |", "|-|-:|-:|-:|", *rows])
