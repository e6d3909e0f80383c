"""Pictures of a network at work: rasters, rates, membranes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from snn_delays.analysis.activity import Activity, rates
from snn_delays.analysis.report_figure import (
    AFTER,
    BEFORE,
    COLOURS,
    DENSITY,
    EXCITATORY,
    ReportFigure,
    as_label,
    legend_above,
    new_figure,
    whole_numbers,
)
from snn_delays.analysis.tables import Array, array
from snn_delays.analysis.trained_run import TrainedRun, layer_names
from snn_delays.training.health import SATURATED

NAMED = 5  # classes that the readout's picture tells apart
TRACES = 3  # neurons whose membranes are drawn


def raster(
    subject: TrainedRun,
    activity: Activity,
    sample: int = 0,
    label: str = "",
    ended: int | None = None,
) -> ReportFigure:
    """Spikes of one sample in the input and every hidden layer, and the readout's membranes.

    An input of other values, such as log-mel frames, is a picture of them.

    Args:
        subject: the network.
        activity: what it does with samples.
        sample: number of the sample in ``activity``.
        label: name of the sample in the caption; "": its number.
        ended: step at which the recording ends, marked by a line; None: no line.
    """
    data = raster_data(subject, activity, sample)
    parts = ["input", *layer_names(subject.network)[:-1]]
    figure = new_figure(len(parts) + 1)
    axes = figure.subplots(len(parts) + 1, 1, sharex=True)
    widths = [x.shape[-1] for x in (activity.input, *activity.spikes)]
    for part, width, axis in zip(parts, widths, axes, strict=False):
        rows = data[data["layer"] == part]
        if "value" in rows and part == "input":
            _draw_values(figure, axis, rows, subject)
            continue
        axis.plot(rows["time_ms"], rows["neuron"], "|", color=AFTER, markersize=3)
        told, place = ("marks", "channel") if part == "input" else ("spikes", "neuron")
        axis.set_title(f"{part}: {len(rows):,} {told}", loc="left", fontsize=10)
        axis.set_ylabel(place)
        axis.set_ylim(-0.5, width - 0.5)
        whole_numbers(axis.yaxis)
    rows = data[data["layer"] == "readout"]
    for name, colour in zip(_highest(subject, activity, sample), COLOURS, strict=False):
        shown = rows[rows["class"] == name]
        axes[-1].plot(shown["time_ms"], shown["membrane"], color=colour, label=as_label(name))
    axes[-1].set_title("readout", loc="left", fontsize=10)
    axes[-1].set_ylabel("membrane (a. u.)")
    axes[-1].set_xlabel("time (ms)")
    legend_above(axes[-1])
    if ended is not None:
        for axis in axes:
            axis.axvline(subject.step_ms * ended, color=BEFORE, linestyle=":", linewidth=1)
    line = "" if ended is None else " The dotted line is the end of the recording."
    answer = subject.classes[int(activity.predictions[sample])]
    told = "" if "value" in data else " (in the input, a step with one or more)"
    late = "; each layer goes on for some steps so that late delays still arrive"
    return ReportFigure(
        "raster",
        "One recording through the network",
        f"{label or f'Sample {sample}'}; the network says {answer}. A mark is a spike{told}"
        f"{late if subject.config.model.layer_extra_steps else ''}."
        f" Below, the readout's membranes of the classes that score highest.{line}",
        data,
        figure,
    )


def _draw_values(figure: Figure, axis: Axes, rows: pd.DataFrame, subject: TrainedRun) -> None:
    """An input that is not spikes, as a picture."""
    values = rows.pivot(index="neuron", columns="time_ms", values="value")
    half = subject.step_ms / 2
    extent = (-half, values.columns[-1] + half, -0.5, len(values) - 0.5)
    image = axis.imshow(values, origin="lower", aspect="auto", extent=extent, cmap=DENSITY)
    decibels = subject.config.data.audio
    figure.colorbar(image, ax=axis, label="log-mel (dB)" if decibels else "value")
    axis.set_title("input", loc="left", fontsize=10)
    axis.set_ylabel("channel")
    whole_numbers(axis.yaxis)


def raster_data(subject: TrainedRun, activity: Activity, sample: int) -> pd.DataFrame:
    """Columns layer, time_ms, neuron for spikes; class, membrane for the readout.

    An input of other values than counts has a row for each of them, and a column value.
    """
    step, names = subject.step_ms, layer_names(subject.network)
    frames = []
    for name, spikes in zip(
        ["input", *names[:-1]], [activity.input, *activity.spikes], strict=True
    ):
        if name == "input" and not _are_counts(spikes):
            frames.append(_values(array(spikes[:, sample]), step))
            continue
        time, neuron = np.nonzero(array(spikes[:, sample]))
        frames.append(pd.DataFrame({"layer": name, "time_ms": step * time, "neuron": neuron}))
    membrane = array(activity.readout[:, sample])
    steps, classes = np.indices(membrane.shape)
    named = np.array(subject.classes)[classes.ravel()]
    readout = {"time_ms": step * steps.ravel(), "class": named, "membrane": membrane.ravel()}
    return pd.concat([*frames, pd.DataFrame({"layer": "readout", **readout})])


def _are_counts(x: Tensor) -> bool:
    return bool(((x >= 0) & (x == x.round())).all())


def _values(frames_TI: Array, step_ms: float) -> pd.DataFrame:
    time, channel = (index.ravel() for index in np.indices(frames_TI.shape))
    columns = {"time_ms": step_ms * time, "neuron": channel, "value": frames_TI.ravel()}
    return pd.DataFrame({"layer": "input", **columns})


def _highest(subject: TrainedRun, activity: Activity, sample: int) -> list[str]:
    order = activity.scores[sample].argsort(descending=True)[:NAMED]
    return [subject.classes[int(k)] for k in order]


def firing(subject: TrainedRun, activity: Activity) -> ReportFigure:
    """How often the neurons of each hidden layer fire."""
    data = rate_data(subject, activity)
    figure = new_figure(len(activity.spikes))
    axes = figure.subplots(len(activity.spikes), 1, squeeze=False)[:, 0]
    for name, axis in zip(layer_names(subject.network), axes, strict=False):
        rows = data[data["layer"] == name]
        axis.hist(rows["rate_hz"], bins=min(30, max(5, len(rows) // 2)), color=EXCITATORY)
        told = f"{rows['dead'].sum()} dead, {rows['saturated'].sum()} saturated"
        axis.set_title(f"{name}: {told} of {len(rows)}", loc="left", fontsize=10)
        whole_numbers(axis.yaxis)
        axis.set_ylabel("neurons")
        axis.set_xlabel("spikes per second")
    return ReportFigure(
        "rates",
        "Firing rates",
        f"Mean rate of each neuron over {activity.input.shape[1]} recordings, silence at their"
        f" ends included. Dead neurons never fire there, saturated ones in more than"
        f" {SATURATED:.0%} of the steps.",
        data,
        figure,
    )


def rate_data(subject: TrainedRun, activity: Activity) -> pd.DataFrame:
    """Columns layer, neuron, rate_hz, dead, saturated."""
    frames = []
    for name, spikes in zip(layer_names(subject.network), activity.spikes, strict=False):
        rate = array(rates(spikes))
        columns = {"neuron": np.arange(len(rate)), "rate_hz": 1000 * rate / subject.step_ms}
        state = {"dead": rate == 0, "saturated": rate > SATURATED}
        frames.append(pd.DataFrame({"layer": name, **columns, **state}))
    return pd.concat(frames)


def membranes(subject: TrainedRun, activity: Activity, sample: int = 0) -> ReportFigure:
    """Membranes of the busiest neurons of each hidden layer during one sample."""
    data = membrane_data(subject, activity, sample)
    figure = new_figure(len(activity.spikes))
    axes = figure.subplots(len(activity.spikes), 1, squeeze=False, sharex=True)[:, 0]
    for name, axis in zip(layer_names(subject.network), axes, strict=False):
        rows = data[data["layer"] == name]
        for neuron, colour in zip(dict.fromkeys(rows["neuron"]), COLOURS, strict=False):
            shown = rows[rows["neuron"] == neuron]
            axis.plot(
                shown["time_ms"],
                shown["membrane"],
                color=colour,
                linewidth=1,
                label=f"neuron {neuron}",
            )
            fired = shown[shown["spike"] > 0]
            top = subject.config.model.v_threshold
            axis.plot(fired["time_ms"], np.full(len(fired), top), "|", color=colour)
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_ylabel("membrane (a. u.)")
        legend_above(axis)
    axes[-1].set_xlabel("time (ms)")
    return ReportFigure(
        "membranes",
        "Membranes",
        f"Membranes of the {TRACES} neurons of each layer that fire most in this recording, after"
        " the reset; marks at the threshold are their spikes.",
        data,
        figure,
    )


def membrane_data(subject: TrainedRun, activity: Activity, sample: int) -> pd.DataFrame:
    """Columns layer, neuron, time_ms, membrane, spike."""
    frames = []
    layers = zip(layer_names(subject.network), activity.spikes, activity.membranes, strict=False)
    for name, spikes, membrane in layers:
        busiest = _busiest(spikes[:, sample])
        time = subject.step_ms * np.arange(len(spikes))
        for neuron in busiest:
            columns = {
                "time_ms": time,
                "membrane": array(membrane[:, sample, neuron]),
                "spike": array(spikes[:, sample, neuron]),
            }
            frames.append(pd.DataFrame({"layer": name, "neuron": neuron, **columns}))
    return pd.concat(frames)


def _busiest(spikes_TN: Tensor) -> Array:
    return array(torch.argsort(spikes_TN.sum(0), descending=True, stable=True)[:TRACES])
