"""The report of several runs: options that differ, accuracies tested, delays compared."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from snn_delays.analysis import curves, delays, mistakes, words
from snn_delays.analysis.compare import similarity
from snn_delays.analysis.page import Report, Section, Table
from snn_delays.analysis.report_figure import (
    ReportFigure,
    as_label,
    legend_over_all,
    new_figure,
    run_style,
)
from snn_delays.analysis.trained_run import TrainedRun, layer_names, refuse_targets
from snn_delays.benchmark.statistics import PERCENT, holm, mcnemar, summarise
from snn_delays.config.options import options, shown
from snn_delays.config.schema import shapes_result
from snn_delays.data.loaders import Samples
from snn_delays.evaluate import Score

ON = {"valid": "validation", "test": "test-selected", "train": "training"}
MOST_NAMED = 3  # options in the name of a run
MOST_PAIRS = 10  # rows of pairs that are not folded

Styles = dict[str, dict[str, Any]]  # of lines, by run
Named = dict[str, str]  # how curves call a run, by run


def comparison_report(
    subjects: Sequence[TrainedRun], samples: Sequence[Samples | None] = ()
) -> Report:
    """Runs beside one another.

    Args:
        subjects: the runs.
        samples: recordings that each run is tested on, or None where they cannot be read; the
            networks of runs with the same recordings are tested in pairs.
    """
    for subject in subjects:
        refuse_targets(subject)
    paths = [f"run {number}: {subject.name}" for number, subject in enumerate(subjects, 1)]
    runs = [dataclasses.replace(s, name=f"run {n}") for n, s in enumerate(subjects, 1)]
    differing = _differences(runs)
    styles = {run.name: run_style(number) for number, run in enumerate(runs)}
    names = {run.name: _called(run.name, differing[run.name]) for run in runs}
    traced = [run for run in runs if run.metrics]
    with_delays = [run for run in runs if delays.has_delays(run)]
    results: list[ReportFigure | Table] = [_beside(runs), *_seeds(runs)]
    results += _pairs(runs, samples) if samples else []
    results += [_curves_beside(traced, styles, names)] if traced else []
    parts: list[ReportFigure | Table] = []
    if with_delays:
        parts = [_distributions_beside(with_delays, styles, names), *_likeness(with_delays)]
    sections = [
        Section("What differs", [_options(differing)] if len(differing) else []),
        Section("Results", results),
        Section("Delays", parts),
    ]
    return Report(f"{len(subjects)} runs compared", [_told(differing), *paths], sections)


# ---- what differs ------------------------------------------------------------------------------


def _differences(runs: Sequence[TrainedRun]) -> pd.DataFrame:
    """Options that shape a result and differ, in rows; their values, a column for each run."""
    values = pd.DataFrame(
        {run.name: {name: shown(value) for name, value, _ in options(run.config)} for run in runs}
    )
    kept = [shapes_result(name) for name in values.index]
    values = values[kept]
    return values[values.nunique(axis=1) > 1]


def _told(differing: pd.DataFrame) -> str:
    """The options that differ, in a sentence."""
    if differing.empty:
        return "The runs have the same options."
    more = len(differing) - MOST_NAMED
    rest = f", and in {more} further option{'s' * (more > 1)}" if more > 0 else ""
    return f"The runs differ in {', '.join(differing.index[:MOST_NAMED])}{rest}."


def _called(name: str, values: pd.Series) -> str:
    """Name of a run with its values of the options that differ."""
    short = {option: str(option).rpartition(".")[2] for option in values.index}
    short |= {option: str(option) for option, last in short.items() if last == "name"}
    told = [f"{short[option]}={value}" for option, value in values.items()]
    more = ", ..." if len(told) > MOST_NAMED else ""
    return as_label(f"{name} ({', '.join(told[:MOST_NAMED])}{more})" if told else name)


def _options(differing: pd.DataFrame) -> Table:
    note = "Options that shape a result and are not the same in all runs."
    return Table(
        "differences", "Options that differ", note, differing.rename_axis("option"), wide=True
    )


# ---- results -----------------------------------------------------------------------------------


def _beside(runs: Sequence[TrainedRun]) -> Table:
    rows = {}
    for run in runs:
        result = run.result or {}
        row: dict[str, Any] = {"name": run.config.name, "seed": run.config.seed}
        row |= {"parameters": result.get("parameters"), "epoch": result.get("epoch")}
        row |= {"delays": run.config.model.delays, "selection": run.config.selection}
        scores = {"validation": result["valid"]} if "valid" in result else {}
        if "accuracy" in result:
            scores |= {"test": result}
            scores |= {f"test, {k}": v for k, v in result["per_speaker_group"].items()}
        for group, values in scores.items():
            score = Score.from_dict(values)
            low, high = score.interval
            row[group] = f"{score.accuracy:.1%} [{low:.1%}, {high:.1%}] n = {score.n}"
        rows[run.name] = row
    note = (
        "Accuracy with Wilson's 95 % interval over recordings, as the result of each run says;"
        " test-selected accuracies are of an epoch chosen on the test set. A dash: not known."
    )
    data = pd.DataFrame.from_dict(rows, orient="index")
    return Table(
        "results", "Accuracy", note, data.astype(object).where(data.notna(), "-"), wide=True
    )


def _seeds(runs: Sequence[TrainedRun]) -> list[Table]:
    """Accuracy over the seeds of runs that differ in nothing else; none where no run has a twin."""
    groups: dict[tuple[str, str], list[TrainedRun]] = {}
    for run in runs:
        rest = dataclasses.replace(run.config, seed=0)
        kept = str([value for name, value, _ in options(rest) if shapes_result(name)])
        groups.setdefault((kept, run.split), []).append(run)
    if max(map(len, groups.values())) < 2:
        return []
    rows = [_over_seeds(group) for group in groups.values()]
    note = (
        "Runs that differ in their seed alone, each group on the recordings that it keeps for its"
        " result: mean accuracy, and its 95 % interval over seeds by Student's t."
    )
    data = pd.DataFrame(rows).set_index("runs")
    return [Table("seeds", "Accuracy over seeds", note, data, words=words.SEEDS)]


def _over_seeds(group: Sequence[TrainedRun]) -> dict[str, Any]:
    results = [run.result or {} for run in group]
    scores = results if group[0].split == "test" else [r.get("valid", {}) for r in results]
    known = [100 * score["accuracy"] for score in scores if "accuracy" in score]
    summary = summarise(known, PERCENT) if known else summarise([np.nan])
    return {
        "runs": ", ".join(run.name.removeprefix("run ") for run in group),
        "seeds": ", ".join(str(run.config.seed) for run in group),
        "on": group[0].split,
        "accuracy": summary.mean,
        "low": summary.low,
        "high": summary.high,
    }


def _pairs(runs: Sequence[TrainedRun], samples: Sequence[Samples | None]) -> list[Table]:
    """McNemar's test of each pair of networks on the same recordings."""
    right = {
        run.name: mistakes.right(mistakes.answers(run, known))
        for run, known in zip(runs, samples, strict=True)
        if known is not None
    }
    tested = [(r, s) for r, s in zip(runs, samples, strict=True) if s is not None]
    rows = []
    for (one, mine), (other, theirs) in itertools.combinations(tested, 2):
        if _are_same(mine, theirs):
            a, b = right[one.name], right[other.name]
            alone = (int((a & ~b).sum()), int((b & ~a).sum()))
            points = 100 * (alone[0] - alone[1]) / len(a)
            place = {"first": one.name, "second": other.name, "n": len(a)}
            counts = {"first_alone": alone[0], "second_alone": alone[1], "difference": points}
            rows.append({**place, **counts, "p": mcnemar(*alone)})
    if not rows:
        return []
    data = pd.DataFrame(rows).set_index(["first", "second"])
    data["p_holm"] = holm(data["p"].tolist())
    data[["p", "p_holm"]] = data[["p", "p_holm"]].map(lambda p: f"{p:.2g}")
    note = (
        "Networks in pairs on the same recordings: how many one of the two alone has right, the"
        " difference of their accuracies, and McNemar's exact p, alone and corrected for all these"
        " pairs after Holm. The p speaks of these networks, not of other seeds."
    )
    folded = len(data) > MOST_PAIRS
    return [Table("pairs", "Networks in pairs", note, data, folded, True, words=words.PAIRS)]


