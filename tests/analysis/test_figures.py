"""Every figure shows the numbers that it comes with, and those are what plain loops give."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from PIL import Image
from scipy import stats

from snn_delays.analysis import activity, causal, curves, delays, spikes
from snn_delays.analysis.report_figure import (
    DPI,
    EXCITATORY,
    INHIBITORY,
    WIDTH,
    ReportFigure,
    save_figure,
)
from snn_delays.analysis.trained_run import TrainedRun, open_run
from snn_delays.errors import UserError
from snn_delays.nn import build_network
from snn_delays.nn.delayed_linear import _draw_delay
from snn_delays.training.run import train
from tests.analysis import handmade
from tests.analysis.handmade import CLASSES, FRAMES, STEP_MS, TAPS, Synapse, of_layer

SHAPES: list[dict[str, Any]] = [
    {"hidden": 1},
    {"hidden": 2, "kernel_count": 2, "masked": True},
]
shapes = pytest.mark.parametrize("shape", SHAPES)
RICH: dict[str, Any] = {"hidden": 2, "kernel_count": 2}
TIMES = [STEP_MS * k for k in range(TAPS)]


def line(axis: Axes, number: int = 0) -> tuple[list[float], list[float]]:
    x, y = axis.lines[number].get_data()
    return list(x), list(y)


def lines_by_label(axis: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {str(one.get_label()): line(axis, n) for n, one in enumerate(axis.lines)}


def only(axis: Axes, kind: type) -> Any:
    (found,) = (one for one in axis.get_children() if isinstance(one, kind))
    return found


def rows_of(exhibit: ReportFigure, layer: str) -> pd.DataFrame:
    return exhibit.data[exhibit.data["layer"] == layer]


# ---- where delays are --------------------------------------------------------------------------


def percent(steps: Sequence[int]) -> list[float]:
    return [100 * sum(s == k for s in steps) / max(len(steps), 1) for k in range(TAPS)]


@shapes
def test_the_share_of_synapses_at_each_delay(shape) -> None:
    exhibit = delays.distribution(handmade.subject(**shape))
    panels = np.reshape(exhibit.figure.axes, (-1, 2))
    for name, (left, right) in zip(handmade.names(shape["hidden"]), panels, strict=True):
        found = of_layer(handmade.synapses(**shape), name)
        expected = {
            "drawn": percent([round(s.drawn) for s in found]),
            "trained": percent([s.steps for s in found]),
            "excitatory": percent([s.steps for s in found if s.weight > 0]),
            "inhibitory": percent([s.steps for s in found if s.weight < 0]),
        }
        rows = rows_of(exhibit, name)
        assert rows["delay_ms"].tolist() == TIMES
        shown = lines_by_label(left) | lines_by_label(right)
        assert list(shown) == list(expected)
        for column, values in expected.items():
            assert rows[f"{column}_percent"].tolist() == pytest.approx(values)
            assert shown[column] == (TIMES, pytest.approx(values))
        assert left.get_title("left") == name
        assert {one.get_drawstyle() for one in left.lines} == {"steps-mid"}


@pytest.mark.parametrize("init", ["uniform", "uniform_clamped"])
def test_chance_is_how_delays_are_drawn(init) -> None:
    torch.manual_seed(0)
    drawn = _draw_delay((200_000,), TAPS, "fixed", init).int().numpy()
    share = np.bincount(drawn, minlength=TAPS) / len(drawn)
    np.testing.assert_allclose(delays._drawn_share(TAPS, init), share, atol=4e-3)
    assert delays._drawn_share(1, init).tolist() == [1]


def test_bands_of_chance() -> None:
    """Of 8 synapses at 5 delays: the ends have 1/8 of the range, the others 1/4."""
    data = delays.distribution_data(handmade.subject(delay_init="uniform"))
    rows = data[data["layer"] == "hidden layer 1"]
    ends = [[stats.binom.ppf(q, 6, p) / 6 for p in (1 / 8, 1 / 4)] for q in (0.025, 0.975)]
    for name, (end, middle) in zip(("low", "high"), ends, strict=True):
        expected = [end, middle, middle, middle, end]
        assert rows[f"chance_{name}_percent"].tolist() == pytest.approx([100 * p for p in expected])
    assert (rows["sign_low_percent"] <= rows["trained_percent"]).all()
    assert (rows["trained_percent"] <= rows["sign_high_percent"]).all()


# ---- where they went ---------------------------------------------------------------------------


def check_dots(axis: Axes, found: list[Synapse]) -> None:
    heaviest = max(abs(s.weight) for s in found)
    dots = [one for one in axis.collections if isinstance(one, PathCollection)]
    for sign, colour, one in zip((1, -1), (EXCITATORY, INHIBITORY), dots, strict=True):
        shown = [s for s in found if s.weight * sign > 0]
        places = [[STEP_MS * s.drawn, STEP_MS * s.delay] for s in shown]
        assert one.get_offsets().tolist() == places
        if shown:
            sizes = [20 * abs(s.weight) / heaviest for s in shown]
            assert one.get_sizes().tolist() == pytest.approx(sizes)
        assert to_hex(one.get_facecolor()[0]) == colour.lower()


@shapes
def test_each_synapse_is_a_dot(shape) -> None:
    exhibit = delays.movement(handmade.subject(**shape))
    assert len(exhibit.data) == len(handmade.synapses(**shape))
    names = handmade.names(shape["hidden"])
    for name, axis in zip(names, exhibit.figure.axes, strict=True):
        found = of_layer(handmade.synapses(**shape), name)
        check_dots(axis, found)
        rows = rows_of(exhibit, name)
        assert rows["drawn_ms"].tolist() == [STEP_MS * s.drawn for s in found]
        assert rows["delay_ms"].tolist() == [STEP_MS * s.delay for s in found]
        assert line(axis) == ([0, 40], [0, 40])


def test_of_many_synapses_the_heaviest_are_drawn(monkeypatch) -> None:
    monkeypatch.setattr(delays, "MOST_DOTS", 3)
    exhibit = delays.movement(handmade.subject(**RICH))
    for name, axis in zip(handmade.names(2), exhibit.figure.axes, strict=True):
        found = of_layer(handmade.synapses(**RICH), name)
        least = sorted(abs(s.weight) for s in found)[-3]
        heaviest = [s for s in found if abs(s.weight) >= least]
        assert rows_of(exhibit, name)["weight"].tolist() == [s.weight for s in heaviest]
        assert len(heaviest) == 3
        check_dots(axis, heaviest)
    assert exhibit.caption.startswith("The 3 heaviest")


COUNTS = {1: ([1, 2, 0, 1, 0], [0, 0, 4, 0, 0]), 2: ([0, 0, 3, 0, 1], [0, 2, 0, 0, 2])}


def traced() -> TrainedRun:
    """Two epochs, two layers; and before them a training that is not this network's."""
    first = [{"counts": [4, 0, 0, 0, 0], "moved": 0, "low": 1, "high": 0}] * 2
    metrics: list[dict[str, Any]] = [{"phase": "train", "epoch": 1, "delays": first}]
    for epoch, layers in COUNTS.items():
        trace = [
            {"counts": counts, "moved": 0.5 * epoch + n, "low": 0.25 * n, "high": 0.1 * epoch}
            for n, counts in enumerate(layers)
        ]
        metrics.append({"phase": "refit", "epoch": epoch, "delays": trace})
    return dataclasses.replace(handmade.subject(), metrics=metrics)


