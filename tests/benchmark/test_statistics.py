"""Means, intervals and paired tests against scipy's and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from snn_delays.benchmark.statistics import compare, holm, mcnemar, summarise


def test_a_summary_is_students() -> None:
    values = [93.6, 94.4, 94.1, 93.1, 95.0]
    s = summarise(values)
    assert (s.n, s.mean) == (5, pytest.approx(94.04))
    assert s.std == pytest.approx(np.std(values, ddof=1))
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (s.low, s.high) == (pytest.approx(low), pytest.approx(high))


def test_one_seed_has_no_spread() -> None:
    assert all(map(math.isnan, (summarise([5.0]).std, compare([5.0], [4.0]).p)))


def test_a_comparison_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(60, 3, 7)
    b = a - rng.normal(1, 1, 7)
    found, wanted = compare(a.tolist(), b.tolist()), stats.ttest_rel(a, b)
    interval = wanted.confidence_interval(0.95)
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(interval))
    assert found.effect == pytest.approx(np.mean(a - b) / np.std(a - b, ddof=1))


def test_differences_without_spread() -> None:
    for same in (compare([1, 2], [1, 2]), compare([0.3, 0.4], [0.1, 0.2])):  # nothing to measure in
        assert math.isnan(same.p)
        assert math.isnan(same.effect)


def test_an_interval_ends_where_the_values_do() -> None:
    for values in ([99.0, 100.0, 97.0], [0.0, 3.0, 1.0], [10.0, 90.0]):
        free, cut = summarise(values), summarise(values, (0, 100))
        assert free.low < 0 or free.high > 100
        assert (cut.low, cut.high) == (max(free.low, 0), min(free.high, 100))
        assert (cut.mean, cut.std) == (free.mean, free.std)
    cut = compare([10.0, 100.0], [5.0, 5.0], (0, 100)).difference
    assert (cut.low, cut.high) == (-100, 100)


def test_two_seeds_have_no_p() -> None:
    two, three = compare([5.0, 7.0], [1.0, 2.0]), compare([5.0, 7.0, 6.0], [1.0, 2.0, 3.0])
    assert (math.isnan(two.p), math.isnan(two.effect)) == (True, True)
    assert (two.difference.mean, two.difference.n) == (4.5, 2)
    assert 0 < three.p < 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_mcnemar_by_hand() -> None:
    """Of 5 recordings, 1 or fewer with one network alone: (1 + 5) / 32, on both sides."""
    assert mcnemar(1, 4) == mcnemar(4, 1) == pytest.approx(12 / 32)
    assert mcnemar(0, 10) == pytest.approx(2 / 2**10)
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1
