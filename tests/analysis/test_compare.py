"""Likeness of runs against every permutation, and distances added up by hand."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from itertools import combinations, permutations
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch

from snn_delays.analysis.compare import matched_correlation, similarity
from snn_delays.analysis.trained_run import TrainedRun
from tests.analysis import handmade
from tests.analysis.handmade import STEP_MS, TAPS, Synapse, of_layer

Fields = list[list[float]]  # of each neuron, weight at each input and delay


def named(subject: TrainedRun, name: str) -> TrainedRun:
    return dataclasses.replace(subject, name=name, network=copy.deepcopy(subject.network))


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    a, b = ([x - sum(c) / len(c) for x in c] for c in (a, b))
    size = math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / size


def best_pairing(a: Fields, b: Fields) -> float:
    few, many = sorted((a, b), key=len)
    correlations = [[pearson(x, y) for y in many] for x in few]
    return max(
        mean(row[k] for row, k in zip(correlations, chosen, strict=True))
        for chosen in permutations(range(len(many)), len(few))
    )


def fields_of(found: list[Synapse], steps: Sequence[int]) -> Fields:
    """Receptive fields of hidden layer 1 with these delays."""
    fields = [[0.0] * (handmade.configuration().data.channels * TAPS) for _ in range(2)]
    for s, delay in zip(found, steps, strict=True):
        fields[s.output][s.input * TAPS + delay] += s.weight
    return fields


@pytest.mark.parametrize(("n", "m"), [(2, 2), (4, 4), (5, 5), (3, 5), (5, 3), (1, 4)])
def test_the_pairing_is_the_best_of_all(n, m) -> None:
    rng = np.random.default_rng([n, m])
    a, b = rng.normal(size=(n, 3, 4)), rng.normal(size=(m, 3, 4))
    flat: Any = [[row.ravel().tolist() for row in fields] for fields in (a, b)]
    assert matched_correlation(a, b) == pytest.approx(best_pairing(*flat), abs=1e-12)


def test_a_greedy_pairing_would_be_worse() -> None:
    """Correlations are 0.96 and 0.8, 0.936 and 0.28: the highest is not among the best two."""
    a = np.array([[1.0, 0, 0, -1], [0.8, 0.6, -0.6, -0.8]])
    b = np.array([[0.96, 0.28, -0.28, -0.96], [0.8, -0.6, 0.6, -0.8]])
    assert matched_correlation(a, b) == pytest.approx((0.8 + 0.936) / 2)


def test_neurons_in_another_order_match_fully() -> None:
    rng = np.random.default_rng(0)
    fields = rng.normal(size=(6, 3, 4))
    assert matched_correlation(fields, fields[rng.permutation(6)]) == pytest.approx(1)
    assert matched_correlation(fields, 5 * fields + 2) == pytest.approx(1)  # scale is no difference
    assert matched_correlation(fields, 0 * fields) == 0  # nothing is like silence


@pytest.mark.parametrize("shape", [{}, {"hidden": 2, "kernel_count": 2}])
def test_a_permuted_copy_of_a_network_is_the_same(shape) -> None:
    one = named(handmade.subject(**shape), "one")
    two = named(one, "two")
    with torch.no_grad():
        first, second, *_ = two.network.delayed_layers()
        for part in (first.weight, first.delay):
            part.copy_(part.flip(0))
        for part in (second.weight, second.delay):
            part.copy_(part.flip(1))
    frame = similarity([one, two])
    assert frame["distance_ms"].tolist() == [0] * len(frame)
    assert frame["matched"][0] == pytest.approx(1)
    assert frame["chance"][0] < 0.99


@pytest.mark.parametrize("masked", [False, True])
def test_distances_are_the_way_from_sorted_to_sorted(masked) -> None:
    shape: dict[str, Any] = {"hidden": 2, "kernel_count": 2, "masked": masked}
    one = named(handmade.subject(**shape), "one")
    two = named(one, "two")
    with torch.no_grad():
        for linear in two.network.delayed_layers():
            linear.delay.mul_(0.6).add_(0.4)
    frame = similarity([one, two])
    assert frame["layer"].tolist() == handmade.names(2)
    for layer, distance in zip(frame["layer"], frame["distance_ms"], strict=True):
        found = of_layer(handmade.synapses(**shape), layer)
        mine = sorted(s.steps for s in found)
        theirs = sorted(round(0.6 * s.delay + 0.4) for s in found)
        way = mean(abs(x - y) for x, y in zip(mine, theirs, strict=True))
        assert distance == pytest.approx(STEP_MS * way)
        assert distance > 0


def test_the_distance_of_two_small_heaps() -> None:
    """Half at 0 and half at 4 against all at 1: half go one step, half three; 20 ms."""
    one, two = (named(handmade.subject(), name) for name in ("one", "two"))
    with torch.no_grad():
        one.network.readout.linear.delay.copy_(torch.tensor([[[0.0], [4.0]], [[4.0], [0.0]]]))
        two.network.readout.linear.delay.fill_(1)
    assert similarity([one, two])["distance_ms"][1] == 20


def test_every_pair_has_a_row_of_each_layer() -> None:
    subjects = [named(handmade.subject(2), name) for name in "abc"]
    frame = similarity(subjects)
    places = list(zip(frame["first"], frame["second"], frame["layer"], strict=True))
    pairs = combinations("abc", 2)
    assert places == [(a, b, layer) for a, b in pairs for layer in handmade.names(2)]
    assert frame["matched"].notna().tolist() == [True, False, False] * 3
    assert frame["chance"].notna().tolist() == [True, False, False] * 3
    assert list(similarity(subjects[:1]).columns) == list(frame.columns)


@pytest.mark.parametrize("masked", [False, True])
def test_matched_and_chance_against_all_ways_to_deal_the_delays(masked) -> None:
    one = named(handmade.subject(masked=masked), "one")
    two = named(one, "two")
    with torch.no_grad():
        two.network.blocks[0].linear.weight.add_(0.25)
        two.network.constrain()
    found = of_layer(handmade.synapses(masked=masked), "hidden layer 1")
    heavier = [s._replace(weight=s.weight + 0.25) for s in found]
    steps = [s.steps for s in found]
    mine = fields_of(found, steps)
    possible = [best_pairing(mine, fields_of(heavier, dealt)) for dealt in permutations(steps)]
    (row, _) = similarity([one, two]).to_dict("records")
    assert row["matched"] == pytest.approx(possible[0])
    # of 20 that are drawn from all ways, within four standard errors
    assert row["chance"] == pytest.approx(np.mean(possible), abs=4 * np.std(possible) / 20**0.5)
    assert np.std(possible) / 2 < row["chance_std"] < 2 * np.std(possible)
    assert similarity([one, two])["chance"][0] == row["chance"]


def test_where_all_delays_are_equal_chance_is_no_less() -> None:
    one, two = (named(handmade.subject(), name) for name in ("one", "two"))
    with torch.no_grad():
        two.network.blocks[0].linear.delay.fill_(2)
    row = similarity([one, two]).iloc[0]
    assert row["chance"] == row["matched"] < 1
