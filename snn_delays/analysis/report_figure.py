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
EXCITATORY, INHIBITORY = "#0072B2", "#D55E00"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DENSITY = "cividis_r"  # a map of counts
SIGNED = "PuOr_r"  # a map of weights, white at zero
WIDTH = 9.0  # inches
DPI = 120
LEGEND_COLUMNS = 4  # of a legend over a whole figure


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


def new_figure(rows: int, row_height: float = 2.4) -> Figure:
    """A figure as wide as a page."""
    return Figure(figsize=(WIDTH, row_height * rows + 0.4), layout="constrained")


def whole_numbers(*axes: Any) -> None:
    """Ticks at whole numbers alone, on ``axis.xaxis`` or a colour bar's axis."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(integer=True))


def legend_above(axis: Axes) -> None:
    """A legend above the axes, where no data is."""
    entries = len(axis.get_legend_handles_labels()[0])
    axis.legend(
        frameon=False,
        fontsize=9,
        ncols=min(entries, 6),
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderpad=0,
    )


def legend_over_all(figure: Figure, axis: Axes) -> None:
    """A legend of one axes' entries above all of a figure."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles, labels, frameon=False, fontsize=9, ncols=LEGEND_COLUMNS, loc="outside upper right"
    )


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
