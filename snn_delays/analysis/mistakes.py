"""Answers of a network, recording by recording: which classes it takes for which."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from snn_delays.analysis.report_figure import SHARE, WIDTH, ReportFigure, as_label, new_figure
from snn_delays.analysis.tables import Array, array
from snn_delays.analysis.trained_run import TrainedRun
from snn_delays.data.loaders import Samples
from snn_delays.evaluate import Score

MOST_CLASSES = 20  # with numbers in the cells of the confusion matrix
SHOWN = 12  # mistaken recordings


@torch.no_grad()
def answers(subject: TrainedRun, samples: Samples) -> pd.DataFrame:
    """The deployed network's answer to each recording.

    Args:
        subject: the network, in evaluation mode.
        samples: recordings.

    Returns:
        A row for each recording, in order. Columns recording (its number from 0), speaker (where
        known), class, answer, and in percent certainty, the softmax of the answer's score.
    """
    scores = torch.cat([subject.network(batch.x) for batch in subject.loader(samples).epoch()])
    certainty, answer = scores.float().softmax(1).max(1)
    classes = np.array(subject.classes)
    columns: dict[str, Array] = {"recording": np.arange(len(samples))}
    columns |= {} if samples.speakers is None else {"speaker": samples.speakers}
    columns |= {"class": classes[samples.labels], "answer": classes[array(answer)]}
    return pd.DataFrame({**columns, "certainty": 100 * array(certainty)})


def right(answered: pd.DataFrame) -> Array:
    """Whether each answer is right, [N]."""
    return (answered["class"] == answered["answer"]).to_numpy()


def score(answered: pd.DataFrame) -> Score:
    """Accuracy of the answers."""
    return Score(int(right(answered).sum()), len(answered))


def mistakes(answered: pd.DataFrame) -> pd.DataFrame:
    """The recordings that were mistaken, the surest answers first, by the recording's number."""
    wrong = answered[~right(answered)]
    return wrong.sort_values("certainty", ascending=False, kind="stable").set_index("recording")


def confusion(subject: TrainedRun, answered: pd.DataFrame) -> ReportFigure:
    """How often each class got each answer, as a matrix."""
    data = confusion_data(subject, answered)
    names = subject.classes
    share = data["percent"].to_numpy().reshape(len(names), len(names))
    figure = new_figure(1, 0.75 * WIDTH)
    axis = figure.subplots()
    image = axis.imshow(share, cmap=SHARE, vmin=0, vmax=100, aspect="auto")
    figure.colorbar(image, ax=axis, label="recordings of the class (%)")
    size = min(9, 130 / len(names))
    labels = [as_label(name) for name in names]
    axis.set_xticks(range(len(names)), labels, rotation=90, fontsize=size)
    axis.set_yticks(range(len(names)), labels, fontsize=size)
    axis.set_xlabel("answer")
    axis.set_ylabel("class")
    if len(names) <= MOST_CLASSES:
        for row, column in np.argwhere(share >= 0.5):
            value = share[row, column]
            colour = "white" if value > 50 else "black"
            axis.text(
                column, row, f"{value:.0f}", color=colour, fontsize=size, ha="center", va="center"
            )
    return ReportFigure(
        "confusion",
        "Which class gets which answer",
        f"A row holds the {subject.split} recordings of one class, each cell the share of them that"
        " got the answer of the column; right answers lie on the diagonal.",
        data,
        figure,
    )


def confusion_data(subject: TrainedRun, answered: pd.DataFrame) -> pd.DataFrame:
    """Columns class, answer, recordings (their number), and percent of the class."""
    counts = pd.crosstab(answered["class"], answered["answer"])
    counts = counts.reindex(index=subject.classes, columns=subject.classes, fill_value=0)
    share = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    stacked = counts.stack().rename("recordings").rename_axis(["class", "answer"]).reset_index()
    return stacked.assign(percent=100 * share.to_numpy().ravel())