def test_the_trace_epoch_by_epoch() -> None:
    exhibit = delays.drift(traced())
    panels, others = exhibit.figure.axes[:4], exhibit.figure.axes[4:]
    ends = [one for one in others if one.get_label() != "<colorbar>"]
    for n, name in enumerate(handmade.names()):
        left, right = panels[2 * n : 2 * n + 2]
        shares = [[100 * c / 4 for c in COUNTS[epoch][n]] for epoch in (1, 2)]
        (image,) = left.images
        assert image.get_array().T.tolist() == shares
        assert image.origin == "lower"  # the first row, no delay, is at the bottom
        assert image.get_extent() == [0.5, 2.5, -5, 45]  # cells around epochs 1, 2 and 0 to 40 ms
        rows = rows_of(exhibit, name)
        assert rows["percent"].tolist() == [*shares[0], *shares[1]]
        assert rows["epoch"].tolist() == [1] * 5 + [2] * 5
        assert rows["delay_ms"].tolist() == TIMES * 2
        moved = [STEP_MS * (0.5 * epoch + n) for epoch in (1, 2)]
        assert lines_by_label(right)["distance (ms)"] == ([1, 2], moved)
        assert rows["moved_ms"].unique().tolist() == moved
        assert line(ends[n], 0) == ([1, 2], [25 * n] * 2)
        assert line(ends[n], 1) == ([1, 2], pytest.approx([10, 20]))
        for k, label in enumerate(("at 0 (%)", "at the longest (%)")):  # names the other's lines
            (named,) = (one for one in right.lines if one.get_label() == label)
            shown = ends[n].lines[k]
            assert (named.get_color(), named.get_linestyle()) == (
                shown.get_color(),
                shown.get_linestyle(),
            )
    assert (exhibit.data["high_percent"] == 10 * exhibit.data["epoch"]).all()


def test_without_a_trace_there_is_no_data() -> None:
    assert delays.trace_data(handmade.subject()).empty
    with pytest.raises(UserError, match="has no trace of delays"):
        delays.drift(handmade.subject())


# ---- delays and weights ------------------------------------------------------------------------


