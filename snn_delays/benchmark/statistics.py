"""Means over seeds with their intervals; networks in pairs, by seeds or by recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
NO_SPREAD = 1e-9  # the rounding of equal differences
MIN_SEEDS = 3  # for a p-value: two differences say next to nothing about their spread
PERCENT = (0.0, 100.0)


@dataclass(frozen=True)
class Summary:
    """Of n values, one a seed.

    Attributes:
        n: how many.
        mean: their mean.
        std: their standard deviation, with n - 1; NaN for one value.
        low: lower end of the mean's 95 % interval by Student's t, cut where the values' own range
            ends; NaN for one value.
        high: upper end.
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
        effect: the mean difference in its standard deviations (Cohen's d_z); NaN where they are 0,
            or for fewer than three seeds.
        p: two-sided p of no difference; NaN as above.
    """

    difference: Summary
    effect: float
    p: float


def summarise(
    values: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)
) -> Summary:
    """Mean, spread and interval of values that seeds gave.

    Args:
        values: one a seed.
        within: the least and the greatest value that there can be.
    """
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Summary(n, mean, math.nan, math.nan, math.nan)
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * std / math.sqrt(n)
    return Summary(n, mean, std, max(mean - half, within[0]), min(mean + half, within[1]))


def compare(
    a: Sequence[float], b: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)
) -> Comparison:
    """Values of two networks, pair by pair of one seed.

    Args:
        a: of one network, in the order of the seeds.
        b: of the other.
        within: the least and the greatest value that there can be.
    """
    span = within[1] - within[0]
    difference = summarise(np.subtract(a, b).tolist(), (-span, span))
    if difference.n < MIN_SEEDS or difference.std < NO_SPREAD:  # no spread to measure it in
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
    """p-values of several tests made at once, corrected after Holm 1979."""
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[k]))
        corrected[k] = highest
    return corrected
