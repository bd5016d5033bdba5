"""GUI-G²: what holds for every box, what an episode is paid, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.errors import RewardError, UnknownNameError
from agentgym.rewards.gaussian import (
    VARIANTS,
    Box,
    Gaussian,
    Prediction,
    centre,
    coverage_reward,
    gaussian_reward,
    is_hit,
    overlap,
    point_reward,
    read_prediction,
    write_prediction,
)
from agentgym.rewards.trajectory_reward import make_reward
from agentgym.trajectory import Trajectory, Turn

TARGET = (100.0, 100.0, 200.0, 150.0)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y = draw(st.floats(0, 1000)), draw(st.floats(0, 1000))
    return x, y, x + draw(st.floats(1, 500)), y + draw(st.floats(1, 500))


def moved(box: Box, x: float, y: float, scale: float = 1.0) -> Box:
    return box[0] * scale + x, box[1] * scale + y, box[2] * scale + x, box[3] * scale + y


@settings(deadline=None)
@given(boxes(), boxes())
def test_coverage_is_symmetric_and_at_most_1(one: Box, other: Box) -> None:
    assert coverage_reward(one, other) == pytest.approx(coverage_reward(other, one), abs=1e-12)
    assert 0 <= coverage_reward(one, other) <= 1
    assert coverage_reward(one, one) == pytest.approx(1, abs=1e-6)


def test_the_point_reward_is_not_symmetric() -> None:
    small, large = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 100.0, 100.0)
    assert point_reward(centre(small), large) == pytest.approx(math.exp(-0.81), abs=1e-6)
    assert point_reward(centre(large), small) < 1e-30


@settings(deadline=None)
@given(boxes(), boxes(), st.floats(-500, 500), st.floats(-500, 500), st.floats(1, 10))
def test_moving_or_scaling_both_changes_nothing(one: Box, other: Box, x: float, y: float, scale: float) -> None:
    """Boxes have sides of a pixel or more: below, the released code's epsilon decides."""
    before = gaussian_reward(one, other)
    assert gaussian_reward(moved(one, x, y), moved(other, x, y)) == pytest.approx(before, abs=1e-5)
    assert gaussian_reward(moved(one, 0, 0, scale), moved(other, 0, 0, scale)) == pytest.approx(before, abs=1e-5)


