"""The error of outputs per step, of the deployed network. Evaluation leaves the network unchanged.

Shapes: S steps of the output, T steps of the target (at most S), B batch, K outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from snn_delays.data.gpu_loader import AnyLoader
from snn_delays.nn.loss import Loss, mse, squared_errors
from snn_delays.runtime.distributed import gather_interleaved, rank, world_size


@dataclass(frozen=True)
class StepError:
    """The error on n samples.

    Attributes:
        mse: mean over the samples of the mean squared error over their own steps and outputs.
        nrmse: root of ``mse`` over the targets' variance (``Samples.target_variance``): 1 where the
            outputs are the targets' means, 0 where they are the targets.
        n: number of samples.
    """

    mse: float
    nrmse: float
    n: int

    @classmethod
    def of(cls, mse: float, variance: float, n: int) -> StepError:
        """The error from its mean square and the variance of the targets."""
        return cls(mse, math.sqrt(mse / variance) if variance else math.inf, n)

    def as_dict(self) -> dict[str, Any]:
        """A dict of nrmse, mse and n."""
        return {"nrmse": self.nrmse, "mse": self.mse, "n": self.n}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StepError:
        """The error from the result of ``as_dict``.

        Raises:
            KeyError, TypeError, ValueError: the values are not an error's.
        """
        found = cls(float(values["mse"]), float(values["nrmse"]), int(values["n"]))
        if not (found.mse >= 0 and found.nrmse >= 0 and found.n >= 0):
            raise ValueError(f"{values} is not an error")
        return found

    def __str__(self) -> str:
        return f"NRMSE {self.nrmse:.4f}  n = {self.n}"


@dataclass(frozen=True)
class StepEvaluation:
    """A network's outputs against the targets of N samples.

    Attributes:
        error: the error.
        loss: mean over the samples.
    """

    error: StepError
    loss: float


@torch.no_grad()
def evaluate_steps(network: nn.Module, loader: AnyLoader, loss: Loss = mse) -> StepEvaluation:
    """Run the deployed network (evaluation mode: rounded delays) over a loader.

    The output of step t answers the inputs up to step t. With several ranks, each evaluates every
    n-th batch, and the result equals that of a single process bit by bit.

    Args:
        network: a ``Network``, on the loader's device, of its dtype.
        loader: batches of the samples, in their order.
        loss: mean loss of outputs [S, B, K] and targets [T, B, K].
    """
    was_training = network.training
    network.eval()
    sums = []
    try:
        for batch in loader.epoch(0, rank(), world_size()):
            outputs = network(batch.x, running=True)
            squared = squared_errors(outputs, batch.target).sum()
            sums.append(torch.stack([squared, loss(outputs, batch.target) * len(batch.y)]))
    finally:
        network.train(was_training)
    every, n = gather_interleaved([pair.tolist() for pair in sums]), len(loader.samples)
    mean_squared, mean_loss = (sum(column) / n for column in zip(*every, strict=True))
    error = StepError.of(mean_squared, loader.samples.target_variance, n)
    return StepEvaluation(error, mean_loss)
