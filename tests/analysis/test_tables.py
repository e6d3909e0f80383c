"""Every column of every table is what plain loops over the synapses give."""

from __future__ import annotations

import math
from statistics import mean, pstdev
from typing import Any

import numpy as np
import pytest
import torch

from snn_delays.analysis import tables
from tests.analysis import handmade
from tests.analysis.handmade import STEP_MS, TAPS, Synapse, of_layer

VARIANTS: list[dict[str, Any]] = [
    {"hidden": 1},
    {"hidden": 2},
    {"hidden": 2, "kernel_count": 2},
    {"hidden": 2, "kernel_count": 2, "masked": True},
]
variants = pytest.mark.parametrize("shape", VARIANTS)


def middle(found: list[Synapse]) -> tuple[float, float]:
    """Least delays, ms, up to which 5 % and 95 % of the absolute weight lie."""
    total = sum(abs(s.weight) for s in found)
    if total == 0:
        return math.nan, math.nan
    ends = []
    for percent in (5, 95):
        for steps in range(TAPS):
            below = sum(abs(s.weight) for s in found if s.steps <= steps)
            if 100 * below >= percent * total:
                ends.append(STEP_MS * steps)
                break
    return ends[0], ends[1]


def weighted_delay(found: list[Synapse]) -> float:
    total = sum(abs(s.weight) for s in found)
    return STEP_MS * sum(abs(s.weight) * s.steps for s in found) / total


@variants
def test_synapses_are_those_of_the_lists(shape) -> None:
    frame = tables.synapses(handmade.subject(**shape))
    expected = handmade.synapses(**shape)
    assert len(frame) == len(expected)
    for (_, row), s in zip(frame.iterrows(), expected, strict=True):
        place = (row["layer"], row["output"], row["input"], row["kernel"])
        assert place == (s.layer, s.output, s.input, s.kernel)
        assert row["weight"] == s.weight
        assert row["delay_ms"] == STEP_MS * s.delay
        assert row["deployed_ms"] == STEP_MS * s.steps
        assert row["drawn_ms"] == STEP_MS * s.drawn
    assert {2.5: 20.0, 3.5: 40.0}.items() <= dict(
        zip(frame["delay_ms"] / STEP_MS, frame["deployed_ms"], strict=True)
    ).items()  # ties are rounded to even


@variants
def test_layers(shape) -> None:
    frame = tables.layers(handmade.subject(**shape))
    assert list(frame.index) == handmade.names(shape["hidden"])
    for name, row in frame.iterrows():
        found = of_layer(handmade.synapses(**shape), str(name))
        steps = [s.steps for s in found]
        low, high = middle(found)
        expected = {
            "synapses": len(found),
            "excitatory": mean(s.weight > 0 for s in found),
            "delay_mean_ms": STEP_MS * mean(steps),
            "delay_std_ms": STEP_MS * pstdev(steps),
            "weighted_delay_ms": weighted_delay(found),
            "window_low_ms": low,
            "window_high_ms": high,
            "window_ms": high - low,
            "clamped_low": mean(s.delay == 0 for s in found),
            "clamped_high": mean(s.delay == TAPS - 1 for s in found),
            "moved_ms": STEP_MS * mean(abs(s.delay - s.drawn) for s in found),
        }
        assert row.to_dict() == pytest.approx(expected)
    assert frame["clamped_low"].max() > 0
    assert frame["clamped_high"].max() > 0


