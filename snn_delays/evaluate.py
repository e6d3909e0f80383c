"""Accuracy of the deployed network. Evaluation leaves the network unchanged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn_delays.data.gpu_loader import AnyLoader
from snn_delays.data.loaders import Batch
from snn_delays.data.names import checked_names
from snn_delays.nn.loss import Loss, cross_entropy
from snn_delays.runtime.distributed import gather_interleaved, rank, world_size

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a binomial share of n samples (Wilson 1927); NaN for n = 0."""
    if not n:
        return (math.nan, math.nan)
    z2 = Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (max(0.0, centre - half), min(1.0, centre + half))


@dataclass(frozen=True)
class Score:
    """``correct`` of ``n`` samples, as accuracy with its 95 % Wilson interval."""

    correct: int
    n: int

    @property
    def accuracy(self) -> float:
        """Share of correct answers."""
        return self.correct / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        return wilson(self.accuracy, self.n)

    def as_dict(self) -> dict[str, Any]:
        """A dict of accuracy, interval and n."""
        return {"accuracy": self.accuracy, "interval": list(self.interval), "n": self.n}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Score:
        """The score from the result of ``as_dict``.

        Raises:
            KeyError, TypeError, ValueError: the values are not a score's.
        """
        if values["n"] < 0 or not 0 <= values["accuracy"] <= 1:
            raise ValueError(f"{values} is not a score")
        return cls(round(values["accuracy"] * values["n"]), values["n"])

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.accuracy:6.1%}  [{low:5.1%}, {high:6.1%}]  n = {self.n}"


@dataclass(frozen=True)
class Evaluation:
    """A network's answers on N samples.

    Attributes:
        predictions: [N] most likely class.
        labels: [N].
        loss: mean over the samples; the cross-entropy, unless another loss was given.
        batch_accuracy: accuracy averaged over batches, as in the paper's code.
    """

    predictions: NDArray[np.int64]
    labels: NDArray[np.int64]
    loss: float
    batch_accuracy: float

    def score(self, where: NDArray[np.bool_] | None = None) -> Score:
        """Score over all samples, or over the samples where ``where`` is True."""
        correct = self.predictions == self.labels
        correct = correct if where is None else correct[where]
        return Score(int(correct.sum()), len(correct))

    def per_class(self, classes: list[str]) -> dict[str, Score]:
        """Score of each class that occurs.

        Raises:
            UserError: two classes have the same name, or ``classes`` is one text.
        """
        classes = checked_names(classes, "The list of classes")
        scores = {name: self.score(self.labels == k) for k, name in enumerate(classes)}
        return {name: score for name, score in scores.items() if score.n}

    def per_speaker_group(
        self,
        speakers: NDArray[np.str_] | None,
        trained_on: list[str] | None,
        selected_on: list[str] | None,
    ) -> dict[str, Score]:
        """Scores on speakers of the training data, of the validation data alone, and on others.

        Args:
            speakers: [N] speaker of each sample, or None.
            trained_on: speakers of the training data, or None.
            selected_on: speakers of the validation data alone, or None.

        Returns:
            The groups that occur; an empty dict if all samples belong to one group.
        """
        if speakers is None or trained_on is None:
            return {}
        known, chose = np.isin(speakers, trained_on), np.isin(speakers, selected_on or [])
        groups = {
            "known speakers": known,
            "validation speakers": chose & ~known,
            "unseen speakers": ~known & ~chose,
        }
        scores = {name: self.score(where) for name, where in groups.items() if where.any()}
        return scores if len(scores) > 1 else {}


@torch.no_grad()
def evaluate(network: nn.Module, loader: AnyLoader, loss: Loss = cross_entropy) -> Evaluation:
    """Run the deployed network (evaluation mode: rounded delays) over a loader.

    With several ranks, each evaluates every n-th batch and all exchange their answers: the result
    equals that of a single process bit by bit.

    Args:
        network: [T, B, I] -> scores [B, K]; on the loader's device, of its dtype.
        loader: batches of the samples, in their order.
        loss: mean loss of scores [B, K] and classes [B].
    """
    was_training = network.training
    network.eval()
    try:
        mine = loader.epoch(0, rank(), world_size())
        answers = [_answers(network, batch, loss) for batch in mine]
    finally:
        network.train(was_training)
    plain = [(p.cpu().numpy(), loader.samples.labels[n], total.item()) for p, n, total in answers]
    predictions, labels, losses = zip(*gather_interleaved(plain), strict=True)
    accuracies = [float(np.mean(p == y)) for p, y in zip(predictions, labels, strict=True)]
    return Evaluation(
        np.concatenate(predictions),
        np.concatenate(labels),
        sum(losses) / len(loader.samples),
        sum(accuracies) / len(accuracies),
    )


def _answers(
    network: nn.Module, batch: Batch, loss: Loss
) -> tuple[Tensor, NDArray[np.int64], Tensor]:
    """Predictions and sample indices of a batch, [B] each, and its summed loss.

    The results stay on the device, so that the host waits for a GPU only after the last batch.
    """
    scores = network(batch.x)
    return scores.argmax(1), batch.indices, loss(scores, batch.y) * len(batch.y)
