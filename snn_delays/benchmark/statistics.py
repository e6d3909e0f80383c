"""Means over seeds with intervals, and comparisons of networks paired by seed or by recording."""

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
    p = float(stats.ttest_rel(a, b).pvalue)
    return Comparison(difference, difference.mean / difference.std, p)


def mcnemar(a_alone: int, b_alone: int) -> float:
    """Two-sided p that two networks are equally often right on the same recordings, exact.

    McNemar 1947: of the recordings that one network alone has right, each has half of them.

    Args:
        a_alone: recordings that one network has right and the other wrong.
        b_alone: recordings that the other has right and the first wrong.

    Returns:
        p by the binomial distribution; 1 where the networks are right on the same recordings.
    """
    alone = a_alone + b_alone
    return float(stats.binomtest(a_alone, alone).pvalue) if alone else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several simultaneous tests, corrected by the method of Holm 1979."""
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[k]))
        corrected[k] = highest
    return corrected
