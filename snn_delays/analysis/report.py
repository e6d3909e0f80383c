"""The report of one run: its finding, and what its network learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from snn_delays.analysis import curves, delays, mistakes, spikes, tables, words
from snn_delays.analysis.activity import Activity, record
from snn_delays.analysis.causal import causal_tests
from snn_delays.analysis.finding import finding
from snn_delays.analysis.latency import decision_latency
from snn_delays.analysis.operations import count_operations
from snn_delays.analysis.operations import table as operations_table
from snn_delays.analysis.page import Report, Section, Table, describe_options
from snn_delays.analysis.report_figure import ReportFigure
from snn_delays.analysis.trained_run import TrainedRun, refuse_targets
from snn_delays.config.options import options
from snn_delays.data.loaders import Samples
from snn_delays.errors import UserError
from snn_delays.evaluate import Score

LOOKED_AT = 256  # recordings whose spikes are counted, at most
MOST_BYTES = 10**9  # of their activity
OPERATIONS_NOTE = (
    "Definitions of NeuroBench; silence at the end of a recording counts. An input that is not 0"
    " costs one operation for each synapse that it reaches: an accumulate where all inputs of the"
    " layer are 0 or 1, else a multiply-accumulate (one bin with two spikes makes it so)."
    " Parameters and buffers are those of torch. A delay buffer is either an accumulator, sums yet"
    " to arrive (outputs x delays), or a history, the last inputs (inputs x delays). Its steps are"
    " those of a history in which each input is kept for its own longest delay. The energy is"
    " an estimate: arithmetic alone, by the constants of SpikingJelly, without memory traffic."
)

Step = Callable[[str], Any]


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
    refuse_targets(subject)
    if not 0 <= sample < len(samples):
        raise UserError(
            f"sample={sample} must be from 0 to {len(samples) - 1}, a {subject.split} recording."
        )
    answered = mistakes.answers(subject, samples)
    sections = [
        Section("Results", _results(subject, samples, answered)),
        Section("Delays" if delays.has_delays(subject) else "Weights", _delays(subject)),
        Section("Spikes", _spikes(subject, samples, sample)),
    ]
    step("figures")
    tests = _tests(subject, samples, repeats, step)
    sections.insert(1, Section("Causal tests", _causal(subject, tests)))
    shown = [(name, value) for name, value, _ in options(subject.config)]
    made: list[ReportFigure | Table] = [
        *_training(subject),
        *_provenance(subject),
        describe_options(shown),
    ]
    sections.append(Section("How it was made", made))
    sections.append(Section("Neuron by neuron", [_neurons(subject)]))
    told = "what the delays learned" if subject.learns_delays else "a look at the network"
    lead = [finding(subject, mistakes.score(answered), tests), *_lead(subject)]
    return Report(f"{subject.config.name}: {told}", lead, sections)


def _lead(subject: TrainedRun) -> list[str]:
    lines = [
        f"Run {subject.name}, after the epoch that counts, as deployed: unless something else is"
        f" said, delays are whole steps of {subject.step_ms:g} ms. Spikes and causal tests are of"
        f" its {subject.split} recordings; all intervals are of 95 %."
    ]
    if subject.split == "validation":
        lines.append(
            "The run leaves its test set unread (train.test=false), and so does this page."
        )
    if subject.result is None:
        lines.append("The run has not ended: the network is that of the best epoch so far.")
    return lines


def _results(
    subject: TrainedRun, samples: Samples, answered: pd.DataFrame
) -> list[ReportFigure | Table]:
    result = subject.result or {}
    rows = {}
    if "accuracy" in result:
        rows = {"test, all": result, **named("test, ", result["per_speaker_group"])}
    first = ", first training" if subject.config.train.protocol == "refit" else ""
    rows |= {f"validation{first}": result["valid"]} if "valid" in result else {}
    note = "Accuracy with Wilson's 95 % interval over recordings."
    if result.get("selection") == "test-selected":
        note += " Test-selected: the epoch was chosen on the test set."
    parts: list[ReportFigure | Table] = []
    parts += [_scores("results", "Accuracy", note, rows)] if rows else []
    parts += [mistakes.confusion(subject, answered), _mistakes(subject, answered)]
    parts.append(decision_latency(subject, samples))
    if "per_class" in result:
        parts.append(_scores("classes", "Accuracy by class", note, result["per_class"], True))
    return parts


def named(prefix: str, scores: dict[str, Any]) -> dict[str, Any]:
    """Scores whose names begin with ``prefix``."""
    return {f"{prefix}{name}": values for name, values in scores.items()}


def _scores(name: str, title: str, note: str, rows: dict[str, Any], folded: bool = False) -> Table:
    data = pd.DataFrame.from_dict(
        {name: _score(Score.from_dict(values)) for name, values in rows.items()},
        orient="index",
        columns=["accuracy, %", "low, %", "high, %", "n"],
    )
    return Table(name, title, note, data, folded, words=words.SCORES)


def _score(score: Score) -> list[float]:
    low, high = score.interval
    return [100 * score.accuracy, 100 * low, 100 * high, score.n]


def _mistakes(subject: TrainedRun, answered: pd.DataFrame) -> Table:
    data = mistakes.mistakes(answered)
    note = (
        f"{len(data):,} of {len(answered):,} {subject.split} recordings are mistaken; these are"
        f" the {mistakes.SHOWN} whose wrong answer is surest, by the softmax of its score."
        " sample=<recording> draws the spikes of another recording below."
    )
    shown = data.head(mistakes.SHOWN)
    return Table("mistakes", "Mistaken recordings", note, shown, words=words.MISTAKES)


def _training(subject: TrainedRun) -> list[ReportFigure]:
    return [curves.training_curves(subject)] if subject.metrics else []


def _delays(subject: TrainedRun) -> list[ReportFigure | Table]:
    parts: list[ReportFigure | Table] = []
    if delays.has_delays(subject):
        parts.append(delays.distribution(subject))
        parts += [delays.movement(subject)] if subject.learns_delays else []
        parts += [delays.drift(subject)] if len(delays.trace_data(subject)) else []
        parts += [delays.joint(subject)]
    if delays.has_recurrent_delays(subject):
        parts.append(_recurrent(subject))
    layers = len(list(subject.layers()))
    parts += [delays.fields(subject, layer) for layer in range(layers - 1)]
    parts.append(
        Table(
            "layers",
            "Layers",
            _layers_note(subject),
            tables.layers(subject).T,
            by_row=True,
            words=words.LAYERS,
        )
    )
    return parts


def _recurrent(subject: TrainedRun) -> Table:
    note = (
        "The time that a neuron's spikes take to the neurons of its own layer: before rounding, as"
        " deployed, and as drawn."
    )
    data = tables.recurrent_delays(subject).set_index(["layer", "neuron"])
    title = "Recurrent delays"
    return Table("recurrent", title, note, data, folded=True, wide=True, words=words.RECURRENT)


def _neurons(subject: TrainedRun) -> Table:
    neurons = tables.neurons(subject).set_index(["layer", "neuron"])
    note = "Over the incoming synapses of each neuron."
    return Table("neurons", "Neurons", note, neurons, folded=True, wide=True, words=words.LAYERS)


def _layers_note(subject: TrainedRun) -> str:
    note = "The middle 90 % of the absolute weight lies between the two delays named."
    if subject.learns_delays:
        note += (
            " Before rounding: the shares of delays clamped at either end of their range, and the"
            " mean distance from where the delays were drawn."
        )
    return note


def _spikes(subject: TrainedRun, samples: Samples, sample: int) -> list[ReportFigure | Table]:
    one = samples.where(np.arange(len(samples)) == sample)
    x = next(iter(subject.loader(one).epoch()))
    alone = record(subject.network, x.x)
    label = f"{subject.split.capitalize()} recording {sample}, {subject.classes[int(x.y[0])]}"
    ended, longest = int(samples.steps[sample]), subject.config.model.taps - 1
    seen = alone.until(ended + longest)
    number = min(len(samples), _looked_at(alone))
    spread = np.linspace(0, len(samples) - 1, number).round().astype(int)
    some = samples.where(np.isin(np.arange(len(samples)), spread))
    many = record(subject.network, next(iter(subject.loader(some, len(some)).epoch())).x)
    counted = operations_table(count_operations(subject.network, many)).T
    note = f"{OPERATIONS_NOTE} Mean over {len(some)} {subject.split} recordings."
    return [
        spikes.raster(subject, seen, 0, label, ended),
        spikes.membranes(subject, seen, 0),
        spikes.firing(subject, many),
        Table(
            "operations",
            "Operations, memory, energy",
            note,
            counted,
            by_row=True,
            words=words.OPERATIONS,
        ),
    ]


def _looked_at(one: Activity) -> int:
    """Recordings whose activity fits into memory together, given that of one."""
    kept = [one.input, *one.spikes, *one.membranes, one.readout]
    return max(1, min(LOOKED_AT, MOST_BYTES // sum(x.numel() * x.element_size() for x in kept)))


def _tests(subject: TrainedRun, samples: Samples, repeats: int, step: Step) -> pd.DataFrame:
    rows = []
    for row in causal_tests(subject, samples, repeats=repeats):
        rows.append(row)
        kind, amount, layer = (row[name].iloc[0] for name in ("kind", "amount", "layer"))
        step(f"{kind}{'' if np.isnan(amount) else f' {amount:g}'}, {layer}")
    return curves.summarise_tests(pd.concat(rows))


def _causal(subject: TrainedRun, tests: pd.DataFrame) -> list[ReportFigure | Table]:
    parts: list[ReportFigure | Table] = []
    if delays.has_delays(subject):
        parts.append(curves.layers_changed(subject, tests))
    parts.append(curves.amounts_changed(subject, tests))
    note = (
        f"{subject.accuracy_label.capitalize()} in percent, mean over draws. Its 95 % interval"
        " joins what the choice of recordings (Wilson) and the draws (Student's t) leave open."
    )
    data = tests.set_index("kind")
    parts.append(
        Table("causal", "All causal tests", note, data, folded=True, wide=True, words=words.CAUSAL)
    )
    return parts


def _provenance(subject: TrainedRun) -> list[Table]:
    if subject.result is None:
        return []
    result = subject.result
    names = ("commit", "config_hash", "data_hash", "seed", "seconds")
    found = {name: result.get(name) for name in names}
    rows = {name: "not known" if value is None else value for name, value in found.items()}
    rows |= {f"version of {k}": v for k, v in result.get("versions", {}).items()}
    rows |= {f"machine: {k}": v for k, v in result.get("machine", {}).items()}
    rows |= {k: v["part"] for k, v in result.get("own_parts", {}).items()}
    data = pd.DataFrame({"value": [str(v) for v in rows.values()]}, index=list(rows))
    return [Table("provenance", "Provenance", "As result.json says.", data, words=words.PROVENANCE)]