@shapes
def test_synapses_by_weight_and_delay(shape, monkeypatch) -> None:
    monkeypatch.setattr(delays, "WEIGHT_BINS", 6)
    exhibit = delays.joint(handmade.subject(**shape))
    names = handmade.names(shape["hidden"])
    for name, axis in zip(names, exhibit.figure.axes, strict=False):
        found = of_layer(handmade.synapses(**shape), name)
        largest = max(abs(s.weight) for s in found)
        width = largest / 3
        counts = np.zeros((6, TAPS), int)
        for s in found:
            counts[min(int((s.weight + largest) / width), 5), s.steps] += 1
        mesh = only(axis, QuadMesh)
        assert mesh.get_array().filled(0).tolist() == counts.tolist()
        assert (mesh.get_array().mask == (counts == 0)).all()  # none is white, not a colour
        middles = mesh.get_coordinates()[:-1, :-1] / 2 + mesh.get_coordinates()[1:, 1:] / 2
        weights = [-largest + (k + 0.5) * width for k in range(6)]
        np.testing.assert_allclose(middles[0, :, 0], TIMES)
        np.testing.assert_allclose(middles[:, 0, 1], weights)
        rows = rows_of(exhibit, name)
        assert rows["synapses"].tolist() == counts.T.ravel().tolist()
        assert rows["delay_ms"].tolist() == [t for t in TIMES for _ in weights]
        assert rows["weight"].tolist() == pytest.approx(weights * TAPS)


def field(found: list[Synapse], neuron: int, inputs: int) -> list[list[float]]:
    image = [[0.0] * TAPS for _ in range(inputs)]
    for s in found:
        if s.output == neuron:
            image[s.input][s.steps] += s.weight
    return image


@shapes
@pytest.mark.parametrize("layer", [0, 1])
def test_receptive_fields(shape, layer) -> None:
    exhibit = delays.fields(handmade.subject(**shape), layer)
    name = handmade.names(shape["hidden"])[layer]
    found, inputs = of_layer(handmade.synapses(**shape), name), (3, 2)[layer]
    images = [field(found, neuron, inputs) for neuron in range(2)]
    late = [np.abs(one).sum(0) @ np.arange(TAPS) / np.abs(one).sum() for one in images]
    order = [0, 1] if late[0] < late[1] else [1, 0]
    shown = [axis for axis in exhibit.figure.axes if axis.images and axis.get_title("left")]
    assert [axis.get_title("left") for axis in shown] == [f"neuron {n}" for n in order]
    largest = np.abs(images).max()
    for neuron, axis in zip(order, shown, strict=True):
        (image,) = axis.images
        np.testing.assert_allclose(image.get_array(), images[neuron])
        assert image.get_extent() == [-5, 45, inputs - 0.5, -0.5]  # cells around 0 to 40 ms
        assert image.origin == "upper"
        assert image.get_clim() == pytest.approx((-largest, largest))  # white is zero
    dots = [
        (n, i, STEP_MS * k, pytest.approx(images[n][i][k]))
        for n in order
        for i in range(inputs)
        for k in range(TAPS)
        if images[n][i][k] != 0
    ]
    assert list(exhibit.data.itertuples(index=False, name=None)) == dots
    assert (exhibit.name, name in exhibit.title) == (f"fields_{layer + 1}", True)


def test_fields_of_many_inputs_are_dots(monkeypatch) -> None:
    monkeypatch.setattr(delays, "MOST_CELLS", 2)
    exhibit = delays.fields(handmade.subject())
    for axis in exhibit.figure.axes[:2]:
        (dots,) = (one for one in axis.collections if isinstance(one, PathCollection))
        rows = exhibit.data[exhibit.data["neuron"] == int(axis.get_title("left").split()[1])]
        assert dots.get_offsets().tolist() == rows[["delay_ms", "input"]].to_numpy().tolist()
        assert dots.get_array().tolist() == rows["weight"].tolist()
        assert (axis.get_xlim(), axis.get_ylim()) == ((-5, 45), (2.5, -0.5))


def test_the_neurons_of_the_largest_weights_are_drawn() -> None:
    """Absolute weights into the hidden neurons sum to 1.8 and 2.3."""
    exhibit = delays.fields(handmade.subject(), most=1)
    assert exhibit.data["neuron"].unique().tolist() == [1]
    assert [axis.get_title("left") for axis in exhibit.figure.axes if axis.images] == ["neuron 1"]
    assert sum(axis.get_visible() for axis in exhibit.figure.axes) == 2  # it and the colours


# ---- a network at work -------------------------------------------------------------------------


def recorded(subject: TrainedRun) -> activity.Activity:
    return activity.record(subject.network, handmade.as_input())


def marks(spiked: Any) -> tuple[list[float], list[int]]:
    """Times and neurons of the spikes, [T][N]."""
    places = [(t, n) for t, row in enumerate(spiked) for n, value in enumerate(row) if value]
    return [STEP_MS * t for t, _ in places], [n for _, n in places]