@variants
def test_neurons(shape) -> None:
    frame = tables.neurons(handmade.subject(**shape))
    assert len(frame) == 2 * len(handmade.names(shape["hidden"]))
    rows = frame.to_dict("records")
    for number, row in enumerate(rows):
        name, neuron = handmade.names(shape["hidden"])[number // 2], number % 2
        assert (row.pop("layer"), row.pop("neuron")) == (name, neuron)
        found = [s for s in of_layer(handmade.synapses(**shape), name) if s.output == neuron]
        low, high = middle(found)
        expected = {
            "synapses": len(found),
            "weight_sum": sum(s.weight for s in found),
            "weight_size": sum(abs(s.weight) for s in found),
            "excitatory": mean(s.weight > 0 for s in found),
            "weighted_delay_ms": weighted_delay(found),
            "window_ms": high - low,
        }
        assert row == pytest.approx(expected)


@variants
def test_receptive_fields_add_up_synapses_of_one_delay(shape) -> None:
    found = handmade.synapses(**shape)
    for name, _, linear in handmade.subject(**shape).layers():
        expected = np.zeros((2, linear.weight.shape[1], TAPS))
        for s in of_layer(found, name):
            expected[s.output, s.input, s.steps] += s.weight
        np.testing.assert_allclose(tables.receptive_fields(linear), expected, atol=1e-12)
    if shape.get("kernel_count") == 2:  # hidden layer 1: 0.7 at 2.5 and 0.6 at 2, both two steps
        (_, _, linear), *_ = handmade.subject(**shape).layers()
        assert tables.receptive_fields(linear)[1, 0, 2] == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("delay", "size", "expected"),
    [
        ([0, 1, 2, 3, 4], [1, 1, 1, 1, 1], (0, 4)),
        ([0, 1, 2], [4, 92, 4], (1, 1)),
        ([2, 0, 1], [4, 4, 92], (1, 1)),  # the order of synapses does not matter
        ([0, 1, 2], [6, 88, 6], (0, 2)),
        ([3, 3, 0, 3], [2, 3, 4, 91], (3, 3)),
        ([0, 1, 4], [0, 5, 0], (1, 1)),
        ([0, 4], [0, 0], (math.nan, math.nan)),
        ([], [], (math.nan, math.nan)),
    ],
)
def test_the_window_holds_the_middle_of_the_weight(delay, size, expected) -> None:
    found = tables.window(np.array(delay, float), np.array(size, float))
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("step_ms", [0.9, 1.3, 10.0])
def test_delays_at_an_end_are_found_whatever_the_step(step_ms) -> None:
    subject = handmade.subject(1, taps=7)
    subject.config.data.step_ms = step_ms
    for network in (subject.network, subject.drawn):
        network.float()
    with torch.no_grad():
        subject.network.readout.linear.delay.fill_(6)
        subject.network.blocks[0].linear.delay.fill_(0)
    frame = tables.layers(subject)
    assert frame["clamped_high"].tolist() == [0, 1]
    assert frame["clamped_low"].tolist() == [1, 0]
    assert frame["delay_mean_ms"].tolist() == pytest.approx([0, 6 * step_ms], rel=1e-12)


def test_fixed_delays_are_whole_steps() -> None:
    frame = tables.synapses(handmade.subject(2, delays="fixed"))
    for column in ("delay_ms", "deployed_ms"):
        assert frame[column].tolist() == [STEP_MS * s.steps for s in handmade.synapses(2)]


@pytest.mark.parametrize("delays", ["fixed", "none"])
def test_what_is_not_learned_is_neither_clamped_nor_moved(delays) -> None:
    columns = tables.layers(handmade.subject(1, delays=delays)).columns
    assert {"clamped_low", "clamped_high", "moved_ms"}.isdisjoint(columns)


def test_without_delays_all_is_at_zero() -> None:
    subject = handmade.subject(1, delays="none")
    assert tables.layers(subject)["delay_mean_ms"].tolist() == [0, 0]
    assert tables.receptive_fields(subject.network.readout.linear).shape == (2, 2, 1)


def test_weights_of_zero_have_no_window() -> None:
    subject = handmade.subject(1)
    with torch.no_grad():
        subject.network.blocks[0].linear.weight.zero_()
    row = tables.layers(subject).loc["hidden layer 1"]
    assert row[["weighted_delay_ms", "window_low_ms", "window_ms"]].isna().all()
    assert (row["synapses"], row["excitatory"]) == (6, 0)
    neurons = tables.neurons(subject).iloc[:2]
    assert neurons["weight_size"].tolist() == [0, 0]
    assert neurons["window_ms"].isna().all()


@pytest.mark.parametrize("outputs", [slice(0, 1), slice(0, 2)])
def test_neurons_without_synapses_have_a_row(outputs) -> None:
    subject = handmade.subject(1, masked=True)
    linear = subject.network.blocks[0].linear
    linear.mask[outputs] = False
    linear.constrain()
    missing = len(linear.mask[outputs])
    frame = tables.neurons(subject)
    assert frame["synapses"].tolist() == [*([0] * missing), *[2, 3][missing:], 1, 2]
    assert (frame["weight_sum"][:missing] == 0).all()
    assert frame["excitatory"][:missing].isna().all()
    assert tables.layers(subject).loc["hidden layer 1", "synapses"] == (0 if missing == 2 else 3)
