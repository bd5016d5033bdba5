"""ONI: an intrinsic reward for what the world says, which wears off the more often it says so."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from agentgym.errors import RewardError
from agentgym.rewards.terms import check_number, import_function, measure, pay, states_after
from agentgym.rewards.trajectory_reward import TrajectoryReward, place, raw_measures
from agentgym.trajectory import Trajectory, Turn

Label = Callable[[str], float]


class Oni(TrajectoryReward):
    """Pays ``weight * label(message) * count(message) ** -exponent`` and scales what is paid else (2410.23022).

    Labels come from a language model that was asked which messages are good news. The paper's hash-table variant gives
    a message that was never labelled 0, and so does a mapping here; a function stands for its classifier and ranker.
    ``count`` is how often the episode has seen the message, this time included. Design: the exponent's default.

    Args:
        labels: Mapping from message to label; the path of such a mapping as JSON; or a function of the message, or the
            ``"package.module:function"`` that imports it.
        message: Reads the message from the turn that shows it; by default its whole observation, stripped.
        weight: Of the intrinsic reward; the paper's.
        extrinsic_weight: What every term that is paid already is multiplied by; the paper takes 10 on sparse tasks and
            0.1 on the game's score.
        exponent: How fast the reward wears off; 0: never.
        term: Name of the term that is paid; the label is measured as ``<term>_label``.

    Raises:
        RewardError: A setting cannot be, or the labels cannot be read.
    """

    causal = True

    def __init__(
        self,
        labels: Mapping[str, float] | str | os.PathLike[str] | Label,
        *,
        message: str | Callable[[Turn], str] | None = None,
        weight: float = 0.4,
        extrinsic_weight: float = 10.0,
        exponent: float = 0.5,
        term: str = "oni",
    ) -> None:
        for name, value in (("weight", weight), ("extrinsic_weight", extrinsic_weight), ("exponent", exponent)):
            check_number(value, f"oni: {name}")
        if exponent < 0:
            raise RewardError(f"oni: what is seen often would pay more and more with an exponent of {exponent}")
        self.label = _read_labels(labels)
        self.message: Callable[[Turn], str] = (
            _whole if message is None else import_function(message) if isinstance(message, str) else message
        )
        self.weight, self.extrinsic_weight, self.exponent, self.term = weight, extrinsic_weight, exponent, term

    def shape(self, trajectory: Trajectory) -> Trajectory:
        """Pay each turn for the message that it was answered with.

        Raises:
            RewardError: A label or a term is not finite.
        """
        seen: Counter[str] = Counter()
        labels, paid = [], []
        for number, after in enumerate(states_after(trajectory)):
            message = self.message(after)
            seen[message] += 1
            label = check_number(float(self.label(message)), f"{place(trajectory, number)}: label of {message!r}")
            labels.append(label)
            paid.append(self.weight * count_scaled(label, seen[message], self.exponent))
        turns = tuple(
            replace(
                turn,
                reward_terms={name: self.extrinsic_weight * value for name, value in turn.reward_terms.items()},
                measures={**raw_measures(turn), **turn.measures},
            )
            for turn in trajectory.turns
        )
        return pay(measure(replace(trajectory, turns=turns), f"{self.term}_label", labels), self.term, paid)


def count_scaled(label: float, count: int, exponent: float) -> float:
    """Return ``label * count ** -exponent``."""
    return float(label * count**-exponent)


def _whole(turn: Turn) -> str:
    return turn.observation.strip()


def _read_labels(labels: Mapping[str, float] | str | os.PathLike[str] | Label) -> Label:
    if isinstance(labels, str) and ":" in labels and not Path(labels).exists():
        return import_function(labels)
    if isinstance(labels, str | os.PathLike):
        try:
            labels = json.loads(Path(labels).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RewardError(f"oni cannot read labels: {error}") from error
        if not isinstance(labels, dict) or not all(isinstance(value, int | float) for value in labels.values()):
            raise RewardError("oni: the file of labels is no JSON object from message to number")
    if isinstance(labels, Mapping):
        table = dict(labels)
        return lambda message: table.get(message, 0.0)
    return labels