@pytest.mark.parametrize("sample", [0, 1])
@shapes
def test_the_raster_has_a_mark_for_every_spike(shape, sample) -> None:
    subject = handmade.subject(**shape)
    exhibit = spikes.raster(subject, recorded(subject), sample)
    *layers, last = handmade.play_network(
        handmade.synapses(**shape), FRAMES[sample], shape["hidden"]
    )
    expected = {"input": FRAMES[sample]}
    expected |= zip(handmade.names(shape["hidden"])[:-1], [p.spikes for p in layers], strict=True)
    *rasters, readout = exhibit.figure.axes
    for (name, spiked), axis in zip(expected.items(), rasters, strict=True):
        time, neuron = marks(spiked)
        assert line(axis) == (time, neuron)
        rows = rows_of(exhibit, name)
        assert (rows["time_ms"].tolist(), rows["neuron"].tolist()) == (time, neuron)
        told = "marks" if name == "input" else "spikes"
        assert axis.get_title("left") == f"{name}: {len(time)} {told}"
        assert axis.lines[0].get_marker() == "|"
    rows = rows_of(exhibit, "readout")
    shown, steps = lines_by_label(readout), len(last.membranes)
    for k, name in enumerate(CLASSES):
        membrane = pytest.approx([v[k] for v in last.membranes], abs=1e-12)
        assert shown[name] == ([STEP_MS * t for t in range(steps)], membrane)
        assert rows[rows["class"] == name]["membrane"].tolist() == membrane
    assert f"Sample {sample}; the network says" in exhibit.caption


def test_the_end_of_a_recording_is_marked_and_what_lies_behind_is_cut() -> None:
    subject = handmade.subject()
    whole = recorded(subject)
    exhibit = spikes.raster(subject, whole.until(3), 0, ended=2)
    for axis in exhibit.figure.axes:
        assert line(axis, -1)[0] == [20, 20]
    assert exhibit.data["time_ms"].max() == 20
    assert (exhibit.data["layer"] == "readout").sum() == 3 * len(CLASSES)
    assert "dotted line" in exhibit.caption
    assert whole.until(3).predictions.tolist() == whole.predictions.tolist()


def test_the_raster_names_the_answer_and_the_highest_classes() -> None:
    subject = dataclasses.replace(handmade.subject(), classes=[f"word {k}" for k in range(7)])
    scores = torch.tensor([[0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.4]])
    readout = torch.arange(14.0).view(2, 1, 7)
    silent = torch.zeros(2, 1, 2)
    made = activity.Activity(torch.zeros(2, 1, 3), [silent], [silent], readout, scores)
    exhibit = spikes.raster(subject, made, 0, "Test recording 5, word 3")
    assert exhibit.caption.startswith("Test recording 5, word 3; the network says word 1.")
    shown = lines_by_label(exhibit.figure.axes[-1])
    assert list(shown) == ["word 1", "word 3", "word 5", "word 6", "word 2"]
    assert shown["word 5"] == ([0, STEP_MS], [5, 12])
    assert len(rows_of(exhibit, "readout")) == 14  # all are in the data


@shapes
def test_firing_rates(shape) -> None:
    subject, found = handmade.subject(**shape), handmade.synapses(**shape)
    exhibit = spikes.firing(subject, recorded(subject))
    played = [handmade.play_network(found, frames, shape["hidden"]) for frames in FRAMES]
    names = handmade.names(shape["hidden"])[:-1]
    for n, (name, axis) in enumerate(zip(names, exhibit.figure.axes, strict=True)):
        steps = 2 * len(played[0][n].spikes)
        counts = [sum(row[k] for one in played for row in one[n].spikes) for k in range(2)]
        rate = [1000 * count / (steps * STEP_MS) for count in counts]
        rows = rows_of(exhibit, name)
        assert rows["rate_hz"].tolist() == pytest.approx(rate)
        assert rows["dead"].tolist() == [count == 0 for count in counts]
        assert not rows["saturated"].any()
        assert sum(bar.get_height() for bar in axis.patches) == 2
        bars = [(b.get_x(), b.get_x() + b.get_width()) for b in axis.patches if b.get_height()]
        for hz in rate:
            assert any(low - 1e-9 <= hz <= high + 1e-9 for low, high in bars)
        assert axis.get_title("left") == f"{name}: {counts.count(0)} dead, 0 saturated of 2"


def test_dead_and_saturated_neurons() -> None:
    spiked = torch.zeros(20, 1, 4)
    spiked[:, 0, 1] = 1
    spiked[:18, 0, 2] = 1  # in 90 % of the steps, and one step more
    spiked[:19, 0, 3] = 1
    none = torch.zeros(20, 1, 2)
    made = activity.Activity(torch.zeros(20, 1, 3), [spiked], [spiked], none, none[0])
    exhibit = spikes.firing(handmade.subject(), made)
    assert exhibit.data["rate_hz"].tolist() == pytest.approx([0, 100, 90, 95])
    assert exhibit.data["dead"].tolist() == [True, False, False, False]
    assert exhibit.data["saturated"].tolist()[1::2] == [True, True]
    assert not exhibit.data["saturated"][0]


