"""Pictures of the causal tests: what each change of the delays costs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from snn_delays.analysis.report_figure import (
    AFTER,
    BEFORE,
    COLOURS,
    ReportFigure,
    legend_above,
    new_figure,
    save_figure,
    whole_numbers,
)
from snn_delays.analysis.trained_run import TrainedRun, layer_names, open_run
from snn_delays.benchmark.statistics import summarise
from snn_delays.evaluate import wilson
from snn_delays.training.error_messages import writing

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
MEANINGS = {
    "jitter": "with every delay of the network moved at random by up to n steps",
    "levels": "with the delays rounded to q evenly spaced values",
    "pruned": "with the smallest weights of each layer set to zero",
}
LEARNING_CURVE = "learning_curve.png"
BARS = "Bars: 95 % intervals over recordings and, where draws are random, over draws."


def summarise_tests(rows: pd.DataFrame) -> pd.DataFrame:
    """Draws of one intervention put together.

    Args:
        rows: of ``causal.causal_tests``.

    Returns:
        Columns kind, amount, layer, draws, and in percent accuracy (the mean over draws), low and
        high (its 95 % interval), lowest and highest (of the draws). The interval joins what the
        choice of recordings leaves open (Wilson's for n of them, which the draws share) and what
        the draws do (Student's t of their mean) as independent errors, by the root of their summed
        squares; one draw says nothing of the second.
    """
    found = []
    for (kind, amount, layer), group in rows.groupby(
        ["kind", "amount", "layer"], sort=False, dropna=False
    ):
        draws = summarise(group["accuracy"].tolist())
        low, high = wilson(draws.mean, int(group["n"].iloc[0]))
        between = 0.0 if draws.n < 2 else draws.high - draws.mean
        values = {
            "accuracy": draws.mean,
            "low": max(0.0, draws.mean - math.hypot(draws.mean - low, between)),
            "high": min(1.0, draws.mean + math.hypot(high - draws.mean, between)),
            "lowest": group["accuracy"].min(),
            "highest": group["accuracy"].max(),
        }
        percent = {name: 100 * value for name, value in values.items()}
        found.append({"kind": kind, "amount": amount, "layer": layer, "draws": draws.n, **percent})
    return pd.DataFrame(found)


def layers_changed(subject: TrainedRun, tests: pd.DataFrame) -> ReportFigure:
    """Accuracy with the delays of one layer, or of all, shuffled, averaged or taken away."""
    data = tests[tests["kind"].isin(["intact", *CHANGES])]
    figure = new_figure(1, 3.0)
    axis = figure.subplots()
    groups = ["all", *layer_names(subject.network)]
    for number, (kind, label) in enumerate(CHANGES.items()):
        rows = data[data["kind"] == kind].set_index("layer").loc[groups]
        place = np.arange(len(groups)) + (number - 1) * 0.25
        axis.bar(place, rows["accuracy"], 0.23, color=COLOURS[number], label=label)
        axis.errorbar(place, rows["accuracy"], _errors(rows), fmt="none", color=AFTER, capsize=2)
    _reference_lines(axis, data, subject)
    axis.set_xticks(range(len(groups)), ["all layers", *groups[1:]], fontsize=8)
    legend_above(axis)
    knows = "knows" if subject.learns_delays else "has fitted its weights to"
    return ReportFigure(
        "causal_layers",
        "What the delays are worth",
        f"{_sentence(subject)} after the delays of all layers, or of one, are changed and nothing"
        " else. Shuffling keeps each layer's distribution of delays: what it costs is what the"
        f" network {knows} about which synapse has which delay. {BARS}",
        data,
        figure,
    )


def amounts_changed(subject: TrainedRun, tests: pd.DataFrame) -> ReportFigure:
    """Accuracy over how much the delays are jittered or rounded, or weights pruned."""
    kinds = [kind for kind in AXES if (tests["kind"] == kind).any()]
    data = tests[tests["kind"].isin(["intact", *kinds])]
    figure = new_figure(len(kinds))
    axes = figure.subplots(len(kinds), 1, sharey=True, squeeze=False)[:, 0]
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
    legend_above(axes[0])
    title = "How exact the delays must be" if "jitter" in kinds else "How many weights matter"
    told = ", and ".join(MEANINGS[kind] for kind in kinds)
    return ReportFigure(
        "causal_amounts", title, f"{_sentence(subject)} {told}. {BARS}", data, figure
    )


def _sentence(subject: TrainedRun) -> str:
    """The accuracy that is drawn, at the start of a sentence."""
    return subject.accuracy_label.capitalize()


def _errors(rows: pd.DataFrame) -> Any:
    below, above = rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]
    return np.maximum([below, above], 0)


def _percent_label(subject: TrainedRun) -> str:
    """ "test accuracy (%)", in two lines where more must be said."""
    return subject.accuracy_label.replace("accuracy", "accuracy (%)").replace(") (", ")\n(")


def _reference_lines(axis: Axes, data: pd.DataFrame, subject: TrainedRun) -> None:
    intact = data[data["kind"] == "intact"]["accuracy"].iloc[0]
    axis.axhline(intact, color=BEFORE, linestyle="--", linewidth=1, label="as trained")
    chance = 100 / len(subject.classes)
    axis.axhline(chance, color=BEFORE, linestyle=":", linewidth=1, label="chance")
    axis.set_ylim(0, 100)
    axis.set_ylabel(_percent_label(subject))


def training_curves(subject: TrainedRun) -> ReportFigure:
    """Loss and accuracy or NRMSE over the epochs of the training that made the network."""
    data = training_data(subject)
    number = 3 if subject.learns_delays else 2
    figure = new_figure(number)
    per_step = subject.config.data.target == "per_step"
    score = ("nrmse", 1, "NRMSE") if per_step else ("accuracy", 100, "accuracy (%)")
    panels = [("loss", 1, "loss"), score]
    axes = figure.subplots(number, 1, sharex=True)
    for split, colour in (("train", AFTER), ("valid", COLOURS[0]), ("test", COLOURS[1])):
        for axis, (what, scale, name) in zip(axes, panels, strict=False):
            if f"{split}_{what}" in data:
                label = f"{split} (test-selected)" if split == "test" else split
                axis.plot(data["epoch"], scale * data[f"{split}_{what}"], color=colour, label=label)
            axis.set_ylabel(name)
    if subject.learns_delays:
        axes[2].plot(data["epoch"], subject.step_ms * data["sigma"], color=AFTER)
        axes[2].set_ylabel("width sigma (ms)")
    axes[-1].set_xlabel("epoch")
    whole_numbers(axes[-1].xaxis)
    legend_above(axes[0])
    wide = (" and wide delays", "; and the width of the delays' Gaussians")
    with_delays, width = wide if subject.learns_delays else ("", "")
    return ReportFigure(
        "training",
        "Training",
        f"Loss and {'NRMSE' if per_step else 'accuracy'}, in training with dropout{with_delays}, on"
        f" the other data as deployed{width}.{_chosen(subject)}",
        data,
        figure,
    )


def write_learning_curve(folder: Path) -> None:
    """Draw a run's training curves into its folder, unless they are there.

    Raises:
        UserError: the folder holds no sound run, or cannot be written.
    """
    path = folder / LEARNING_CURVE
    if not path.exists():
        figure = training_curves(open_run(folder)).figure
        with writing(folder):
            save_figure(figure, path)


def training_data(subject: TrainedRun) -> pd.DataFrame:
    """Columns epoch, sigma (steps), and of train, valid and test, where they are known, the loss,
    and the accuracy or with targets per step the NRMSE."""
    names = ["epoch", "sigma", "train_loss", "train_accuracy", "train_nrmse"]
    scores = ("loss", "accuracy", "nrmse")
    names += [f"{split}_{what}" for split in ("valid", "test") for what in scores]
    return pd.DataFrame(subject.training).reindex(columns=names).dropna(axis=1, how="all")


def _chosen(subject: TrainedRun) -> str:
    """Which epoch counts, where the run has ended."""
    if subject.result is None:
        return ""
    told = f" The epoch that counts is {subject.result['epoch']} ({subject.config.selection})."
    if subject.config.train.protocol == "refit":
        told += " This is the second training, on all data; the first only chose how long it takes."
    return told
