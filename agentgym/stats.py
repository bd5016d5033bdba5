"""Confidence intervals for what an evaluation measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_NORMAL = NormalDist()
_CHUNK_CELLS = 4_000_000  # resampled values held at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided confidence interval.

    Attributes:
        estimate: The statistic of the sample.
        low: Lower end; ``-inf`` if the sample cannot bound it.
        high: Upper end; ``inf`` if the sample cannot bound it.
        level: Confidence level, e.g. 0.95.
    """

    estimate: float
    low: float
    high: float
    level: float = 0.95

    @property
    def excludes_zero(self) -> bool:
        """True if zero lies outside."""
        return self.low > 0 or self.high < 0

    def as_dict(self) -> dict[str, float | None]:
        """Return plain numbers; an end that is not bounded is ``None``, since JSON has no infinity."""
        ends = {"estimate": self.estimate, "low": self.low, "high": self.high, "level": self.level}
        return {name: value if math.isfinite(value) else None for name, value in ends.items()}

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Return the score interval of a proportion.

    Unlike the normal approximation it holds its level for few trials and near 0 and 1. Source: Wilson (1927),
    "Probable inference, the law of succession, and statistical inference"; recommended by Brown, Cai and DasGupta
    (2001), "Interval estimation for a binomial proportion".

    Args:
        successes: Number of successes, at most ``trials``.
        trials: Number of independent trials, at least 1.
        level: Confidence level in (0, 1).

    Raises:
        ValueError: The counts or the level make no sense.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"successes must be between 0 and trials, and trials at least 1: {successes} of {trials}")
    z = _critical_value(level)
    share = successes / trials
    shrink = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At the borders the bound is exactly 0 or 1; rounding must not push it past the estimate.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(share, low, high, level)


def bootstrap_mean(values: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Return the mean and its bias-corrected and accelerated bootstrap interval (BCa).

    Source: Efron (1987), "Better bootstrap confidence intervals"; acceleration from the jackknife. One value
    bounds nothing: its interval is unbounded. Values that are all equal give an interval of no width, since a
    resample cannot show what the sample does not hold.

    Args:
        values: Independent measurements, at least one, all finite.
        level: Confidence level in (0, 1).
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling; same seed and values, same interval.

    Raises:
        ValueError: There are no values, or one is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError("the bootstrap needs at least one value, and finite ones")
    z = _critical_value(level)
    estimate = float(sample.mean())
    if sample.size == 1:
        return Interval(estimate, -math.inf, math.inf, level)
    if np.ptp(sample) == 0:
        return Interval(estimate, estimate, estimate, level)
    means = _resampled_means(sample, resamples, np.random.default_rng(seed))
    # Ties count half, else the correction of a coarse statistic such as a success rate is itself biased.
    below = (np.count_nonzero(means < estimate) + 0.5 * np.count_nonzero(means == estimate)) / resamples
    bias = _NORMAL.inv_cdf(min(max(below, 1 / resamples), 1 - 1 / resamples))
    # The jackknife means' third and second moments are, for a mean, those of the centred sample over n.
    centred = (sample - estimate) / np.ptp(sample)  # scaled, so that no power under- or overflows
    acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
    low, high = (_adjusted_quantile(bias, acceleration, end) for end in (-z, z))
    ends = np.quantile(means, [low, high])
    return Interval(estimate, min(float(ends[0]), estimate), max(float(ends[1]), estimate), level)


def paired_difference(
    before: Sequence[float], after: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the mean gain of ``after`` over ``before`` on the same tasks, with its bootstrap interval.

    Tasks are resampled, not measurements, so what makes a task hard cancels out. Source: paired bootstrap test,
    Koehn (2004), "Statistical significance tests for machine translation evaluation".

    Args:
        before: One measurement per task.
        after: The same tasks in the same order.
        level: Confidence level in (0, 1).
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Raises:
        ValueError: The lengths differ, or there are no values.
    """
    if len(before) != len(after):
        raise ValueError(f"paired measurements must match: {len(before)} before, {len(after)} after")
    gains = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return bootstrap_mean(gains.tolist(), level=level, resamples=resamples, seed=seed)


def _critical_value(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, got {level}")
    return _NORMAL.inv_cdf(0.5 + level / 2)


def _adjusted_quantile(bias: float, acceleration: float, z: float) -> float:
    return _NORMAL.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))


def _resampled_means(sample: NDArray[np.float64], resamples: int, chance: np.random.Generator) -> NDArray[np.float64]:
    rows = max(1, _CHUNK_CELLS // sample.size)
    means = [
        sample[chance.integers(sample.size, size=(min(rows, resamples - start), sample.size))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(means)