@pytest.mark.parametrize("sample", [0, 1])
@shapes
def test_membranes(shape, sample) -> None:
    subject, found = handmade.subject(**shape), handmade.synapses(**shape)
    exhibit = spikes.membranes(subject, recorded(subject), sample)
    layers = handmade.play_network(found, FRAMES[sample], shape["hidden"])[:-1]
    for name, played, axis in zip(
        handmade.names(shape["hidden"]), layers, exhibit.figure.axes, strict=False
    ):
        counts = [sum(row[k] for row in played.spikes) for k in range(2)]
        busiest = [1, 0] if counts[1] > counts[0] else [0, 1]
        rows, times = rows_of(exhibit, name), [STEP_MS * t for t in range(len(played.spikes))]
        assert rows["neuron"].unique().tolist() == busiest
        for place, neuron in enumerate(busiest):
            membrane = pytest.approx([v[neuron] for v in played.membranes], abs=1e-12)
            fired = [t for t, row in zip(times, played.spikes, strict=True) if row[neuron]]
            assert line(axis, 2 * place) == (times, membrane)
            assert line(axis, 2 * place + 1) == (fired, [1.0] * len(fired))
            mine = rows[rows["neuron"] == neuron]
            assert mine["membrane"].tolist() == membrane
            assert mine["spike"].tolist() == [row[neuron] for row in played.spikes]
            assert mine["time_ms"].tolist() == times


def test_the_busiest_neurons_have_their_membranes_drawn() -> None:
    spiked = torch.zeros(10, 1, 8)
    for neuron, count in enumerate((1, 5, 0, 7, 2, 3, 5, 4)):
        spiked[:count, 0, neuron] = 1
    made = activity.Activity(spiked, [spiked], [spiked * 0.5], spiked, spiked[0])
    exhibit = spikes.membranes(handmade.subject(), made)
    assert exhibit.data["neuron"].unique().tolist() == [3, 1, 6]
    named = [str(one.get_label()) for one in exhibit.figure.axes[0].lines[::2]]
    assert named == ["neuron 3", "neuron 1", "neuron 6"]


def test_an_input_that_is_no_spikes_is_a_picture() -> None:
    subject = handmade.subject()
    subject.config.data.name = "audio_folder"
    frames = torch.linspace(-100, 20, 10 * 3, dtype=torch.float64).reshape(10, 1, 3)
    made = activity.record(subject.network, frames)
    exhibit = spikes.raster(subject, made)
    (image,) = exhibit.figure.axes[0].images
    assert image.get_array().T.tolist() == frames[:, 0].tolist()
    assert image.get_extent() == [-5, 95, -0.5, 2.5]
    assert [axis.get_ylabel() for axis in exhibit.figure.axes][-1] == "log-mel (dB)"
    rows = rows_of(exhibit, "input")
    assert rows["value"].tolist() == frames.flatten().tolist()
    assert rows["time_ms"].tolist() == [STEP_MS * t for t in range(10) for _ in range(3)]
    assert "in the input" not in exhibit.caption


# ---- causal tests ------------------------------------------------------------------------------

N = 40


def made_tests(subject: TrainedRun) -> pd.DataFrame:
    """Rows of all interventions, of two draws where they are random, of made-up accuracies."""
    rows, correct = [], 3
    for one in causal.interventions(subject.network):
        for draw in range(2 if one.random else 1):
            correct = (7 * correct + 5) % (N + 1)
            place = {"kind": one.kind, "amount": one.amount, "layer": one.layer, "draw": draw}
            rows.append({**place, "correct": correct, "n": N, "accuracy": correct / N})
    return pd.DataFrame(rows)


def wilson(p: float, n: int) -> tuple[float, float]:
    """The shares q from which p is 1.96 standard deviations away: (p - q)^2 = z^2 q (1 - q) / n."""
    z2 = 1.959963984540054**2
    low, high = sorted(np.roots([1 + z2 / n, -(2 * p + z2 / n), p * p]).real.tolist())
    return 100 * low, 100 * high


def test_draws_are_averaged_and_their_interval_is_that_of_the_mean() -> None:
    rows = made_tests(handmade.subject(2))
    frame = curves.summarise_tests(rows)
    found = frame.to_dict("records")
    wider = 0
    for one in causal.interventions(handmade.subject(2).network):
        row = found.pop(0)
        same = [
            r
            for r in rows.to_dict("records")
            if (r["kind"], r["layer"]) == (one.kind, one.layer)
            and (r["amount"] == one.amount or math.isnan(one.amount))
        ]
        assert (row["kind"], row["layer"], row["draws"]) == (one.kind, one.layer, len(same))
        assert row["amount"] == pytest.approx(one.amount, nan_ok=True)
        percents = [100 * r["correct"] / N for r in same]
        mean = sum(percents) / len(percents)
        assert row["accuracy"] == pytest.approx(mean)
        assert (row["lowest"], row["highest"]) == pytest.approx((min(percents), max(percents)))
        low, high = wilson(mean / 100, N)
        if len(same) == 2:  # Student's t with one degree of freedom, 12.706
            between = 12.7062047 * abs(percents[0] - percents[1]) / 2
            low = max(0, mean - ((mean - low) ** 2 + between**2) ** 0.5)
            high = min(100, mean + ((high - mean) ** 2 + between**2) ** 0.5)
            wider += low > 0 and high < 100 and between > 1
        assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert found == []
    assert wider > 0  # some are not cut off


