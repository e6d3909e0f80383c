"""What a run's network learned, and runs beside one another, as reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from snn_delays.analysis import curves, delays, spikes, tables
from snn_delays.analysis.activity import Activity, record
from snn_delays.analysis.causal import causal_tests
from snn_delays.analysis.compare import similarity
from snn_delays.analysis.operations import count_operations
from snn_delays.analysis.operations import table as operations_table
from snn_delays.analysis.page import Report, Section, Table, describe_options
from snn_delays.analysis.report_figure import (
    LEGEND_COLUMNS,
    ReportFigure,
    legend_over_all,
    new_figure,
    run_style,
)
from snn_delays.analysis.trained_run import TrainedRun, layer_names
from snn_delays.config.options import options
from snn_delays.data.loaders import Samples
from snn_delays.errors import UserError
from snn_delays.evaluate import Score

LOOKED_AT = 256  # recordings whose spikes are counted, at most
MOST_BYTES = 10**9  # of their activity
OPERATIONS_NOTE = (
    "NeuroBench's definitions; ..._per_sample is per recording, silence at its end included. acs,"
    " macs: one for each input that is not 0 and each synapse that it reaches, an accumulate where"
    " all inputs of the layer are 0 or 1, else a multiply-accumulate (one bin with two spikes makes"
    " it so); dense: without sparsity. neuron_updates: membranes x steps. zero_synapses: those of"
    " weight 0. Bytes: footprint, parameters and buffers in torch; the delay buffer, either"
    " accumulator, sums yet to arrive (outputs x delays), or history, the last inputs (inputs x"
    " delays). The energy is an estimate: arithmetic alone, by SpikingJelly's constants, no memory"
    " traffic."
)

ON = {"valid": "validation", "test": "test-selected", "train": "training"}

Step = Callable[[str], Any]
Styles = dict[str, dict[str, Any]]  # of lines, by run


def run_report(
    subject: TrainedRun, samples: Samples, *, sample: int = 0, repeats: int = 5, step: Step = print
) -> Report:
    """All about one run.

    Args:
        subject: its network.
        samples: its held-out recordings (``held_out_samples``).
        sample: number of the one whose spikes are drawn.
        repeats: draws of each random causal test.
        step: called with what was done, once for every part and every evaluation.

    Raises:
        UserError: there is no such sample.
    """
    if not 0 <= sample < len(samples):
        raise UserError(
            f"sample={sample} must be from 0 to {len(samples) - 1}, a {subject.split} recording."
        )
    sections = [
        Section("Results", [*_results(subject), *_training(subject)]),
        Section("Delays" if delays.has_delays(subject) else "Weights", _delays(subject)),
        Section("Spikes", _spikes(subject, samples, sample)),
    ]
    step("figures")
    sections.append(Section("Causal tests", _causal(subject, samples, repeats, step)))
    shown = [(name, value) for name, value, _ in options(subject.config)]
    sections.append(Section("How it was made", [*_provenance(subject), describe_options(shown)]))
    told = "what the delays learned" if subject.learns_delays else "a look at the network"
    return Report(f"{subject.config.name}: {told}", _lead(subject), sections)


def _lead(subject: TrainedRun) -> list[str]:
    lines = [
        f"Run {subject.name}. The network is that of the epoch that counts"
        f" ({subject.config.selection}), as it is deployed: delays are whole steps of"
        f" {subject.step_ms:g} ms, unless it says otherwise. Spikes and causal tests are of its"
        f" {subject.split} recordings; intervals are of 95 %."
    ]
    if subject.split == "validation":
        lines.append(
            "The run leaves its test set unread (train.test=false), and so does this page."
        )
    if subject.result is None:
        lines.append("The run has not ended: the network is that of the best epoch so far.")
    return lines


def _results(subject: TrainedRun) -> list[Table]:
    result = subject.result or {}
    rows = {}
    if "accuracy" in result:
        rows = {"test, all": result, **_named("test, ", result["per_speaker_group"])}
    first = ", first training" if subject.config.train.protocol == "refit" else ""
    rows |= {f"validation{first}": result["valid"]} if "valid" in result else {}
    rows |= _named("test, class ", result.get("per_class", {}))
    data = pd.DataFrame.from_dict(
        {name: _score(Score.from_dict(values)) for name, values in rows.items()},
        orient="index",
        columns=["accuracy, %", "low, %", "high, %", "n"],
    )
    note = "Accuracy with Wilson's 95 % interval over recordings."
    if result.get("selection") == "test-selected":
        note += " Test-selected: the epoch was chosen on the test set."
    return [Table("results", "Accuracy", note, data)] if rows else []


def _named(prefix: str, scores: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": values for name, values in scores.items()}


def _score(score: Score) -> list[float]:
    low, high = score.interval
    return [100 * score.accuracy, 100 * low, 100 * high, score.n]


def _training(subject: TrainedRun) -> list[ReportFigure]:
    return [curves.training_curves(subject)] if subject.metrics else []


def _delays(subject: TrainedRun) -> list[ReportFigure | Table]:
    parts: list[ReportFigure | Table] = []
    if delays.has_delays(subject):
        parts.append(delays.distribution(subject))
        parts += [delays.movement(subject)] if subject.learns_delays else []
        parts += [delays.drift(subject)] if len(delays.trace_data(subject)) else []
        parts += [delays.joint(subject)]
    layers = len(list(subject.layers()))
    parts += [delays.fields(subject, layer) for layer in range(layers - 1)]
    parts.append(
        Table("layers", "Layers", _layers_note(subject), tables.layers(subject).T, by_row=True)
    )
    neurons = tables.neurons(subject).set_index(["layer", "neuron"])
    parts.append(
        Table(
            "neurons",
            "Neurons",
            "Over incoming synapses; weight_size: sum of absolute weights.",
            neurons,
            folded=True,
        )
    )
    return parts


def _layers_note(subject: TrainedRun) -> str:
    note = (
        "excitatory: share of positive weights. weighted_delay_ms: mean, by absolute weight."
        " window_...: delays between which the middle 90 % of the absolute weight lies."
    )
    if subject.learns_delays:
        note += (
            " Before rounding, clamped_...: shares of the delays that are held at either end;"
            " moved_ms: mean distance from where they were drawn."
        )
    return note


def _spikes(subject: TrainedRun, samples: Samples, sample: int) -> list[ReportFigure | Table]:
    one = samples.where(np.arange(len(samples)) == sample)
    x = next(iter(subject.loader(one).epoch()))
    alone = record(subject.network, x.x)
    label = f"{subject.split.capitalize()} recording {sample}, {subject.classes[int(x.y[0])]}"
    number = min(len(samples), _looked_at(alone))
    spread = np.linspace(0, len(samples) - 1, number).round().astype(int)
    some = samples.where(np.isin(np.arange(len(samples)), spread))
    many = record(subject.network, next(iter(subject.loader(some, len(some)).epoch())).x)
    counted = operations_table(count_operations(subject.network, many)).T
    note = f"{OPERATIONS_NOTE} Mean over {len(some)} {subject.split} recordings."
    return [
        spikes.raster(subject, alone, 0, label),
        spikes.membranes(subject, alone, 0),
        spikes.firing(subject, many),
        Table("operations", "Operations, memory, energy", note, counted, by_row=True),
    ]


def _looked_at(one: Activity) -> int:
    """Recordings whose activity fits into memory together, given that of one."""
    kept = [one.input, *one.spikes, *one.membranes, one.readout]
    return max(1, min(LOOKED_AT, MOST_BYTES // sum(x.numel() * x.element_size() for x in kept)))


def _causal(
    subject: TrainedRun, samples: Samples, repeats: int, step: Step
) -> list[ReportFigure | Table]:
    rows = []
    for row in causal_tests(subject, samples, repeats=repeats):
        rows.append(row)
        kind, amount, layer = (row[name].iloc[0] for name in ("kind", "amount", "layer"))
        step(f"{kind}{'' if np.isnan(amount) else f' {amount:g}'}, {layer}")
    tests = curves.summarise_tests(pd.concat(rows))
    parts: list[ReportFigure | Table] = []
    if delays.has_delays(subject):
        parts.append(curves.layers_changed(subject, tests))
    parts.append(curves.amounts_changed(subject, tests))
    note = (
        f"{subject.accuracy_label.capitalize()} in percent, mean over draws; low, high: its 95 %"
        " interval, which joins what the choice of recordings (Wilson) and the draws (Student's t)"
        " leave open; lowest, highest: of the draws."
    )
    parts.append(Table("causal", "All causal tests", note, tests.set_index("kind"), folded=True))
    return parts


def _provenance(subject: TrainedRun) -> list[Table]:
    if subject.result is None:
        return []
    result = subject.result
    names = ("commit", "config_hash", "data_hash", "seed", "seconds")
    rows = {name: result.get(name, "not known") for name in names}
    rows |= {f"version of {k}": v for k, v in result.get("versions", {}).items()}
    rows |= {f"machine: {k}": v for k, v in result.get("machine", {}).items()}
    data = pd.DataFrame({"value": [str(v) for v in rows.values()]}, index=list(rows))
    return [Table("provenance", "Provenance", "As result.json says.", data)]


# ---- runs beside one another -------------------------------------------------------------------


def comparison_report(subjects: Sequence[TrainedRun]) -> Report:
    """Runs beside one another: accuracy, training, delays, and how alike their delays are."""
    lead = [f"run {number}: {subject.name}" for number, subject in enumerate(subjects, 1)]
    named = [replace(subject, name=f"run {n}") for n, subject in enumerate(subjects, 1)]
    styles = {subject.name: run_style(number) for number, subject in enumerate(named)}
    traced = [subject for subject in named if subject.metrics]
    with_delays = [subject for subject in named if delays.has_delays(subject)]
    parts: list[ReportFigure | Table] = []
    if with_delays:
        parts = [_distributions_beside(with_delays, styles), *_likeness(with_delays)]
    sections = [
        Section("Results", [_beside(named), *([_curves_beside(traced, styles)] if traced else [])]),
        Section("Delays", parts),
    ]
    return Report(f"{len(subjects)} runs compared", lead, sections)


def _beside(subjects: Sequence[TrainedRun]) -> Table:
    rows = {}
    for subject in subjects:
        result = subject.result or {}
        row: dict[str, Any] = {"name": subject.config.name, "seed": subject.config.seed}
        row |= {"parameters": result.get("parameters"), "epoch": result.get("epoch")}
        row |= {"delays": subject.config.model.delays, "selection": subject.config.selection}
        scores = {"validation": result["valid"]} if "valid" in result else {}
        if "accuracy" in result:
            scores |= {"test": result, **_named("test, ", result["per_speaker_group"])}
        for group, values in scores.items():
            score = Score.from_dict(values)
            low, high = score.interval
            row[group] = f"{score.accuracy:.1%} [{low:.1%}, {high:.1%}] n = {score.n}"
        rows[subject.name] = row
    note = (
        "Accuracy with Wilson's 95 % interval over recordings, as each run's result says;"
        " test-selected ones are of an epoch chosen on the test set. A dash: not known."
    )
    data = pd.DataFrame.from_dict(rows, orient="index")
    return Table("results", "Accuracy", note, data.astype(object).where(data.notna(), "-"))


def _curves_beside(subjects: Sequence[TrainedRun], styles: Styles) -> ReportFigure:
    figure = new_figure(1, 3.0 + 0.2 * len(subjects) / LEGEND_COLUMNS)
    loss, accuracy = figure.subplots(1, 2)
    frames = []
    for subject in subjects:
        data = curves.training_data(subject).assign(run=subject.name)
        frames.append(data)
        style = styles[subject.name]
        loss.plot(data["epoch"], data["train_loss"], **style)
        split = next((s for s in ("valid", "test") if f"{s}_accuracy" in data), "train")
        label = f"{subject.name}, {ON[split]}"
        accuracy.plot(data["epoch"], 100 * data[f"{split}_accuracy"], label=label, **style)
    loss.set_ylabel("training loss")
    accuracy.set_ylabel("accuracy (%)")
    for axis in (loss, accuracy):
        axis.set_xlabel("epoch")
    legend_over_all(figure, accuracy)
    caption = (
        "Left, training loss. Right, accuracy on the data that chose the epoch, or in training"
        " where none did."
    )
    return ReportFigure("training", "Training", caption, pd.concat(frames), figure)


def _likeness(subjects: Sequence[TrainedRun]) -> list[Table]:
    if len(subjects) < 2 or not _of_one_shape(subjects):
        return []
    data = similarity(subjects)
    note = (
        "distance_ms: Wasserstein distance between the distributions of delays. matched: mean"
        " correlation of the receptive fields of neurons paired one to one so that it is highest"
        " (first hidden layer); chance, chance_std: the same with one run's delays shuffled, mean"
        " and standard deviation of 20 times."
    )
    return [Table("similarity", "Likeness", note, data.set_index(["first", "second", "layer"]))]


def _of_one_shape(subjects: Sequence[TrainedRun]) -> bool:
    layers = [[(*m.weight.shape, m.taps) for _, _, m in subject.layers()] for subject in subjects]
    return all(
        (subject.step_ms, shape) == (subjects[0].step_ms, layers[0])
        for subject, shape in zip(subjects, layers, strict=True)
    )


def _distributions_beside(subjects: Sequence[TrainedRun], styles: Styles) -> ReportFigure:
    frames = [delays.distribution_data(subject).assign(run=subject.name) for subject in subjects]
    data = pd.concat(frames)[["run", "layer", "delay_ms", "trained_percent"]]
    deepest = max(subjects, key=lambda subject: len(subject.network.blocks))
    layers = layer_names(deepest.network)
    figure = new_figure(len(layers))
    axes = figure.subplots(len(layers), 1, squeeze=False, sharex=True)[:, 0]
    for layer, axis in zip(layers, axes, strict=True):
        for subject in subjects:
            rows = data[(data["layer"] == layer) & (data["run"] == subject.name)]
            x, y, style = rows["delay_ms"], rows["trained_percent"], styles[subject.name]
            axis.step(x, y, where="mid", label=subject.name, **style)
        axis.set_title(layer, loc="left", fontsize=10)
        axis.set_ylabel("synapses (%)")
        axis.set_ylim(bottom=0)
    legend_over_all(figure, axes[0])
    axes[-1].set_xlabel("delay (ms)")
    unlike = (
        ""
        if _of_one_shape(subjects)
        else " Their layers differ in shape, so that likeness is not measured."
    )
    caption = f"Share of each layer's synapses at each delay of the deployed networks.{unlike}"
    return ReportFigure("delays", "Where the delays are", caption, data, figure)
