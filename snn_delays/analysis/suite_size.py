"""A picture of a suite: accuracy against the size of the networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from snn_delays.analysis.report_figure import (
    COLOURS,
    ReportFigure,
    as_label,
    legend_over_all,
    new_figure,
)
from snn_delays.benchmark.results import Line
from snn_delays.benchmark.statistics import PERCENT, summarise
from snn_delays.benchmark.suite import Suite

PICTURE_FILE = "accuracy.png"
SIZES = {"parameters": "parameters", "delay_buffer_bytes": "delay buffer (bytes)"}
MARKERS = {None: ("D", "as given"), "parameters": ("o", "equal parameters"),
           "buffer": ("s", "equal buffer")}  # fmt: skip
ROW_HEIGHT = 2.5  # inches
GAP = 0.18 / ROW_HEIGHT  # between the names of two networks, in heights of a panel


def accuracy_against_size(suite: Suite, lines: Sequence[Line]) -> ReportFigure:
    """Test accuracy of each network of a suite over its parameters and over its delay buffer.

    Args:
        suite: its members, in order.
        lines: the results of one run or more, each with its delay buffer.
    """
    data = _means(suite, lines)
    kinds = {kind: COLOURS[n % len(COLOURS)] for n, kind in enumerate(dict.fromkeys(data["kind"]))}
    figure = new_figure(2, ROW_HEIGHT)
    axes = figure.subplots(2, 1, sharey=True)
    for axis, (column, name) in zip(axes, SIZES.items(), strict=True):
        for row in data.itertuples():
            marker, label = MARKERS[suite.members[row.member].equal]
            error = [[row.accuracy - row.low], [row.high - row.accuracy]] if row.seeds > 1 else None
            axis.errorbar(
                getattr(row, column), row.accuracy, error, fmt=marker, color=kinds[row.kind],
                markersize=5, elinewidth=1, capsize=2, label=label,
            )  # fmt: skip
        axis.set_xscale("log")
        axis.set_xlabel(name)
        axis.set_ylabel("test accuracy (%)")
        _count_ticks(axis)
    for axis, column in zip(axes, SIZES, strict=True):
        _name_points(axis, data, column, kinds)
    _legend_of_markers(figure, axes[0])
    caption = (
        "Mean test accuracy of each network over its size, with the 95 % interval over seeds by"
        " Student's t. Sizes are means over seeds of the trained networks."
    )
    return ReportFigure("accuracy", suite.title, caption, data, figure)


def _means(suite: Suite, lines: Sequence[Line]) -> pd.DataFrame:
    rows = []
    for key in suite.members:
        mine = [line for line in lines if line["member"] == key]
        if not mine:
            continue
        accuracy = summarise([100 * line["accuracy"] for line in mine], PERCENT)
        model = mine[0]["config"]["model"]
        sizes = {name: summarise([line[name] for line in mine]).mean for name in SIZES}
        values = {"accuracy": accuracy.mean, "low": accuracy.low, "high": accuracy.high}
        kind = f"{model['delays']} {model['delay_type']}"
        rows.append({"member": key, "kind": kind, "seeds": len(mine), **sizes, **values})
    return pd.DataFrame(rows)


def _count_ticks(axis: Axes) -> None:
    """Ticks of a logarithmic axis with their numbers in full."""
    low, high = axis.get_xlim()
    ratio = high / low
    subs = (1.0, 2.0, 5.0) if ratio < 12 else (1.0, 3.0) if ratio < 300 else (1.0,)
    axis.xaxis.set_major_locator(LogLocator(subs=subs))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _name_points(axis: Axes, data: pd.DataFrame, column: str, kinds: dict[str, str]) -> None:
    """Names of networks right of the axes, in order of accuracy, with lines to their points."""
    low, high = axis.get_ylim()
    rows = data.sort_values("accuracy")
    places = _apart([(y - low) / (high - low) for y in rows["accuracy"]])
    for row, place in zip(rows.itertuples(), places, strict=True):
        colour = kinds[row.kind]
        axis.annotate(
            as_label(str(row.member).replace("_", " ")),
            xy=(getattr(row, column), row.accuracy),
            xytext=(1.02, place),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )


def _apart(places: Sequence[float]) -> list[float]:
    """Ascending places in [0, 1], moved so that neighbours are at least ``GAP`` apart."""
    steps = GAP * np.arange(len(places))
    up = np.maximum.accumulate(places - steps) + steps
    centred = up - np.mean(up - places)
    found: list[float] = np.clip(centred, steps, 1 - steps[::-1]).tolist()
    return found


def _legend_of_markers(figure: Any, axis: Axes) -> None:
    """A legend of one entry for each marker, in grey."""
    used = dict.fromkeys(axis.get_legend_handles_labels()[1])
    for handle in axis.containers:
        handle.set_label("_")
    for marker, label in MARKERS.values():
        if label in used:
            axis.plot([], [], marker, color="0.4", markersize=5, label=label)
    legend_over_all(figure, axis)