def test_an_interval_of_the_literature() -> None:
    """Newcombe 1998, table I: 81 of 263; as one draw, and as the mean of two equal ones."""
    for draws in ([81], [81, 81]):
        place = {"kind": "zero", "amount": math.nan, "layer": "all", "n": 263}
        rows = [
            {**place, "draw": d, "correct": c, "accuracy": c / 263} for d, c in enumerate(draws)
        ]
        (row,) = curves.summarise_tests(pd.DataFrame(rows)).to_dict("records")
        assert (row["low"], row["high"]) == pytest.approx((25.53, 36.62), abs=5e-3)
        assert row["accuracy"] == pytest.approx(100 * 81 / 263)


def value(tests: pd.DataFrame, kind: str, layer: str, amount: float = math.nan) -> pd.Series:
    rows = tests[(tests["kind"] == kind) & (tests["layer"] == layer)]
    rows = rows if math.isnan(amount) else rows[rows["amount"] == amount]
    (number,) = range(len(rows))
    return rows.iloc[number]


def bar_ends(container: ErrorbarContainer) -> list[list[list[float]]]:
    (bars,) = container[2]
    assert isinstance(bars, LineCollection)
    return [segment.tolist() for segment in bars.get_segments()]


def check_reference(axis: Axes, intact: float) -> None:
    shown = lines_by_label(axis)
    assert shown["as trained"][1] == [intact, intact]
    assert shown["chance"][1] == [50, 50]
    assert axis.get_ylim() == (0, 100)


@pytest.mark.parametrize("hidden", [1, 2])
def test_bars_of_changed_layers(hidden) -> None:
    subject = handmade.subject(hidden)
    tests = curves.summarise_tests(made_tests(subject))
    exhibit = curves.layers_changed(subject, tests)
    (axis,) = exhibit.figure.axes
    groups = ["all", *handmade.names(hidden)]
    ticks = [label.get_text() for label in axis.get_xticklabels()]
    assert (list(axis.get_xticks()), ticks) == (
        list(range(len(groups))),
        ["all layers", *groups[1:]],
    )
    bars = [one for one in axis.containers if isinstance(one, BarContainer)]
    errors = [one for one in axis.containers if isinstance(one, ErrorbarContainer)]
    kinds = ("shuffled", "mean", "zero")
    for kind, bar, error in zip(kinds, bars, errors, strict=True):
        rows = [value(tests, kind, layer) for layer in groups]
        assert [one.get_height() for one in bar] == [row["accuracy"] for row in rows]
        middles = [one.get_x() + one.get_width() / 2 for one in bar]
        assert [round(x) for x in middles] == list(range(len(groups)))
        ends = [[[x, row["low"]], [x, row["high"]]] for x, row in zip(middles, rows, strict=True)]
        np.testing.assert_allclose(bar_ends(error), ends, atol=1e-9)
        assert str(bar.get_label()) == curves.CHANGES[kind]
    left = sorted((one.get_x(), one.get_x() + one.get_width()) for bar in bars for one in bar)
    assert all(a[1] <= b[0] + 1e-9 for a, b in zip(left, left[1:], strict=False))  # none covered
    check_reference(axis, value(tests, "intact", "all")["accuracy"])
    assert set(exhibit.data["kind"]) == {"intact", *kinds}
    assert len(exhibit.data) == 1 + 3 * len(groups)


@pytest.mark.parametrize("model", ["learned", "fixed", "none"])
def test_curves_over_amounts(model) -> None:
    subject = handmade.subject(1, delays=model)
    tests = curves.summarise_tests(made_tests(subject))
    exhibit = curves.amounts_changed(subject, tests.sample(frac=1, random_state=0))
    amounts: dict[str, tuple[float, ...]] = {
        "jitter": (1, 2, 3, 5, 8, 12),
        "levels": (1, 2, 3, 4, 6, 12),
        "pruned": (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95),
    }
    kinds = ["pruned"] if model == "none" else list(amounts)
    for kind, axis in zip(kinds, exhibit.figure.axes, strict=True):
        rows = [value(tests, kind, "all", amount) for amount in amounts[kind]]
        x = [amount * (100 if kind == "pruned" else 1) for amount in amounts[kind]]
        y = [row["accuracy"] for row in rows]
        (container,) = axis.containers
        assert [list(part) for part in container[0].get_data()] == [pytest.approx(x), y]
        ends = [[[a, row["low"]], [a, row["high"]]] for a, row in zip(x, rows, strict=True)]
        np.testing.assert_allclose(bar_ends(container), ends, atol=1e-9)
        check_reference(axis, value(tests, "intact", "all")["accuracy"])
    assert set(exhibit.data["kind"]) == {"intact", *kinds}


