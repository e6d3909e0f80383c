"""Means, intervals and paired tests against scipy's and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from snn_delays.benchmark.statistics import compare, holm, summarise


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


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
