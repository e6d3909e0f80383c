"""Runs beside one another: how alike are the delays that different seeds learned?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from snn_delays.analysis.tables import Array, array, deployed_steps, receptive_fields
from snn_delays.analysis.trained_run import TrainedRun
from snn_delays.nn import DelayedLinear

SHUFFLES = 20


def similarity(subjects: Sequence[TrainedRun]) -> pd.DataFrame:
    """How alike the delays of each layer are, pair by pair of runs.

    ``distance_ms`` is the Wasserstein distance between the distributions of delays: the mean way
    from one to the other. ``matched`` is the mean correlation of receptive fields, input x delay,
    between neurons paired one to one so that it is highest (Kuhn 1955); only the first hidden
    layer has it, whose inputs mean the same in all runs. ``chance`` and ``chance_std`` are mean and
    standard deviation of the same over 20 shufflings of the second run's delays over its synapses:
    what weights alone and the pairing give.

    Args:
        subjects: networks of one shape.

    Returns:
        Columns first, second, layer, distance_ms, matched, chance, chance_std.
    """
    rows = []
    for a, b in itertools.combinations(subjects, 2):
        pairs = zip(a.layers(), b.layers(), strict=True)
        for number, ((layer, _, mine), (_, _, theirs)) in enumerate(pairs):
            row: dict[str, Any] = {"first": a.name, "second": b.name, "layer": layer}
            row["distance_ms"] = a.step_ms * wasserstein_distance(_delays(mine), _delays(theirs))
            if number == 0:
                fields, others = receptive_fields(mine), receptive_fields(theirs)
                row["matched"] = matched_correlation(fields, others)
                shuffled = [
                    matched_correlation(fields, _shuffled(theirs, seed)) for seed in range(SHUFFLES)
                ]
                row["chance"], row["chance_std"] = np.mean(shuffled), np.std(shuffled, ddof=1)
            rows.append(row)
    columns = ["first", "second", "layer", "distance_ms", "matched", "chance", "chance_std"]
    return pd.DataFrame(rows, columns=columns)


def _delays(linear: DelayedLinear) -> Array:
    return deployed_steps(linear)[array(linear.exists)]


def _shuffled(linear: DelayedLinear, seed: int) -> Array:
    """Receptive fields with the delays dealt out anew over their owners."""
    steps, exists = array(linear.delay).round().astype(int), array(linear.delay_exists)
    steps[exists] = np.random.default_rng(seed).permutation(steps[exists])
    return receptive_fields(linear, np.broadcast_to(steps, linear.weight.shape))


def matched_correlation(a: Array, b: Array) -> float:
    """Mean Pearson correlation between rows of a and rows of b, paired to make it highest.

    Args:
        a: [N, ...].
        b: [M, ...]; the smaller of N and M are paired.
    """
    correlation = _standardised(a) @ _standardised(b).T
    rows, columns = linear_sum_assignment(-correlation)
    return float(correlation[rows, columns].mean())


def _standardised(fields: Array) -> Array:
    flat = fields.reshape(len(fields), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