# ---- training ----------------------------------------------------------------------------------


def trained(**result: Any) -> TrainedRun:
    metrics = [
        {
            "phase": "train", "epoch": k, "sigma": 3.0 - k, "train_loss": 1 / k,
            "train_accuracy": k / 4, "valid_loss": 2 / k, "valid_accuracy": k / 8,
        }
        for k in (1, 2)
    ]  # fmt: skip
    return dataclasses.replace(handmade.subject(), metrics=metrics, result=result or None)


def test_loss_accuracy_and_width_over_epochs() -> None:
    exhibit = curves.training_curves(trained(epoch=2))
    loss, accuracy, width = exhibit.figure.axes
    assert lines_by_label(loss) == {"train": ([1, 2], [1, 0.5]), "valid": ([1, 2], [2, 1])}
    assert lines_by_label(accuracy) == {
        "train": ([1, 2], [25, 50]),
        "valid": ([1, 2], [12.5, 25]),
    }
    assert line(width) == ([1, 2], [20, 10])  # two steps of 10 ms, and one
    assert exhibit.data.to_dict("list") == {
        "epoch": [1, 2], "sigma": [2, 1], "train_loss": [1, 0.5], "train_accuracy": [0.25, 0.5],
        "valid_loss": [2, 1], "valid_accuracy": [0.125, 0.25],
    }  # fmt: skip
    assert exhibit.caption.endswith("The epoch that counts is 2 (selected on validation data).")
    assert "epoch that counts" not in curves.training_curves(trained()).caption


def test_a_refit_is_drawn_and_not_what_chose_its_length() -> None:
    subject = trained(epoch=1)
    second = {"phase": "refit", "epoch": 1, "sigma": 9, "train_loss": 7, "train_accuracy": 0}
    subject.metrics.append(second)
    subject.config.train.protocol = "refit"
    exhibit = curves.training_curves(subject)
    assert lines_by_label(exhibit.figure.axes[0]) == {"train": ([1], [7])}
    assert "This is the second training" in exhibit.caption


@pytest.mark.parametrize("model", ["fixed", "none"])
def test_a_width_is_drawn_where_delays_are_learned(model) -> None:
    subject = dataclasses.replace(trained(), config=handmade.configuration(delays=model))
    exhibit = curves.training_curves(subject)
    assert [axis.get_ylabel() for axis in exhibit.figure.axes] == ["loss", "accuracy (%)"]
    assert "width" not in exhibit.caption


def test_figures_of_a_run(small_config) -> None:
    config = small_config(protocol="paper")
    train(config)
    subject = open_run(config.out)
    lines = [
        json.loads(one) for one in Path(config.out, "metrics.jsonl").read_text("utf-8").splitlines()
    ]
    exhibit = curves.training_curves(subject)
    loss, accuracy, width = exhibit.figure.axes
    labels = {"train": "train", "test": "test (test-selected)"}
    assert list(lines_by_label(loss)) == list(lines_by_label(accuracy)) == list(labels.values())
    for split, label in labels.items():
        assert lines_by_label(loss)[label][1] == [one[f"{split}_loss"] for one in lines]
        percents = [100 * one[f"{split}_accuracy"] for one in lines]
        assert lines_by_label(accuracy)[label] == ([1, 2, 3], percents)
    assert line(width)[1] == [10 * one["sigma"] for one in lines]
    assert "(test-selected)" in exhibit.caption

    last = delays.trace_data(subject)  # what was traced is what is there
    last = last[last["epoch"] == subject.result["epoch"]]
    there = delays.distribution_data(subject)
    assert last["layer"].tolist() == there["layer"].tolist()
    np.testing.assert_allclose(last["percent"], there["trained_percent"])


# ---- all of them -------------------------------------------------------------------------------

LABELS: dict[str, tuple[list[str], list[str]]] = {  # along x, and along y, colours included
    "delays": (["delay (ms)"], ["of their sign (%)", "synapses (%)"]),
    "movement": (["delay as drawn (ms)"], ["trained (ms)"]),
    "drift": (["epoch"], ["at an end (%)", "delay (ms)", "mean distance (ms)", "synapses (%)"]),
    "joint": (["delay (ms)"], ["synapses", "weight"]),
    "fields_1": (["delay (ms)"], ["input", "weight"]),
    "raster": (["time (ms)"], ["channel", "membrane (a. u.)", "neuron"]),
    "rates": (["spikes per second"], ["neurons"]),
    "membranes": (["time (ms)"], ["membrane (a. u.)"]),
    "causal_layers": ([], ["test accuracy (%)"]),
    "causal_amounts": (
        sorted(label.format(step=STEP_MS) for label in curves.AXES.values()),
        ["test accuracy (%)"],
    ),
    "training": (["epoch"], ["accuracy (%)", "loss", "width sigma (ms)"]),
}


