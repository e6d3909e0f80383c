"""The finding of a run in three sentences: how well it does, whether and how delays matter."""

from __future__ import annotations

import numpy as np
import pandas as pd

from snn_delays.analysis.delays import has_delays, has_recurrent_delays
from snn_delays.analysis.tables import synapses
from snn_delays.analysis.trained_run import TrainedRun
from snn_delays.analysis.words import OWNERS
from snn_delays.evaluate import Score


def finding(subject: TrainedRun, score: Score, tests: pd.DataFrame) -> str:
    """Accuracy with interval and protocol, what the causal tests say, and where the delays are.

    Args:
        subject: the network.
        score: on the recordings that the run keeps for its result.
        tests: what ``curves.summarise_tests`` gave for these recordings.
    """
    return " ".join([_accuracy(subject, score), _worth(subject, tests), _delays(subject)])


def _accuracy(subject: TrainedRun, score: Score) -> str:
    low, high = (100 * end for end in score.interval)
    bias = ", so the figure is too good" if subject.config.selection == "test-selected" else ""
    return (
        f"The network gets {100 * score.accuracy:.1f} % of the {score.n:,} {subject.split}"
        f" recordings right (95 % interval {low:.1f} to {high:.1f} %; chance"
        f" {100 / len(subject.classes):.1f} %; protocol {subject.config.train.protocol}:"
        f" {subject.config.selection}{bias})."
    )


def _worth(subject: TrainedRun, tests: pd.DataFrame) -> str:
    owners, told = OWNERS[subject.config.model.delay_type], []
    if has_delays(subject):
        told.append(_shuffled(tests, "", owners))
    if has_recurrent_delays(subject):
        told.append(_shuffled(tests, "recurrent ", "neurons"))
    if told:
        return " ".join(told)
    left = "has no delays" if subject.config.model.delays == "none" else "weighs every delay"
    return f"The causal tests change no delays, since the network {left}."


def _shuffled(tests: pd.DataFrame, which: str, owners: str) -> str:
    """What shuffling changes; ``which`` delays: "" or "recurrent "."""
    kind, found = f"{which}shuffled", tests.set_index(["kind", "layer"])
    intact, all_layers = found.loc[("intact", "all")], found.loc[(kind, "all")]
    shuffled = (
        f"with the {which}delays shuffled among the {owners} of their layer, accuracy is"
        f" {all_layers['accuracy']:.1f} % (95 % interval {all_layers['low']:.1f} to"
        f" {all_layers['high']:.1f} %)"
    )
    if all_layers["high"] < intact["low"]:
        single = tests[(tests["kind"] == kind) & (tests["layer"] != "all")]
        worst = single.loc[single["accuracy"].idxmin()]
        return (
            f"The {which}delays matter: {shuffled}; {worst['layer']} costs most when it is shuffled"
            f" alone, {intact['accuracy'] - worst['accuracy']:.1f} points."
        )
    if all_layers["low"] > intact["high"]:
        return f"The {which}delays do harm: {shuffled}."
    return (
        f"The causal tests do not show that the {which}delays matter: {shuffled}, and both overlap."
    )


def _delays(subject: TrainedRun) -> str:
    frame, delays = synapses(subject), subject.config.model.delays
    if frame.empty or delays == "none":
        others = " that lead to another layer" if any(subject.network.recurrences()) else ""
        return f"All its synapses{others} act at once."
    if delays == "dense":
        return "Each pair of neurons has a weight at every delay."
    longest = subject.step_ms * (subject.config.model.taps - 1)
    mean = frame["deployed_ms"].mean()
    if delays == "fixed":
        return (
            f"The delays stay as drawn, {mean:.0f} ms on average in a range of 0 to {longest:g} ms."
        )
    moved = (frame["delay_ms"] - frame["drawn_ms"]).abs().mean()
    before = (frame["drawn_ms"] / subject.step_ms).round() * subject.step_ms
    return (
        f"Training moved each delay by {moved:.0f} ms on average (random delays would be"
        f" {_unrelated(frame):.0f} ms away); {_at_end(frame['deployed_ms'], longest):.0f} % of the"
        f" delays lie at an end of their range, 0 or {longest:g} ms, where"
        f" {_at_end(before, longest):.0f} % were drawn."
    )


def _unrelated(frame: pd.DataFrame) -> float:
    """Mean distance (ms) where each layer's trained delays are dealt out anew over its synapses."""
    rng = np.random.default_rng(0)
    dealt = frame.groupby("layer", sort=False)["delay_ms"].transform(rng.permutation)
    return float((dealt - frame["drawn_ms"]).abs().mean())


def _at_end(delay_ms: pd.Series, longest: float) -> float:
    """Percent of whole delays at either end of their range."""
    ends = np.isclose(delay_ms, 0) | np.isclose(delay_ms, longest)
    return 100 * float(ends.mean())
