"""Means over seeds with intervals, and paired comparisons of networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
NO_SPREAD = 1e-9  # a smaller standard deviation is rounding of equal differences
MIN_SEEDS = 3  # for a p-value: two differences hardly measure their spread
PERCENT = (0.0, 100.0)


@dataclass(frozen=True)
class Summary:
    """A summary of n values, one per seed.

    Attributes:
        n: number of values.
        mean: mean.
        std: standard deviation with n - 1; NaN for one value.
        low: lower end of the mean's 95 % interval (Student's t), clipped to the values' possible
            range; NaN for one value.
        high: upper end of the interval.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two networks on the same seeds: the paired t-test of the differences.

    Attributes:
        difference: mean and interval of (a - b).
        effect: mean difference over the differences' standard deviation (Cohen's d_z); NaN if that
            is 0, or with fewer than three seeds.
        p: two-sided p-value of no difference; NaN in the same cases.
    """

    difference: Summary
    effect: float
    p: float


def summarise(
    values: Sequence[float], bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Summary:
    """Mean, standard deviation and interval of one value per seed.

    Args:
        values: one per seed.
        bounds: smallest and largest possible value.
    """
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Summary(n, mean, math.nan, math.nan, math.nan)
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * std / math.sqrt(n)
    return Summary(n, mean, std, max(mean - half, bounds[0]), min(mean + half, bounds[1]))


def compare(
    a: Sequence[float], b: Sequence[float], bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Comparison:
    """Compare two networks by the differences of the values with the same seed.

    Args:
        a: values of one network, in the order of the seeds.
        b: values of the other network, in the same order.
        bounds: smallest and largest possible value.
    """
    span = bounds[1] - bounds[0]
    difference = summarise(np.subtract(a, b).tolist(), (-span, span))
    if difference.n < MIN_SEEDS or difference.std < NO_SPREAD:  # no measure of the spread
        return Comparison(difference, math.nan, math.nan)
    t = difference.mean / (difference.std / math.sqrt(difference.n))
    p = 2 * float(stats.t.sf(abs(t), difference.n - 1))
    return Comparison(difference, difference.mean / difference.std, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several simultaneous tests, corrected by the method of Holm 1979."""
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[k]))
        corrected[k] = highest
    return corrected