def exhibits(subject: TrainedRun) -> list[ReportFigure]:
    """All that depends on weights, delays and spikes."""
    seen = recorded(subject)
    return [
        delays.distribution(subject),
        delays.movement(subject),
        delays.joint(subject),
        delays.fields(subject),
        spikes.raster(subject, seen),
        spikes.firing(subject, seen),
        spikes.membranes(subject, seen),
    ]


def labels(exhibit: ReportFigure, along: str) -> list[str]:
    """Label of each axis that is seen; one label serves panels that share the axis."""
    found = set()
    for axis in exhibit.figure.axes:
        colours = axis.get_label() == "<colorbar>"
        if not axis.get_visible() or (colours and along == "x"):
            continue
        shared = getattr(axis, f"get_shared_{along}_axes")().get_siblings(axis)
        mine = {getattr(one, f"get_{along}label")() for one in shared} - {""}
        assert mine or exhibit.name == "causal_layers", (exhibit.name, along)
        found |= mine
    return sorted(found)


def all_exhibits(subject: TrainedRun) -> list[ReportFigure]:
    tests = curves.summarise_tests(made_tests(subject))
    made = [*exhibits(subject), delays.drift(traced()), curves.training_curves(trained(epoch=1))]
    return [*made, curves.layers_changed(subject, tests), curves.amounts_changed(subject, tests)]


def test_every_figure_has_its_labels() -> None:
    made = all_exhibits(handmade.subject(**RICH))
    assert {one.name for one in made} == LABELS.keys()
    for one in made:
        assert (labels(one, "x"), labels(one, "y")) == LABELS[one.name]
        assert one.title
        assert one.caption.endswith(".")


def test_every_figure_is_saved(tmp_path) -> None:
    for one in all_exhibits(handmade.subject()):
        check_saved(one, tmp_path)


def check_saved(exhibit: ReportFigure, folder: Path) -> None:
    for suffix in ("png", "svg"):
        save_figure(exhibit.figure, folder / f"{exhibit.name}.{suffix}")
    with Image.open(folder / f"{exhibit.name}.png") as picture:
        assert (picture.format, picture.width) == ("PNG", WIDTH * DPI)
        assert len(set(picture.convert("L").tobytes())) > 2
    drawn = (folder / f"{exhibit.name}.svg").read_text("utf-8")
    assert "<svg" in drawn
    assert drawn.rstrip().endswith("</svg>")


def odd(name: str) -> TrainedRun:
    if name == "fixed":
        return handmade.subject(2, delays="fixed")
    if name == "one tap":
        return handmade.subject(1, taps=1)
    subject = handmade.subject(1, masked=True)
    with torch.no_grad():
        for network in (subject.network, subject.drawn):
            for linear in network.delayed_layers():
                if name == "silent":
                    linear.weight.abs_().neg_()
                elif name == "all zero":
                    linear.weight.zero_()
                else:
                    linear.mask.zero_()
                    network.constrain()
    return subject


def existing_synapses(subject: TrainedRun) -> int:
    layers = [linear for _, _, linear in subject.layers()]
    return sum(m.weight.numel() if m.mask is None else int(m.mask.sum()) for m in layers)


def check_silence(exhibit: ReportFigure) -> None:
    if exhibit.name == "rates":
        assert exhibit.data["dead"].all()
        assert (exhibit.data["rate_hz"] == 0).all()
    if exhibit.name == "raster":
        assert set(exhibit.data["layer"]) == {"input", "readout"}


@pytest.mark.parametrize("name", ["fixed", "silent", "all zero", "no synapses", "one tap"])
def test_odd_networks_are_drawn(name) -> None:
    subject = odd(name)
    for one in exhibits(subject):
        one.figure.draw_without_rendering()
        if name in ("silent", "all zero", "no synapses"):
            check_silence(one)
        if one.name == "joint":
            assert one.data["synapses"].sum() == existing_synapses(subject)


def test_fixed_delays_have_their_distribution() -> None:
    data = delays.distribution_data(handmade.subject(2, delays="fixed"))
    for name in handmade.names(2):
        steps = [s.steps for s in of_layer(handmade.synapses(2), name)]
        assert data[data["layer"] == name]["trained_percent"].tolist() == percent(steps)


@pytest.mark.parametrize("model", ["none", "dense"])
def test_networks_without_delays_of_their_own(model) -> None:
    config = handmade.configuration(delays=model)
    network = build_network(config, 2).double()
    subject = TrainedRun("plain", config, network, network, CLASSES)
    assert not delays.has_delays(subject)
    made = [delays.fields(subject), spikes.raster(subject, recorded(subject))]
    for one in made:
        one.figure.draw_without_rendering()
    assert made[0].data["delay_ms"].max() == (0 if model == "none" else 40)
    assert all(delays.has_delays(handmade.subject(delays=d)) for d in ("learned", "fixed"))
