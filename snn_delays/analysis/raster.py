"""Rasters of spikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Recording = tuple[str, NDArray[np.floating], NDArray[np.integer]]


def plot_rasters(columns: Sequence[Sequence[Recording]], units: int = 700) -> Figure:
    """Recordings beside one another, each a dot for every spike.

    Args:
        columns: for each column of pictures its recordings, from top to bottom: a title, times in
            seconds and units, each [N].
        units: number of spike channels; unit 0 is drawn at the top.
    """
    rows = max(map(len, columns))
    figure = Figure((4.5 * len(columns), 3.0 * rows), layout="constrained")
    axes: Any = figure.subplots(rows, len(columns), squeeze=False, sharex=True, sharey=True)
    for j, column in enumerate(columns):
        for i, (title, times, unit) in enumerate(column):
            axes[i, j].plot(1000 * (times - times.min()), unit, "k.", markersize=1.5)
            axes[i, j].set(title=f"{title}, {len(times):,} spikes", ylim=(units, -1))
            axes[i, j].title.set_size("medium")
        axes[-1, j].set_xlabel("time after the first spike (ms)")
    for i in range(rows):
        axes[i, 0].set_ylabel("unit")
    return figure
