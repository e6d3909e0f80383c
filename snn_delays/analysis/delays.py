"""Pictures of the delays of a network."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_delays.nn import DelayedLinear, Network

BEFORE, AFTER = "#999999", "#0072B2"  # apart for colour-blind readers and in print


def layer_names(network: Network) -> list[str]:
    """A name for each delayed layer, from input to output."""
    return [*(f"hidden layer {n + 1}" for n in range(len(network.blocks))), "readout"]


def plot_delays(before: Network, after: Network, step_ms: float, title: str) -> Figure:
    """Where delays were and went: one row per layer.

    Left, the share of synapses at each delay, as drawn and after training. Right, the mean
    absolute weight of the synapses at each delay after training: which delays the network uses.

    Args:
        before: the network as drawn.
        after: the trained network.
        step_ms: length of a step, ms.
        title: of the figure.
    """
    names = layer_names(after)
    figure = Figure(figsize=(9, 2.4 * len(names) + 0.6), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(len(names), 2, sharex=True, squeeze=False)
    rows = zip(names, before.delayed_layers(), after.delayed_layers(), axes, strict=True)
    for name, drawn, trained, (left, right) in rows:
        _share_per_delay(left, drawn, trained, step_ms)
        _weight_per_delay(right, trained, step_ms)
        left.set_title(name, loc="left", fontsize=10)
    axes[0, 0].legend(frameon=False, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("delay (ms)")
    return figure


def _rounded(linear: DelayedLinear) -> NDArray[np.int64]:
    return linear.delay.detach().round().long().flatten().cpu().numpy()


def _share_per_delay(
    axis: Axes, drawn: DelayedLinear, trained: DelayedLinear, step_ms: float
) -> None:
    delays_ms = step_ms * np.arange(trained.taps)
    for linear, colour, label in ((drawn, BEFORE, "as drawn"), (trained, AFTER, "trained")):
        count = np.bincount(_rounded(linear), minlength=trained.taps)
        share = 100 * count / count.sum()
        axis.step(delays_ms, share, where="mid", color=colour, label=label)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("synapses (%)")


def _weight_per_delay(axis: Axes, trained: DelayedLinear, step_ms: float) -> None:
    delays = _rounded(trained)
    weight = trained.weight.detach().abs().flatten().cpu().numpy()
    count = np.bincount(delays, minlength=trained.taps)
    total = np.bincount(delays, weights=weight, minlength=trained.taps)
    mean = np.divide(total, count, out=np.zeros(trained.taps), where=count > 0)
    axis.bar(step_ms * np.arange(trained.taps), mean, width=0.8 * step_ms, color=AFTER)
    axis.set_ylabel("mean |weight|")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the suffix chooses the format."""
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(path, dpi=120)
