"""How long after a recording's last input the network's decision takes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from snn_delays.analysis.report_figure import AFTER, BEFORE, ReportFigure, legend_above, new_figure
from snn_delays.analysis.trained_run import TrainedRun
from snn_delays.data.loaders import Samples
from snn_delays.evaluate import Latency, evaluate

SHOWN = 10  # steps after the last input that are drawn, at least


def decision_latency(subject: TrainedRun, samples: Samples) -> ReportFigure:
    """The accuracy of the running decisions over the time after the last input."""
    latency = evaluate(subject.network, subject.loader(samples), latency=True).latency
    assert latency is not None
    data, settled = latency_data(latency, subject.step_ms), latency.steps * subject.step_ms
    shown = data[: 1 + max(SHOWN, 2 * latency.steps)]
    figure = new_figure(1, 2.2)
    axis = figure.subplots()
    axis.fill_between(shown["after_ms"], shown["low"], shown["high"], color=BEFORE, alpha=0.3)
    axis.plot(shown["after_ms"], shown["accuracy"], color=AFTER)
    final = data["accuracy"].iloc[-1]
    axis.axhline(final, color=BEFORE, linestyle="--", linewidth=1, label="final decision")
    axis.axvline(settled, color=BEFORE, linestyle=":", linewidth=1, label=f"{settled:g} ms")
    axis.set_ylim(0, 100)
    axis.set_xlabel("asked after the last input (ms)")
    axis.set_ylabel("accuracy (%)")
    legend_above(axis)
    return ReportFigure(
        "latency",
        "How late the answer comes",
        f"{subject.accuracy_label.capitalize()} when the network is asked so long after the"
        f" recording's last frame. At that frame it is {data['accuracy'][0]:.1f} %, from"
        f" {settled:g} ms on it stays at most a point below the final {final:.1f} %. Shaded:"
        " Wilson's 95 % interval over recordings.",
        data,
        figure,
    )


def latency_data(latency: Latency, step_ms: float) -> pd.DataFrame:
    """Columns after_ms, and in percent accuracy, low and high (its 95 % interval)."""
    scores = [latency.after(steps) for steps in range(len(latency.correct))]
    rows = [100 * np.array([score.accuracy, *score.interval]) for score in scores]
    data = pd.DataFrame(rows, columns=["accuracy", "low", "high"])
    data.insert(0, "after_ms", step_ms * np.arange(len(rows)))
    return data
