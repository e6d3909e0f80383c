"""Pictures of the causal tests: what each change of the delays costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from snn_delays.analysis.exhibit import (
    AFTER,
    BEFORE,
    COLOURS,
    Exhibit,
    legend_above,
    new_figure,
    whole_numbers,
)
from snn_delays.analysis.subject import Subject, layer_names
from snn_delays.evaluate import Score

CHANGES = {
    "shuffled": "shuffled within the layer",
    "mean": "all at the layer's mean",
    "zero": "all at zero",
}
AXES = {
    "jitter": "jitter of delays, ± steps of {step:g} ms",
    "levels": "delays rounded to q values",
    "pruned": "smallest weights pruned (%)",
}


def summarise_tests(rows: pd.DataFrame) -> pd.DataFrame:
    """Draws of one intervention put together.

    Args:
        rows: of ``causal.causal_tests``.

    Returns:
        Columns kind, amount, layer, draws, accuracy, low, high, in percent. The interval is
        Wilson's for n recordings at the mean over draws; draws share the recordings, so that more
        of them do not make it narrower.
    """
    found = []
    for (kind, amount, layer), group in rows.groupby(
        ["kind", "amount", "layer"], sort=False, dropna=False
    ):
        n = int(group["n"].iloc[0])
        score = Score(group["correct"].mean(), n)  # of several draws, not a whole number
        low, high = score.interval
        values = {"accuracy": group["accuracy"].mean(), "low": low, "high": high}
        percent = {name: 100 * value for name, value in values.items()}
        found.append(
            {"kind": kind, "amount": amount, "layer": layer, "draws": len(group), **percent}
        )
    return pd.DataFrame(found)


def layers_changed(subject: Subject, tests: pd.DataFrame) -> Exhibit:
    """Accuracy with the delays of one layer, or of all, shuffled, averaged or taken away."""
    data = tests[tests["kind"].isin(["intact", *CHANGES])]
    figure = new_figure(1, 3.4)
    axis = figure.subplots()
    groups = ["all", *layer_names(subject.network)]
    for number, (kind, label) in enumerate(CHANGES.items()):
        rows = data[data["kind"] == kind].set_index("layer").loc[groups]
        place = np.arange(len(groups)) + (number - 1) * 0.25
        axis.bar(place, rows["accuracy"], 0.23, color=COLOURS[number], label=label)
        axis.errorbar(place, rows["accuracy"], _errors(rows), fmt="none", color=AFTER, capsize=2)
    _reference_lines(axis, data, subject)
    axis.set_xticks(range(len(groups)), ["all layers", *groups[1:]])
    legend_above(axis)
    return Exhibit(
        "causal_layers",
        "What the delays are worth",
        "Test accuracy after the delays of all layers, or of one, are changed and nothing else."
        " Shuffling keeps each layer's distribution of delays: what it costs is what the network"
        " knows about which synapse has which delay. Bars: 95 % intervals over recordings.",
        data,
        figure,
    )


def amounts_changed(subject: Subject, tests: pd.DataFrame) -> Exhibit:
    """Accuracy over how much the delays are jittered or rounded, or weights pruned."""
    kinds = [kind for kind in AXES if (tests["kind"] == kind).any()]
    data = tests[tests["kind"].isin(["intact", *kinds])]
    figure = new_figure(1, 3.2)
    axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for kind, axis in zip(kinds, axes, strict=True):
        rows = data[data["kind"] == kind].sort_values("amount")
        x = 100 * rows["amount"] if kind == "pruned" else rows["amount"]
        axis.errorbar(x, rows["accuracy"], _errors(rows), fmt="o-", color=AFTER, capsize=2)
        _reference_lines(axis, data, subject)
        axis.set_xlabel(AXES[kind].format(step=subject.step_ms))
        if kind == "jitter":
            whole_numbers(axis.xaxis)
        if kind == "levels":
            axis.set_xticks(list(x))
    for axis in axes[1:]:
        axis.set_ylabel("")
    legend_above(axes[-1])
    return Exhibit(
        "causal_amounts",
        "How exact the delays must be",
        "Test accuracy with every delay of the network moved at random by up to n steps, with the"
        " delays rounded to q evenly spaced values, and with the smallest weights of each layer set"
        " to zero. Bars: 95 % intervals over recordings.",
        data,
        figure,
    )


def _errors(rows: pd.DataFrame) -> Any:
    below, above = rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]
    return np.maximum([below, above], 0)


def _reference_lines(axis: Axes, data: pd.DataFrame, subject: Subject) -> None:
    intact = data[data["kind"] == "intact"]["accuracy"].iloc[0]
    axis.axhline(intact, color=BEFORE, linestyle="--", linewidth=1, label="as trained")
    chance = 100 / len(subject.classes)
    axis.axhline(chance, color=BEFORE, linestyle=":", linewidth=1, label="chance")
    axis.set_ylim(0, 100)
    axis.set_ylabel("test accuracy (%)")


def training_curves(subject: Subject) -> Exhibit:
    """Loss and accuracy over epochs."""
    lines = [line for line in subject.metrics if line["phase"] == "train"]
    names = ["epoch", "sigma", "train_loss", "train_accuracy"]
    names += [f"{split}_{what}" for split in ("valid", "test") for what in ("loss", "accuracy")]
    data = pd.DataFrame(lines).reindex(columns=names).dropna(axis=1, how="all")
    figure = new_figure(1, 2.8)
    left, middle, right = figure.subplots(1, 3)
    for split, colour in (("train", AFTER), ("valid", COLOURS[0]), ("test", COLOURS[1])):
        for axis, what, scale in ((left, "loss", 1), (middle, "accuracy", 100)):
            if f"{split}_{what}" in data:
                label = f"{split} (test-selected)" if split == "test" else split
                axis.plot(data["epoch"], scale * data[f"{split}_{what}"], color=colour, label=label)
    right.plot(data["epoch"], subject.step_ms * data["sigma"], color=AFTER)
    for axis, name in ((left, "loss"), (middle, "accuracy (%)"), (right, "width sigma (ms)")):
        axis.set_ylabel(name)
        axis.set_xlabel("epoch")
    legend_above(left)
    chosen = math.nan if subject.result is None else subject.result["epoch"]
    note = "" if math.isnan(chosen) else f" The epoch that counts is {chosen}"
    note += f" ({subject.config.selection})." if note else ""
    return Exhibit(
        "training",
        "Training",
        "Loss and accuracy, in training with dropout and wide delays, on the other data as"
        f" deployed; and the width of the delays' Gaussians.{note}",
        data,
        figure,
    )
