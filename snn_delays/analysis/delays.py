"""Pictures of the delays of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_delays.nn import DelayedLinear, Network

# Colours apart for colour-blind readers and in print (Okabe and Ito).
BEFORE, AFTER = "#999999", "#000000"
EXCITATORY, INHIBITORY = "#0072B2", "#D55E00"
MOST_DOTS = 3000  # per layer; the heaviest synapses


def layer_names(network: Network) -> list[str]:
    """A name for each delayed layer, from input to output."""
    return [*(f"hidden layer {n + 1}" for n in range(len(network.blocks))), "readout"]


def plot_delays(before: Network, after: Network, step_ms: float, title: str) -> Figure:
    """Where delays were and went: one row per layer.

    Left, the share of synapses at each delay, as drawn and after training. Right, the delay of
    each synapse as drawn and after training; a larger dot is a larger weight, and dots on the line
    have not moved.

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
        _movement(right, drawn, trained, step_ms)
        left.set_title(name, loc="left", fontsize=10)
    for axis in axes[0]:  # above the axes, where no data is
        axis.legend(
            frameon=False,
            fontsize=9,
            ncols=2,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            borderpad=0,
        )
    axes[-1, 0].set_xlabel("delay (ms)")
    axes[-1, 1].set_xlabel("as drawn (ms)")
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


def _movement(axis: Axes, drawn: DelayedLinear, trained: DelayedLinear, step_ms: float) -> None:
    before, after, weight = (
        tensor.detach().flatten().cpu().numpy()
        for tensor in (drawn.delay, trained.delay, trained.weight)
    )
    heaviest = np.argsort(-np.abs(weight))[:MOST_DOTS]
    size = 20 * np.abs(weight) / max(np.abs(weight).max(), np.finfo(weight.dtype).tiny)
    longest = step_ms * (trained.taps - 1)
    axis.plot([0, longest], [0, longest], color=BEFORE, linewidth=1, zorder=0)
    for sign, colour, label in ((1, EXCITATORY, "excitatory"), (-1, INHIBITORY, "inhibitory")):
        shown = heaviest[np.sign(weight[heaviest]) == sign]
        axis.scatter(
            step_ms * before[shown],
            step_ms * after[shown],
            size[shown],
            color=colour,
            label=label,
            linewidths=0,
            alpha=0.6,
        )
    axis.set_ylabel("trained (ms)")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the suffix chooses the format."""
    figure.savefig(path, dpi=120)
