"""What a run's network learned, and runs beside one another, as reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from snn_delays.analysis import curves, delays, spikes, tables
from snn_delays.analysis.activity import record
from snn_delays.analysis.causal import causal_tests
from snn_delays.analysis.compare import similarity
from snn_delays.analysis.exhibit import AFTER, COLOURS, Exhibit, legend_above, new_figure
from snn_delays.analysis.operations import count_operations
from snn_delays.analysis.operations import table as operations_table
from snn_delays.analysis.page import Report, Section, Table, describe_options
from snn_delays.analysis.subject import Subject
from snn_delays.config import options
from snn_delays.data.loaders import Samples
from snn_delays.errors import UserError
from snn_delays.evaluate import Score

LOOKED_AT = 256  # recordings whose spikes are counted

Step = Callable[[str], Any]


def run_report(
    subject: Subject, samples: Samples, *, sample: int = 0, repeats: int = 5, step: Step = print
) -> Report:
    """All about one run.

    Args:
        subject: its network.
        samples: its test recordings.
        sample: number of the one whose spikes are drawn.
        repeats: draws of each random causal test.
        step: called with what was done, once for every part and every evaluation.

    Raises:
        UserError: there is no such sample.
    """
    if not 0 <= sample < len(samples):
        raise UserError(f"sample={sample} must be from 0 to {len(samples) - 1}, a test recording.")
    sections = [
        Section("Results", [_results(subject), *_training(subject)]),
        Section("Delays", _delays(subject)),
        Section("Spikes", _spikes(subject, samples, sample)),
    ]
    step("figures")
    sections.append(Section("What the delays are worth", _causal(subject, samples, repeats, step)))
    shown = [(name, value) for name, value, _ in options(subject.config)]
    sections.append(Section("How it was made", [*_provenance(subject), describe_options(shown)]))
    return Report(f"{subject.config.name}: what the delays learned", _lead(subject), sections)


def _lead(subject: Subject) -> list[str]:
    return [
        f"Run {subject.name}. All numbers are of the deployed network, whose delays are whole steps"
        f" of {subject.step_ms:g} ms; accuracies are shares of test recordings right, with 95 %"
        f" intervals over recordings. Epoch: {subject.config.selection}."
    ]


def _results(subject: Subject) -> Table:
    result = subject.result or {}
    rows = {}
    if "accuracy" in result:
        rows = {"test, all": result, **_named("test, ", result["per_speaker_group"])}
    rows |= {"validation": result["valid"]} if "valid" in result else {}
    rows |= _named("test, class ", result.get("per_class", {}))
    data = pd.DataFrame.from_dict(
        {name: _score(Score.from_dict(values)) for name, values in rows.items()},
        orient="index",
        columns=["accuracy, %", "low, %", "high, %", "n"],
    )
    note = "Accuracy with Wilson's 95 % interval."
    if result.get("selection") == "test-selected":
        note += " Test-selected: the epoch was chosen on the test set."
    return Table("results", "Accuracy", note, data)


def _named(prefix: str, scores: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": values for name, values in scores.items()}


def _score(score: Score) -> list[float]:
    low, high = score.interval
    return [100 * score.accuracy, 100 * low, 100 * high, score.n]


def _training(subject: Subject) -> list[Exhibit]:
    return [curves.training_curves(subject)] if subject.metrics else []


def _delays(subject: Subject) -> list[Exhibit | Table]:
    parts: list[Exhibit | Table] = []
    if delays.has_delays(subject):
        parts += [delays.distribution(subject), delays.movement(subject)]
        parts += [delays.drift(subject)] if len(delays.trace_data(subject)) else []
        parts += [delays.joint(subject)]
    layers = len(list(subject.layers()))
    parts += [delays.fields(subject, layer) for layer in range(layers - 1)]
    note = (
        "window: delays between which the middle 90 % of the absolute weight lies. low, high:"
        " shares of the delays clamped at either end."
    )
    parts.append(Table("layers", "Layers", note, tables.layers(subject).T))
    neurons = tables.neurons(subject).set_index(["layer", "neuron"])
    parts.append(Table("neurons", "Neurons", "Over incoming synapses.", neurons, folded=True))
    return parts


def _spikes(subject: Subject, samples: Samples, sample: int) -> list[Exhibit | Table]:
    one = samples.where(np.arange(len(samples)) == sample)
    x = next(iter(subject.loader(one).epoch()))
    alone = record(subject.network, x.x)
    label = f"Test recording {sample}, {subject.classes[int(x.y[0])]}"
    spread = np.linspace(0, len(samples) - 1, min(LOOKED_AT, len(samples))).round().astype(int)
    some = samples.where(np.isin(np.arange(len(samples)), spread))
    many = record(subject.network, next(iter(subject.loader(some, len(some)).epoch())).x)
    counted = operations_table(count_operations(subject.network, many)).T
    note = (
        f"NeuroBench's definitions, mean over {len(some)} test recordings, silence at their ends"
        " included. The energy is an estimate: arithmetic alone, by SpikingJelly's constants, no"
        " memory traffic."
    )
    return [
        spikes.raster(subject, alone, 0, label),
        spikes.membranes(subject, alone, 0),
        spikes.firing(subject, many),
        Table("operations", "Operations, memory, energy", note, counted),
    ]


def _causal(subject: Subject, samples: Samples, repeats: int, step: Step) -> list[Exhibit | Table]:
    rows = []
    for row in causal_tests(subject, samples, repeats=repeats):
        rows.append(row)
        step(f"{row['kind'].iloc[0]}, {row['layer'].iloc[0]}")
    tests = curves.summarise_tests(pd.concat(rows))
    parts: list[Exhibit | Table] = []
    if delays.has_delays(subject):
        parts.append(curves.layers_changed(subject, tests))
    parts.append(curves.amounts_changed(subject, tests))
    note = "Accuracy in percent, mean over draws, with Wilson's 95 % interval over recordings."
    parts.append(Table("causal", "All causal tests", note, tests.set_index("kind"), folded=True))
    return parts


def _provenance(subject: Subject) -> list[Table]:
    if subject.result is None:
        return []
    result = subject.result
    rows = {key: result[key] for key in ("commit", "config_hash", "data_hash", "seed", "seconds")}
    rows |= {f"version of {k}": v for k, v in result["versions"].items()}
    rows |= {f"machine: {k}": v for k, v in result["machine"].items()}
    data = pd.DataFrame({"value": [str(v) for v in rows.values()]}, index=list(rows))
    return [Table("provenance", "Provenance", "As result.json says.", data)]


# ---- runs beside one another -------------------------------------------------------------------


def comparison_report(subjects: Sequence[Subject]) -> Report:
    """Runs beside one another: accuracy, training, delays, and how alike their delays are."""
    names = [f"run {number}" for number in range(1, len(subjects) + 1)]
    sections = [
        Section("Results", [_beside(names, subjects), _curves_beside(names, subjects)]),
        Section("Delays", _delays_beside(names, subjects)),
    ]
    lead = [f"{name}: {subject.name}" for name, subject in zip(names, subjects, strict=True)]
    return Report(f"{len(subjects)} runs compared", lead, sections)


def _beside(names: list[str], subjects: Sequence[Subject]) -> Table:
    rows = {}
    for name, subject in zip(names, subjects, strict=True):
        result = subject.result or {}
        row: dict[str, Any] = {"name": subject.config.name, "seed": subject.config.seed}
        row |= {"parameters": result.get("parameters"), "epoch": result.get("epoch")}
        row |= {"delays": subject.config.model.delays, "selection": subject.config.selection}
        if "accuracy" in result:
            scores = {"test": result, **result["per_speaker_group"]}
            for group, values in scores.items():
                low, high = values["interval"]
                row[f"{group}, %"] = f"{values['accuracy']:.1%} [{low:.1%}, {high:.1%}]"
        rows[name] = row
    note = "Test accuracy with Wilson's 95 % interval over recordings, as each run's result says."
    data = pd.DataFrame.from_dict(rows, orient="index")
    return Table("results", "Accuracy", note, data.rename(columns=lambda c: c.removesuffix(", %")))


def _curves_beside(names: list[str], subjects: Sequence[Subject]) -> Exhibit:
    figure = new_figure(1, 3.0)
    loss, accuracy = figure.subplots(1, 2)
    frames = []
    for number, (name, subject) in enumerate(zip(names, subjects, strict=True)):
        data = curves.training_curves(subject).data.assign(run=name)
        frames.append(data)
        style = {"color": COLOURS[number % len(COLOURS)], "label": name}
        loss.plot(data["epoch"], data["train_loss"], **style)
        column = next((c for c in ("valid_accuracy", "test_accuracy") if c in data), None)
        column = column or "train_accuracy"
        accuracy.plot(data["epoch"], 100 * data[column], **style)
    loss.set_ylabel("training loss")
    accuracy.set_ylabel("accuracy (%)")
    for axis in (loss, accuracy):
        axis.set_xlabel("epoch")
    legend_above(loss)
    caption = (
        "Left, training loss. Right, accuracy on the data that chose the epoch, or in training"
        " where none did."
    )
    return Exhibit("training", "Training", caption, pd.concat(frames), figure)


def _delays_beside(names: list[str], subjects: Sequence[Subject]) -> list[Exhibit | Table]:
    pairs = [(n, s) for n, s in zip(names, subjects, strict=True) if delays.has_delays(s)]
    if not pairs:
        return []
    parts: list[Exhibit | Table] = [_distributions_beside(pairs)]
    named = {subject.name: name for name, subject in pairs}
    if len(pairs) > 1 and len({_shape(subject) for _, subject in pairs}) == 1:
        data = similarity([subject for _, subject in pairs])
        for column in ("first", "second"):
            data[column] = data[column].map(named)
        note = (
            "distance_ms: Wasserstein distance between the distributions of delays. matched: mean"
            " correlation of the receptive fields of neurons paired one to one so that it is"
            " highest (first hidden layer); chance: the same with one run's delays shuffled."
        )
        index = ["first", "second", "layer"]
        parts.append(Table("similarity", "Likeness", note, data.set_index(index)))
    return parts


def _shape(subject: Subject) -> tuple[Any, ...]:
    return (subject.step_ms, *((*tuple(m.weight.shape), m.taps) for _, _, m in subject.layers()))


def _distributions_beside(pairs: list[tuple[str, Subject]]) -> Exhibit:
    frames = [delays.distribution_data(subject).assign(run=name) for name, subject in pairs]
    data = pd.concat(frames)[["run", "layer", "delay_ms", "trained_percent"]]
    layers = list(dict.fromkeys(data["layer"]))
    figure = new_figure(len(layers))
    axes = figure.subplots(len(layers), 1, squeeze=False, sharex=True)[:, 0]
    for layer, axis in zip(layers, axes, strict=True):
        for number, (name, _) in enumerate(pairs):
            rows = data[(data["layer"] == layer) & (data["run"] == name)]
            colour = COLOURS[number % len(COLOURS)] if len(pairs) > 1 else AFTER
            axis.step(
                rows["delay_ms"], rows["trained_percent"], where="mid", color=colour, label=name
            )
        axis.set_title(layer, loc="left", fontsize=10)
        axis.set_ylabel("synapses (%)")
        axis.set_ylim(bottom=0)
    legend_above(axes[0])
    axes[-1].set_xlabel("delay (ms)")
    caption = "Share of each layer's synapses at each delay of the deployed networks."
    return Exhibit("delays", "Where the delays are", caption, data, figure)