def _are_same(a: Samples, b: Samples) -> bool:
    """Whether two sets of samples are the same recordings in the same order."""
    files = ([store.digest for store in one.stores] for one in (a, b))
    return next(files) == next(files) and np.array_equal(a.rows, b.rows)


def _curves_beside(runs: Sequence[TrainedRun], styles: Styles, names: Named) -> ReportFigure:
    figure = new_figure(2)
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    frames = []
    for run in runs:
        data = curves.training_data(run).assign(run=run.name)
        frames.append(data)
        style = styles[run.name]
        loss.plot(data["epoch"], data["train_loss"], **style)
        split = next((s for s in ("valid", "test") if f"{s}_accuracy" in data), "train")
        label = f"{names[run.name]}, {ON[split]}"
        accuracy.plot(data["epoch"], 100 * data[f"{split}_accuracy"], label=label, **style)
    loss.set_ylabel("training loss")
    accuracy.set_ylabel("accuracy (%)")
    accuracy.set_xlabel("epoch")
    legend_over_all(figure, accuracy)
    caption = (
        "Above, training loss. Below, accuracy on the data that chose the epoch, or in training"
        " where none did."
    )
    return ReportFigure("training", "Training", caption, pd.concat(frames), figure)


# ---- delays ------------------------------------------------------------------------------------


