"""Pictures of delays: where they were drawn, where they went, and with which weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from snn_delays.analysis.report_figure import (
    AFTER,
    BEFORE,
    CHANCE,
    COLOURS,
    DENSITY,
    EXCITATORY,
    INHIBITORY,
    SIGNED,
    ReportFigure,
    legend_above,
    legend_over_all,
    new_figure,
    whole_numbers,
)
from snn_delays.analysis.tables import Array, receptive_fields, synapses
from snn_delays.analysis.trained_run import TrainedRun
from snn_delays.analysis.words import OWNERS
from snn_delays.errors import UserError

MOST_DOTS = 3000  # per layer; the heaviest synapses
FIELDS = 12  # neurons whose receptive fields are drawn
COLUMNS = 3  # of receptive fields
MOST_CELLS = 40  # inputs whose rows are seen in a picture of a receptive field
WEIGHT_BINS = 40


def has_delays(subject: TrainedRun) -> bool:
    """Whether every synapse has a delay of its own."""
    return subject.config.model.delays in ("learned", "fixed")


def has_recurrent_delays(subject: TrainedRun) -> bool:
    """Whether every neuron of some layer has a recurrent delay of its own."""
    return subject.config.model.recurrent in ("learned", "fixed")


def _panels(subject: TrainedRun, columns: int, **options: Any) -> tuple[Figure, Array, list[str]]:
    names = [name for name, _, _ in subject.layers()]
    figure = new_figure(len(names))
    axes = figure.subplots(len(names), columns, squeeze=False, sharex="col", **options)
    for name, axis in zip(names, axes[:, 0], strict=True):
        axis.set_title(name, loc="left", fontsize=10)
    return figure, axes, names


# ---- where delays are --------------------------------------------------------------------------


def distribution(subject: TrainedRun) -> ReportFigure:
    """Share of the synapses at each deployed delay: before and after, and by sign."""
    data = distribution_data(subject)
    figure, axes, names = _panels(subject, 2)
    now = [("drawn", BEFORE), ("trained", AFTER)] if subject.learns_delays else [("drawn", AFTER)]
    for name, (left, right) in zip(names, axes, strict=True):
        rows = data[data["layer"] == name]
        for axis, column, colour in (
            *((left, *one) for one in now),
            (right, "excitatory", EXCITATORY),
            (right, "inhibitory", INHIBITORY),
        ):
            x, y = rows["delay_ms"], rows[f"{column}_percent"]
            axis.step(x, y, where="mid", color=colour, label=column)
        left.set_ylabel("synapses (%)")
        right.set_ylabel("of their sign (%)")
        for axis in (left, right):
            axis.set_ylim(bottom=0)
        for axis, chance, label in (
            (left, "chance", "uniform draw"),
            (right, "sign", "random signs"),
        ):
            low, high = (rows[f"{chance}_{end}_percent"] for end in ("low", "high"))
            axis.fill_between(
                rows["delay_ms"], low, high, step="mid", color=CHANCE, label=f"{label}, 95 %"
            )
    legend_over_all(figure, *axes[0])
    for axis in axes[-1]:
        axis.set_xlabel("delay (ms)")
    ways = "before training and as trained" if subject.learns_delays else "and never moved"
    return ReportFigure(
        "delays",
        "Where the delays are",
        "Share of each layer's synapses at each delay of the deployed network. Left, as drawn"
        f" {ways}; right, those of the deployed network by the sign of their weight, each as a"
        " share of its sign. Grey bands hold 95 % of what chance gives: left, delays drawn from"
        " the distribution before training; right, signs dealt out at random.",
        data,
        figure,
    )


def distribution_data(subject: TrainedRun) -> pd.DataFrame:
    """Columns layer, delay_ms, and in percent drawn, trained, excitatory, inhibitory.

    Also the ends of 95 % of what chance gives: chance_low, chance_high for delays drawn from the
    distribution before training; sign_low, sign_high for signs dealt out at random.
    """
    frame, step = synapses(subject), subject.step_ms
    rows = []
    for name, _, trained in subject.layers():
        layer = frame[frame["layer"] == name]
        steps = (layer["deployed_ms"] / step).round().to_numpy().astype(int)
        drawn = (layer["drawn_ms"] / step).round().to_numpy().astype(int)
        weight, taps = layer["weight"].to_numpy(), trained.taps
        fewer = min((weight > 0).sum(), (weight < 0).sum())
        drawn_delays = int(trained.delay_exists.sum())  # synapses may share them
        chance = _spread(_drawn_share(taps, subject.config.model.delay_init), drawn_delays)
        sign = _spread(_percent(steps, taps) / 100, fewer)
        rows.append(
            pd.DataFrame(
                {
                    "layer": name,
                    "delay_ms": step * np.arange(taps),
                    "drawn_percent": _percent(drawn, taps),
                    "trained_percent": _percent(steps, taps),
                    "excitatory_percent": _percent(steps[weight > 0], taps),
                    "inhibitory_percent": _percent(steps[weight < 0], taps),
                    "chance_low_percent": chance[0],
                    "chance_high_percent": chance[1],
                    "sign_low_percent": sign[0],
                    "sign_high_percent": sign[1],
                }
            )
        )
    return pd.concat(rows)


def _percent(steps: Array, taps: int) -> Array:
    return 100 * np.bincount(steps, minlength=taps) / max(len(steps), 1)


def _drawn_share(taps: int, init: str) -> Array:
    """Chance of each whole delay where delays are drawn as before training, [taps]."""
    longest = taps if init == "uniform_clamped" else taps - 1
    if longest == 0:
        return np.ones(1)
    edges = np.clip(np.arange(taps + 1) - 0.5, 0, longest)
    edges[-1] = longest  # delays beyond the last tap are clamped to it
    return np.diff(edges) / longest


def _spread(share: Array, number: int) -> tuple[Array, Array]:
    """Percents between which 95 % of the draws of this many synapses lie."""
    ends = (stats.binom.ppf(q, number, share) for q in (0.025, 0.975))
    low, high = (100 * end / max(number, 1) for end in ends)
    return low, high


# ---- where they went ---------------------------------------------------------------------------


def movement(subject: TrainedRun) -> ReportFigure:
    """The delay of the heaviest synapses before and after training."""
    frame = synapses(subject)
    size = frame["weight"].abs()
    heaviest = size.groupby(frame["layer"]).rank(ascending=False, method="first") <= MOST_DOTS
    data = frame[heaviest]
    figure, axes, _ = _panels(subject, 1)
    for (name, _, trained), axis in zip(subject.layers(), axes[:, 0], strict=True):
        _scatter(axis, data[data["layer"] == name], subject.step_ms * (trained.taps - 1))
        axis.set_ylabel("trained (ms)")
    legend_above(axes[0, 0])
    axes[-1, 0].set_xlabel("delay as drawn (ms)")
    return ReportFigure(
        "movement",
        "Where each delay went",
        f"The {MOST_DOTS:,} heaviest synapses of each layer (all, where it has fewer); a larger"
        " dot is a larger weight, and dots on the line have not moved.",
        data,
        figure,
    )


def _scatter(axis: Axes, rows: pd.DataFrame, longest_ms: float) -> None:
    axis.plot([0, longest_ms], [0, longest_ms], color=BEFORE, linewidth=1, zorder=3)
    size = rows["weight"].abs()
    size = 20 * size / max(size.max(), np.finfo(float).tiny)
    for sign, colour, label in ((1, EXCITATORY, "excitatory"), (-1, INHIBITORY, "inhibitory")):
        shown = np.sign(rows["weight"]) == sign
        axis.scatter(
            rows["drawn_ms"][shown],
            rows["delay_ms"][shown],
            size[shown],
            color=colour,
            label=label,
            linewidths=0,
            alpha=0.6,
            rasterized=True,
        )


def drift(subject: TrainedRun) -> ReportFigure:
    """How the distribution of delays changed over epochs, from the run's trace.

    Raises:
        UserError: there is no trace, which runs with learned delays have.
    """
    data = trace_data(subject)
    if data.empty:
        raise UserError(f"{subject.name} has no trace of delays: it learned none.")
    owners = OWNERS[subject.config.model.delay_type]
    figure, axes, names = _panels(subject, 2)
    for name, (left, right) in zip(names, axes, strict=True):
        rows = data[data["layer"] == name]
        share = rows.pivot(index="delay_ms", columns="epoch", values="percent")
        half, epochs = subject.step_ms / 2, share.columns
        extent = (epochs[0] - 0.5, epochs[-1] + 0.5, -half, share.index[-1] + half)
        image = left.imshow(
            share.to_numpy(), origin="lower", aspect="auto", extent=extent, cmap=DENSITY
        )
        figure.colorbar(image, ax=left, label=f"{owners} (%)")
        left.set_ylabel("delay (ms)")
        lines = rows.drop_duplicates("epoch")
        right.plot(lines["epoch"], lines["moved_ms"], color=AFTER, label="distance (ms)")
        right.set_ylabel("mean distance (ms)")
        right.set_ylim(bottom=0)
        ends = right.twinx()
        ends.plot(lines["epoch"], lines["low_percent"], "--", color=COLOURS[2])
        ends.plot(lines["epoch"], lines["high_percent"], ":", color=COLOURS[1])
        ends.set_ylabel("at an end (%)")
        ends.set_ylim(bottom=0)
        right.plot([], [], "--", color=COLOURS[2], label="at 0 (%)")
        right.plot([], [], ":", color=COLOURS[1], label="at the longest (%)")
    legend_over_all(figure, axes[0, 1])
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
        whole_numbers(axis.xaxis)
    return ReportFigure(
        "drift",
        "How the delays moved over training",
        f"Left, share of a layer's {owners} at each delay, epoch by epoch. Right, mean distance"
        " from where the delays were drawn, and shares of them that are held at either end of"
        " their range.",
        data,
        figure,
    )


def trace_data(subject: TrainedRun) -> pd.DataFrame:
    """Columns epoch, layer, delay_ms, percent, moved_ms, low_percent, high_percent.

    Of the training that made the network; empty where nothing was traced.
    """
    rows, names = [], [name for name, _, _ in subject.layers()]
    for line in subject.training:
        for name, layer in zip(names, line.get("delays", []), strict=False):
            counts = np.array(layer["counts"])
            rows.append(
                pd.DataFrame(
                    {
                        "epoch": line["epoch"],
                        "layer": name,
                        "delay_ms": subject.step_ms * np.arange(len(counts)),
                        "percent": 100 * counts / max(counts.sum(), 1),
                        "moved_ms": subject.step_ms * layer["moved"],
                        "low_percent": 100 * layer["low"],
                        "high_percent": 100 * layer["high"],
                    }
                )
            )
    return pd.concat(rows) if rows else pd.DataFrame()


# ---- delays and weights ------------------------------------------------------------------------


def joint(subject: TrainedRun) -> ReportFigure:
    """How many synapses have each weight and delay."""
    data = joint_data(subject)
    figure, axes, names = _panels(subject, 1)
    for name, axis in zip(names, axes[:, 0], strict=True):
        rows = data[data["layer"] == name]
        counts = rows.pivot(index="weight", columns="delay_ms", values="synapses")
        shown = np.ma.masked_equal(counts.to_numpy(), 0)
        image = axis.pcolormesh(counts.columns, counts.index, shown, cmap=DENSITY)
        axis.axhline(0, color=BEFORE, linewidth=0.8)
        axis.set_ylabel("weight")
        whole_numbers(figure.colorbar(image, ax=axis, label="synapses").ax.yaxis)
    axes[-1, 0].set_xlabel("delay (ms)")
    return ReportFigure(
        "joint",
        "Weight and delay",
        "Number of synapses at each delay of the deployed network and weight; above the line"
        " excitatory, below inhibitory.",
        data,
        figure,
    )


def joint_data(subject: TrainedRun) -> pd.DataFrame:
    """Columns layer, delay_ms, weight (middle of a bin), synapses."""
    frame, step, rows = synapses(subject), subject.step_ms, []
    for name, _, trained in subject.layers():
        layer = frame[frame["layer"] == name]
        delays = step * np.arange(trained.taps)
        largest = max(np.finfo(float).tiny, layer["weight"].abs().max())
        edges = np.linspace(-largest, largest, WEIGHT_BINS + 1)
        counts, _, _ = np.histogram2d(
            layer["deployed_ms"],
            layer["weight"],
            [step * (np.arange(trained.taps + 1) - 0.5), edges],
        )
        delay, weight = np.meshgrid(delays, (edges[1:] + edges[:-1]) / 2, indexing="ij")
        columns = {"delay_ms": delay.ravel(), "weight": weight.ravel()}
        rows.append(
            pd.DataFrame({"layer": name, **columns, "synapses": counts.ravel().astype(int)})
        )
    return pd.concat(rows)


def fields(subject: TrainedRun, layer: int = 0, most: int = FIELDS) -> ReportFigure:
    """Spatio-temporal receptive fields of the neurons with the largest weights.

    Args:
        subject: the network.
        layer: number of the delayed layer, from 0.
        most: neurons that are drawn, those of the largest summed weights, sorted by their mean
            delay.
    """
    name, _, linear = list(subject.layers())[layer]
    data, chosen = fields_data(subject, layer, most)
    largest = max(np.finfo(float).tiny, data["weight"].abs().max())
    rows = -(-len(chosen) // COLUMNS)
    figure = new_figure(rows, 1.4)
    axes = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True)
    images, step = receptive_fields(linear), subject.step_ms
    extent = (-step / 2, step * (linear.taps - 0.5), images.shape[1] - 0.5, -0.5)
    colours: dict[str, Any] = {"cmap": SIGNED, "vmin": -largest, "vmax": largest}
    image: Any = None
    for neuron, axis in zip(chosen, axes.flat, strict=False):
        if images.shape[1] > MOST_CELLS:
            image = _dots(axis, data[data["neuron"] == neuron], colours)
            axis.set(xlim=extent[:2], ylim=extent[2:])
        else:
            image = axis.imshow(
                images[neuron], aspect="auto", extent=extent, interpolation="nearest", **colours
            )
        axis.set_title(f"neuron {neuron}", loc="left", fontsize=9)
    for axis in axes.flat[len(chosen) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("delay (ms)")
    for axis in axes[:, 0]:
        axis.set_ylabel("input")
        whole_numbers(axis.yaxis)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.6)
    return ReportFigure(
        f"fields_{layer + 1}",
        f"Receptive fields, {name}",
        "Weight at each input and delay, of the neurons whose absolute weights sum highest, sorted"
        " by their mean delay. A synapse is a dot, pale where its weight is small; white is none.",
        data,
        figure,
    )


def _dots(axis: Axes, rows: pd.DataFrame, colours: dict[str, Any]) -> Any:
    """Synapses as dots, which are seen where a cell of a picture is too small."""
    size = 2 + 10 * rows["weight"].abs() / colours["vmax"]
    return axis.scatter(
        rows["delay_ms"], rows["input"], size, rows["weight"], **colours,
        edgecolors=BEFORE, linewidths=0.3,
    )  # fmt: skip


def fields_data(subject: TrainedRun, layer: int, most: int) -> tuple[pd.DataFrame, Array]:
    """Columns neuron, input, delay_ms, weight of the synapses; and the neurons in order."""
    _, _, linear = list(subject.layers())[layer]
    images = receptive_fields(linear)
    size = np.abs(images)
    total = size.sum((1, 2))
    heaviest = np.argsort(-total, kind="stable")[:most]
    mean = (size * np.arange(linear.taps)).sum((1, 2)) / np.maximum(total, np.finfo(float).tiny)
    chosen = heaviest[np.argsort(mean[heaviest], kind="stable")]
    neuron, source, delay = np.nonzero(images[chosen])
    columns = {
        "neuron": chosen[neuron],
        "input": source,
        "delay_ms": subject.step_ms * delay,
        "weight": images[chosen][neuron, source, delay],
    }
    return pd.DataFrame(columns), chosen