@settings(deadline=None)
@given(boxes(), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_every_point_of_the_target_earns_more_than_exp_minus_1(target: Box, right: float, down: float) -> None:
    """With alpha 0.5 the edge is one deviation away, and a corner has two edges."""
    x, y = centre(target)
    point = x + right * (target[2] - target[0]), y + down * (target[3] - target[1])
    assert point_reward(point, target) >= math.exp(-1) - 1e-6


@settings(deadline=None)
@given(boxes())
def test_a_prediction_survives_the_measures(box: Box) -> None:
    found = read_prediction(write_prediction(Prediction(centre(box), box)))
    assert found is not None
    assert found.box == pytest.approx(box, abs=1e-9)
    assert read_prediction(write_prediction(Prediction((3.0, 4.0)))) == Prediction((3.0, 4.0))


def episode(prediction: Prediction | None, **changes: Any) -> Trajectory:
    measures = {} if prediction is None else write_prediction(prediction)
    turn = Turn("see", "do", reward_terms={"outcome": 0.0}, measures=measures, invalid_action=prediction is None)
    ended = "truncated" if prediction is None else "terminated"
    played = Trajectory(
        "tests/Screen-v0", "t1", "train", turns=(turn,), privileged={"box": TARGET, "size": (400, 300)}, ended=ended
    )
    return replace(played, **changes)


def of_box(*sides: float) -> Prediction:
    return Prediction(centre(sides), (sides[0], sides[1], sides[2], sides[3]))


def test_it_pays_instead_of_the_outcome_and_measures_the_hit() -> None:
    (shaped,) = Gaussian()([episode(of_box(110, 105, 210, 155))])
    assert shaped.reward_terms == {"gaussian": pytest.approx(1.950839273, abs=1e-6)}
    assert shaped.measures["hit"] == 1.0
    assert shaped.measures["raw/outcome"] == 0.0


def test_a_near_miss_is_paid_but_is_no_hit() -> None:
    shaped = Gaussian().shape(episode(Prediction((201.0, 125.0))))
    assert 0.5 < shaped.episode_return < math.exp(-0.5)
    assert shaped.measures["hit"] == 0.0


@pytest.mark.parametrize(
    ("variant", "paid"),
    [
        ("full", math.exp(-0.5) + 0.882496903),
        ("point", math.exp(-0.5)),
        ("hit", 1.0),
        ("distance", 1 - 50 / 500),
        ("iou", 1 / 3),
    ],
)
def test_every_variant_pays_what_it_says(variant: str, paid: float) -> None:
    shaped = make_reward("gaussian", variant=variant).shape(episode(of_box(150, 100, 250, 150)))
    assert shaped.episode_return == pytest.approx(paid, abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_answer_that_could_not_be_read_is_paid_nothing(variant: str) -> None:
    shaped = Gaussian(variant).shape(episode(None))
    assert shaped.episode_return == 0.0
    assert "hit" not in shaped.measures


@pytest.mark.parametrize("sides", [(200, 150, 100, 100), (200, 100, 100, 150), (150, 125, 150, 125)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_inverted_or_empty_box_earns_nothing(variant: str, sides: tuple[float, ...]) -> None:
    """An inverted copy of the target has its very squares, and would earn all of it."""
    assert Gaussian(variant).shape(episode(of_box(*sides))).episode_return == 0.0
    if sides == (200, 150, 100, 100):
        assert gaussian_reward(sides, TARGET) == pytest.approx(2.0)


def test_a_point_has_no_extent() -> None:
    point, box = episode(Prediction((150.0, 125.0))), episode(of_box(*TARGET))
    assert Gaussian().shape(point).episode_return == 1.0
    assert Gaussian().shape(box).episode_return == pytest.approx(2.0)
    assert Gaussian("iou").shape(point).episode_return == 0.0


def test_thin_targets_and_answers_have_a_pixel() -> None:
    thin = episode(of_box(100, 100, 100.1, 150), privileged={"box": (100, 100, 100, 150)})
    assert 1.9 < Gaussian().shape(thin).episode_return <= 2.0


def test_the_verdict_of_the_environment_goes_before_ours() -> None:
    """A polygon need not have the centre of its box."""
    played = episode(of_box(*TARGET))
    turn = replace(played.turns[0], measures={**played.turns[0].measures, "hit": 0.0})
    shaped = Gaussian("hit").shape(replace(played, turns=(turn,)))
    assert shaped.measures["hit"] == 0.0
    assert shaped.episode_return == 0.0


def test_it_can_be_paid_while_the_episode_goes_on() -> None:
    look = Turn("see", "zoom", reward_terms={})
    played = episode(of_box(*TARGET))
    going = replace(played, turns=(look,), ended="running")
    assert Gaussian.causal
    assert Gaussian().shape(going).turns[0].reward_terms == {}
    shaped = Gaussian().shape(replace(played, turns=(look, *played.turns)))
    assert [turn.reward for turn in shaped.turns] == [0.0, pytest.approx(2.0)]


@pytest.mark.parametrize(
    ("privileged", "said"),
    [
        ({}, "no target"),
        ({"box": None}, "no target"),
        ({"box": (1, 2, 3)}, "is not"),
        ({"box": (1, 2, math.nan, 4)}, "is not"),
        ({"box": "here"}, "is not"),
        ({"box": (100, 100, 50, 50)}, "inverted"),
    ],
)
def test_a_target_that_is_none_is_refused(privileged: dict[str, Any], said: str) -> None:
    with pytest.raises(RewardError, match=rf"tests/Screen-v0, task 't1'.*{said}"):
        Gaussian().shape(episode(of_box(*TARGET), privileged=privileged))


def test_an_answer_that_nobody_read_is_refused() -> None:
    with pytest.raises(RewardError, match=r"task 't1', turn 0 .*answer/x"):
        Gaussian().shape(episode(None, ended="terminated"))


def test_a_refusal_is_paid_nothing() -> None:
    played = episode(None, ended="terminated")
    turn = replace(played.turns[0], measures={"hit": 0.0}, invalid_action=False)
    shaped = Gaussian().shape(replace(played, turns=(turn,)))
    assert shaped.episode_return == 0.0
    assert shaped.measures["hit"] == 0.0


def test_an_answer_that_is_no_number_is_refused() -> None:
    with pytest.raises(RewardError, match="turn 0.*not finite"):
        Gaussian().shape(episode(Prediction((math.nan, 1.0))))


def test_distance_needs_the_size_of_the_screen() -> None:
    with pytest.raises(RewardError, match="size"):
        Gaussian("distance").shape(episode(of_box(*TARGET), privileged={"box": TARGET}))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UnknownNameError):
        Gaussian("fulll")
    with pytest.raises(RewardError):
        Gaussian(alpha=0.0)
    with pytest.raises(RewardError):
        Gaussian(nu=-1.0)


def test_overlap_and_hit() -> None:
    assert overlap((0, 0, 10, 10), (5, 5, 15, 15)) == pytest.approx(25 / 175)
    assert overlap((0, 0, 10, 10), (20, 20, 30, 30)) == 0.0
    assert is_hit((10, 10), (0, 0, 10, 10))
    assert not is_hit((10.1, 10), (0, 0, 10, 10))
