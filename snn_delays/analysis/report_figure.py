"""A figure with the numbers behind it, and the style that all figures share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from snn_delays.files import replacing

# Colours apart for colour-blind readers and in print (Okabe and Ito).
BEFORE, AFTER = "#999999", "#000000"
CHANCE = "#dddddd"
EXCITATORY, INHIBITORY = "#0072B2", "#D55E00"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DENSITY = "cividis_r"  # a map of counts
SHARE = "Blues"  # a map of shares, white at none
SIGNED = "PuOr_r"  # a map of weights, white at zero
WIDTH = 5.0  # inches: text of 9 points is 10 pixels high where the page shows 400 of them
DPI = 120
LEGEND: dict[str, Any] = {
    "frameon": False, "fontsize": 9, "handlelength": 1.5, "columnspacing": 1.2,
}  # fmt: skip


@dataclass(frozen=True)
class ReportFigure:
    """One figure of a report.

    Attributes:
        name: of its files.
        title: above it.
        caption: below it: what is drawn, and how to read it.
        data: the numbers that are drawn.
        figure: the drawing.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    figure: Figure


def new_figure(rows: int, row_height: float = 1.5) -> Figure:
    """A figure as wide as a column of the page."""
    return Figure(figsize=(WIDTH, row_height * rows + 0.4), layout="constrained")


def whole_numbers(*axes: Any) -> None:
    """Ticks at whole numbers alone, on ``axis.xaxis`` or a colour bar's axis."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(5, integer=True))


def legend_above(axis: Axes) -> None:
    """A legend above the axes, where no data is, and below their title."""
    labels = axis.get_legend_handles_labels()[1]
    grid = axis.get_gridspec()
    columns = _legend_columns(labels, WIDTH / (1 if grid is None else grid.ncols))
    axis.legend(**LEGEND, ncols=columns, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)
    if title := axis.get_title("left"):
        axis.set_title(title, loc="left", fontsize=10, pad=6 + 14 * -(-len(labels) // columns))


def legend_over_all(figure: Figure, *axes: Axes) -> None:
    """A legend of the entries of some axes above all of a figure, which grows by its height."""
    handles, labels = [], []
    for axis in axes:
        found = axis.get_legend_handles_labels()
        handles += found[0]
        labels += found[1]
    columns = _legend_columns(labels, WIDTH)
    figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(labels) // columns))
    figure.legend(handles, labels, **LEGEND, ncols=columns, loc="outside upper right")


def _legend_columns(labels: list[str], inches: float) -> int:
    """Entries beside one another that fit into a width."""
    longest = max(map(len, labels), default=0)
    return max(1, min(len(labels), int(inches / (0.5 + 0.07 * longest))))


def as_label(name: str) -> str:
    """A name as matplotlib is to draw it, letter by letter.

    Dollar signs would be read as mathematics, a legend leaves out labels that start with "_", and
    SVG has no control characters.
    """
    drawn = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    drawn = drawn.replace("$", r"\$")
    return f" {drawn}" if drawn.startswith("_") else drawn


def run_style(number: int) -> dict[str, Any]:
    """Colour and dashes of the run of this number, from 0; all differ up to 28 runs."""
    dashes = ("-", "--", ":", "-.")
    turn, place = divmod(number, len(COLOURS))
    return {"color": COLOURS[place], "linestyle": dashes[turn % len(dashes)]}


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the suffix chooses the format. Text stays text in SVG."""
    with mpl.rc_context({"svg.fonttype": "none"}), replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=DPI)
