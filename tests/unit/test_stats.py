"""Intervals against published figures, exact cases and their own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.stats import bootstrap_mean, paired_difference, wilson_interval


# Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3.
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_published_figures(successes: int, trials: int, low: float, high: float) -> None:
    interval = wilson_interval(successes, trials)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_holds_the_estimate_and_mirrors(counts: tuple[int, int], level: float) -> None:
    successes, trials = counts
    interval = wilson_interval(successes, trials, level)
    mirror = wilson_interval(trials - successes, trials, level)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.low < interval.high
    assert interval.low == pytest.approx(1 - mirror.high, abs=1e-12)
    assert wilson_interval(successes, trials, level=(1 + level) / 2).low <= interval.low


def test_wilson_covers_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(0)
    rates = chance.uniform(0.05, 0.95, size=8000)  # many rates: for one alone, coverage jumps with the lattice
    intervals = [wilson_interval(int(k), 60) for k in chance.binomial(60, rates)]
    covered = [i.low <= rate <= i.high for i, rate in zip(intervals, rates, strict=True)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 4), (5, 4), (0, 0)])
def test_wilson_refuses_counts_that_make_no_sense(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_level_is_a_probability(level: float) -> None:
    with pytest.raises(ValueError, match="confidence level"):
        wilson_interval(1, 2, level)


def test_bootstrap_equals_scipy_on_a_skewed_sample() -> None:
    # scipy 1.17: bootstrap((x,), np.mean, n_resamples=1_000_000, method="BCa", rng=0).confidence_interval
    sample = [0.1, 0.2, 0.2, 0.4, 0.7, 1.1, 1.9, 3.0, 8.0, 21.0]
    interval = bootstrap_mean(sample, resamples=200_000)
    assert interval.estimate == pytest.approx(3.66)
    assert interval.low == pytest.approx(1.1600, rel=0.02)
    assert interval.high == pytest.approx(10.6400, rel=0.02)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    chance = np.random.default_rng(1)
    hits = 0
    for i in range(400):
        interval = bootstrap_mean(chance.exponential(size=50).tolist(), resamples=500, seed=i)
        hits += interval.low <= 1.0 <= interval.high
    assert 0.90 <= hits / 400 <= 0.985


_values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40)


@settings(deadline=None, max_examples=40)
@given(_values, st.integers(0, 99))
def test_bootstrap_is_seeded_bounded_and_holds_the_mean(values: list[float], seed: int) -> None:
    interval = bootstrap_mean(values, resamples=300, seed=seed)
    assert interval == bootstrap_mean(values, resamples=300, seed=seed)
    slack = 1e-9 * max(1.0, max(abs(v) for v in values))
    assert min(values) - slack <= interval.low <= interval.estimate <= interval.high <= max(values) + slack


@settings(deadline=None, max_examples=40)
@given(_values, st.floats(-50, 50))
def test_bootstrap_moves_with_a_shift(values: list[float], shift: float) -> None:
    rounded = [round(v) for v in values]  # exact sums, so that ties stay ties
    here = bootstrap_mean(rounded, resamples=200)
    there = bootstrap_mean([v + round(shift) for v in rounded], resamples=200)
    assert there.low - here.low == pytest.approx(round(shift), abs=1e-6)
    assert there.high - here.high == pytest.approx(round(shift), abs=1e-6)


def test_one_value_bounds_nothing() -> None:
    interval = bootstrap_mean([0.7])
    assert (interval.estimate, interval.low, interval.high) == (0.7, -math.inf, math.inf)
    assert interval.as_dict() == {"estimate": 0.7, "low": None, "high": None, "level": 0.95}
    assert not interval.excludes_zero


def test_equal_values_have_no_width() -> None:
    assert bootstrap_mean([0.1] * 7).low == bootstrap_mean([0.1] * 7).high == pytest.approx(0.1)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 0.0]])
def test_bootstrap_refuses_what_it_cannot_average(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_mean(values)


def test_pairing_sees_a_gain_that_hard_tasks_would_hide() -> None:
    chance = np.random.default_rng(2)
    difficulty = chance.normal(size=80) * 10
    before, after = difficulty + chance.normal(size=80) * 0.1, difficulty + 0.3 + chance.normal(size=80) * 0.1
    gain = paired_difference(before.tolist(), after.tolist())
    assert gain.excludes_zero
    assert gain.low < 0.3 < gain.high
    assert paired_difference(after.tolist(), before.tolist()).high < 0
    alone = bootstrap_mean(after.tolist())
    assert gain.high - gain.low < 0.1 * (alone.high - alone.low)


def test_pairing_needs_equal_lengths() -> None:
    with pytest.raises(ValueError, match="2 before, 1 after"):
        paired_difference([1.0, 2.0], [1.0])