def _distributions_beside(runs: Sequence[TrainedRun], styles: Styles, names: Named) -> ReportFigure:
    frames = [delays.distribution_data(run).assign(run=run.name) for run in runs]
    data = pd.concat(frames)[["run", "layer", "delay_ms", "trained_percent"]]
    deepest = max(runs, key=lambda run: len(run.network.blocks))
    layers = layer_names(deepest.network)
    figure = new_figure(len(layers))
    axes = figure.subplots(len(layers), 1, squeeze=False, sharex=True)[:, 0]
    for layer, axis in zip(layers, axes, strict=True):
        for run in runs:
            rows = data[(data["layer"] == layer) & (data["run"] == run.name)]
            x, y, style = rows["delay_ms"], rows["trained_percent"], styles[run.name]
            axis.step(x, y, where="mid", label=names[run.name], **style)
        axis.set_title(layer, loc="left", fontsize=10)
        axis.set_ylabel("synapses (%)")
        axis.set_ylim(bottom=0)
    legend_over_all(figure, axes[0])
    axes[-1].set_xlabel("delay (ms)")
    unlike = (
        ""
        if _are_of_one_shape(runs)
        else " Their layers differ in shape, so that likeness is not measured."
    )
    caption = f"Share of each layer's synapses at each delay of the deployed networks.{unlike}"
    return ReportFigure("delays", "Where the delays are", caption, data, figure)


def _likeness(runs: Sequence[TrainedRun]) -> list[Table]:
    if len(runs) < 2 or not _are_of_one_shape(runs):
        return []
    data = similarity(runs).set_index(["first", "second", "layer"])
    note = (
        "Distance: Wasserstein's, between the distributions of delays. Correlation: the mean over"
        " receptive fields of the first hidden layer, neurons paired one to one so that the mean is"
        " highest; by chance: the same with the delays of one run shuffled, 20 times."
    )
    return [Table("similarity", "Likeness", note, data, wide=True, words=words.SIMILARITY)]


def _are_of_one_shape(runs: Sequence[TrainedRun]) -> bool:
    layers = [[(*m.weight.shape, m.taps) for _, _, m in run.layers()] for run in runs]
    return all(
        (run.step_ms, shape) == (runs[0].step_ms, layers[0])
        for run, shape in zip(runs, layers, strict=True)
    )
