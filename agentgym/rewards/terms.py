"""How reward methods read figures of turns and episodes, and how they pay.

A figure is a function, or a text that a recipe can hold:

- ``"reward/<term>"``: what was paid under that name, 0 on a turn that was paid nothing;
- ``"measure/<name>"``: what an earlier method of the recipe measured, which must be there on every turn;
- ``"package.module:function"``: a function, imported.
"""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from agentgym.errors import RewardError
from agentgym.rewards.trajectory_reward import OUTCOME, check_finite, outcome_of, place, raw_measures, with_terms
from agentgym.trajectory import Trajectory, Turn

TurnFigure = str | Callable[[Turn], float]
EpisodeFigure = str | Callable[[Trajectory], float]
Figure = TypeVar("Figure", bound="str | Callable[..., Any]")
REWARD, MEASURE = "reward/", "measure/"


def import_function(name: str) -> Callable[..., Any]:
    """Import ``package.module:function``.

    Raises:
        RewardError: There is no such thing, or it cannot be called.
    """
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RewardError(f"there is no function {name!r}: {error}") from error
    if not callable(found):
        raise RewardError(f"{name!r} is {type(found).__name__}, not a function")
    function: Callable[..., Any] = found
    return function


def check_figure(figure: Figure) -> Figure | Callable[..., Any]:
    """Return the figure, imported if its text names a function.

    Raises:
        RewardError: The text names nothing.
    """
    if not isinstance(figure, str) or (figure.startswith((REWARD, MEASURE)) and not figure.endswith("/")):
        return figure
    if ":" in figure:
        return import_function(figure)
    raise RewardError(f"{figure!r} is no figure: write 'reward/<term>', 'measure/<name>' or 'package.module:function'")


def named_term(figure: TurnFigure | EpisodeFigure) -> str | None:
    """Return the reward term that a figure reads, ``None`` if it reads something else."""
    return figure.removeprefix(REWARD) if isinstance(figure, str) and figure.startswith(REWARD) else None


def read_turns(trajectory: Trajectory, figure: TurnFigure) -> list[float]:
    """Read a figure of each turn.

    Raises:
        RewardError: A measure is missing on a turn, or a value is not finite.
    """
    return [_read_turn(trajectory, number, figure) for number in range(len(trajectory.turns))]


def read_episode(trajectory: Trajectory, figure: EpisodeFigure) -> float:
    """Read a figure of an episode: of a term the sum, of a measure the last turn's.

    ``"reward/outcome"`` of an episode that was paid none is its success.

    Raises:
        RewardError: The episode has no outcome or no such measure, or the value is not finite.
    """
    check_finite(trajectory)  # which names the turn
    term = named_term(figure)
    if term == OUTCOME:
        value = outcome_of(trajectory)
    elif term is not None:
        value = trajectory.reward_terms.get(term, 0.0)
    elif isinstance(figure, str):
        if not trajectory.turns:
            raise RewardError(f"{place(trajectory)} has no turn that {figure!r} could have been taken of")
        value = _read_turn(trajectory, len(trajectory.turns) - 1, figure)
    else:
        value = float(figure(trajectory))
    return check_number(value, f"{place(trajectory)}: {name_of(figure)}")


def final_state(trajectory: Trajectory) -> Turn:
    """Return the state after the last turn, as a turn in which nothing was said yet."""
    return Turn(trajectory.final_observation, "", state_key=trajectory.final_state_key)


def states_after(trajectory: Trajectory) -> list[Turn]:
    """Return, for each turn, the one that shows what it led to."""
    return [*trajectory.turns[1:], final_state(trajectory)] if trajectory.turns else []


def check_number(value: float, what: str) -> float:
    """Return the number.

    Raises:
        RewardError: It is NaN or infinite.
    """
    if not math.isfinite(value):
        raise RewardError(f"{what} is {value}")
    return value


def name_of(figure: TurnFigure | EpisodeFigure) -> str:
    """Name a figure, for an error."""
    return figure if isinstance(figure, str) else getattr(figure, "__qualname__", repr(figure))


def pay(
    trajectory: Trajectory, term: str, values: Sequence[float | None], instead_of: Collection[str] = ()
) -> Trajectory:
    """Pay each turn one more term; ``None`` pays it nothing.

    Args:
        trajectory: The episode.
        term: Name of the term.
        values: One per turn.
        instead_of: Terms that are no longer paid; they become measures, ``raw/<term>``.

    Raises:
        RewardError: The term is paid already, the values are not one per turn, or a value is not finite.
    """
    if len(values) != len(trajectory.turns):
        raise RewardError(f"{place(trajectory)} has {len(trajectory.turns)} turns, but {term!r} {len(values)} values")
    turns = []
    for number, (turn, value) in enumerate(zip(trajectory.turns, values, strict=True)):
        terms = {name: paid for name, paid in turn.reward_terms.items() if name not in instead_of}
        if term in terms:
            raise RewardError(f"{place(trajectory, number)}: the term {term!r} is paid already by another")
        if value is not None:
            terms[term] = value
        for name, paid in terms.items():
            check_number(paid, f"{place(trajectory, number)}: reward term {name!r}")
        turns.append(with_terms(turn, terms, raw_measures(turn, instead_of)))
    return replace(trajectory, turns=tuple(turns))


def pay_last(trajectory: Trajectory, term: str, value: float, instead_of: Collection[str] = ()) -> Trajectory:
    """Pay the last turn one more term; see :func:`pay`.

    Raises:
        RewardError: As :func:`pay`.
    """
    return pay(trajectory, term, [*[None] * (len(trajectory.turns) - 1), value], instead_of)


def measure(trajectory: Trajectory, name: str, values: Sequence[float | None]) -> Trajectory:
    """Write one more measure on each turn; ``None`` writes nothing."""
    turns = zip(trajectory.turns, values, strict=True)
    return replace(
        trajectory,
        turns=tuple(
            turn if value is None else replace(turn, measures={**turn.measures, name: value}) for turn, value in turns
        ),
    )


def measure_last(trajectory: Trajectory, name: str, value: float) -> Trajectory:
    """Write one more measure on the last turn."""
    return measure(trajectory, name, [*[None] * (len(trajectory.turns) - 1), value])


def _read_turn(trajectory: Trajectory, number: int, figure: TurnFigure) -> float:
    turn = trajectory.turns[number]
    if not isinstance(figure, str):
        value = float(figure(turn))
    elif (term := named_term(figure)) is not None:
        value = turn.reward_terms.get(term, 0.0)
    else:
        name = figure.removeprefix(MEASURE)
        if name not in turn.measures:
            raise RewardError(
                f"{place(trajectory, number)} has no measure {name!r}, only {sorted(turn.measures)}; "
                "the method that takes it must come earlier in the recipe"
            )
        value = turn.measures[name]
    return check_number(value, f"{place(trajectory, number)}: {name_of(figure)}")
