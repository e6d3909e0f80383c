"""Accuracy of the deployed network. Evaluation leaves the network unchanged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn_delays.data.gpu_loader import AnyLoader
from snn_delays.data.loaders import Batch
from snn_delays.data.names import checked_names
from snn_delays.nn.delays import HasDelays
from snn_delays.nn.loss import Loss, cross_entropy
from snn_delays.runtime.device import bring
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
class Latency:
    """How soon after a recording's last input the network's decisions are right.

    A recording's last input is its last frame, before any padding.

    Attributes:
        correct: [L] right decisions 0, 1, ... steps after the last input, the last at the end.
        n: number of recordings.
    """

    correct: NDArray[np.int64]
    n: int

    @property
    def steps(self) -> int:
        """Steps after the last input from which on at most a point of the accuracy is missing."""
        is_lower = 100 * (self.correct[-1] - self.correct) > self.n
        return int(np.flatnonzero(is_lower).max(initial=-1)) + 1

    def thinned(self, most: int = 25) -> list[int]:
        """At most so many numbers of steps after the last input, from 0 to the end, that lie the
        closer the smaller they are.
        """
        last = len(self.correct) - 1
        spread = np.geomspace(1, max(last, 1), most - 1).round().astype(int)
        steps: list[int] = np.unique([0, *spread.clip(max=last)]).tolist()
        return steps

    def after(self, steps: int) -> Score:
        """The score of the decisions so many steps after the last input."""
        return Score(int(self.correct[min(steps, len(self.correct) - 1)]), self.n)


@dataclass(frozen=True)
class Evaluation:
    """A network's answers on N samples.

    Attributes:
        predictions: [N] most likely class.
        labels: [N].
        loss: mean over the samples; the cross-entropy, unless another loss was given.
        batch_accuracy: accuracy averaged over batches, as in the paper's code.
        latency: of the decisions; None: not asked for.
    """

    predictions: NDArray[np.int64]
    labels: NDArray[np.int64]
    loss: float
    batch_accuracy: float
    latency: Latency | None = None

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


class Unrounded(nn.Module):
    """A network that ``evaluate`` runs as it was trained: delays act through taps of width sigma.

    Args:
        network: its delays are not frozen.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> Self:
        """Set all modules to a mode, but those with delays to training mode."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, HasDelays):
                module.training = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I] -> scores [B, K]."""
        scores: Tensor = self.network(x)
        return scores


@torch.no_grad()
def evaluate(
    network: nn.Module, loader: AnyLoader, loss: Loss = cross_entropy, *, latency: bool = False
) -> Evaluation:
    """Run the deployed network (evaluation mode: rounded delays) over a loader.

    With several ranks, each evaluates every n-th batch and all exchange their answers: the result
    equals that of a single process bit by bit.

    Args:
        network: [T, B, I] -> scores [B, K]; on the loader's device, of its dtype.
        loader: batches of the samples, in their order.
        loss: mean loss of scores [B, K] and classes [B].
        latency: also measure the decisions' latency, which takes a ``Network``.
    """
    was_training = network.training
    network.eval()
    try:
        mine = loader.epoch(0, rank(), world_size())
        steps = loader.samples.steps if latency else None
        answers = [_answers(network, batch, loss, steps) for batch in mine]
    finally:
        network.train(was_training)
    plain = [
        (p.cpu().numpy(), loader.samples.labels[n], total.item(), right.cpu().numpy())
        for p, n, total, right in answers
    ]
    predictions, labels, losses, right = zip(*gather_interleaved(plain), strict=True)
    accuracies = [float(np.mean(p == y)) for p, y in zip(predictions, labels, strict=True)]
    return Evaluation(
        np.concatenate(predictions),
        np.concatenate(labels),
        sum(losses) / len(loader.samples),
        sum(accuracies) / len(accuracies),
        _latency(right, len(loader.samples)) if latency else None,
    )


def _answers(
    network: nn.Module, batch: Batch, loss: Loss, steps: NDArray[np.int64] | None
) -> tuple[Tensor, NDArray[np.int64], Tensor, Tensor]:
    """Predictions and sample indices of a batch, [B] each, its summed loss, and right decisions.

    The results stay on the device, so that the host waits for a GPU only after the last batch.

    Args:
        network: [T, B, I] -> scores [B, K].
        batch: the batch.
        loss: see ``evaluate``.
        steps: of every sample of the loader; None: the latency is not measured.
    """
    if steps is None:
        scores, right = network(batch.x), batch.y[:0]
    else:
        running = network(batch.x, running=True)
        scores, right = running[-1], _right_after(running, batch.y, steps[batch.indices])
    return scores.argmax(1), batch.indices, loss(scores, batch.y) * len(batch.y), right


def _right_after(running_SBK: Tensor, y_B: Tensor, steps_B: NDArray[np.int64]) -> Tensor:
    """Number of right decisions 0, 1, ... steps after the last inputs, [L]."""
    last, most = len(running_SBK) - 1, len(running_SBK) - int(steps_B.min())
    after_L1 = torch.arange(most + 1, device=y_B.device)[:, None]
    asked_LB = (after_L1 + bring(torch.from_numpy(steps_B - 1), y_B.device)).clamp(max=last)
    return (running_SBK.argmax(2) == y_B).gather(0, asked_LB).sum(1)


def _latency(right: Sequence[NDArray[np.int64]], n: int) -> Latency:
    """From every batch's number of right decisions, which stays once the batch has ended."""
    longest = max(map(len, right))
    padded = [np.pad(r, (0, longest - len(r)), "edge") for r in right]
    return Latency(np.sum(padded, axis=0), n)
