"""One training step. What comes of it stays on the device, so that a GPU's host need not wait."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snn_delays.data.loaders import Batch
from snn_delays.nn import Network
from snn_delays.runtime.cuda_graph import CapturedStep
from snn_delays.runtime.device import autocast
from snn_delays.runtime.distributed import sharing, world_size
from snn_delays.train.distributed import add_up
from snn_delays.train.health import gradients_are_finite
from snn_delays.train.optim import Optimizers


@dataclass(frozen=True)
class StepResult:
    """Of one batch, over all processes' parts of it; on the device.

    Attributes:
        numbers: [3], the mean loss over the samples, the number of right answers, and 1 where loss
            and gradients are numbers; otherwise 0, and no step was taken.
    """

    numbers: Tensor

    @classmethod
    def of(cls, loss: Tensor, right: Tensor, finite: Tensor) -> StepResult:
        """Of scalars."""
        return cls(torch.stack([loss.double(), right.double(), finite.double()]))

    @property
    def loss(self) -> Tensor:
        """Mean over the samples."""
        return self.numbers[0]

    @property
    def right(self) -> Tensor:
        """Number of right answers."""
        return self.numbers[1]

    @property
    def finite(self) -> Tensor:
        """Whether loss and gradients are numbers."""
        return self.numbers[2] > 0


@dataclass(frozen=True)
class PendingStep:
    """Everything needed to compute a training step from outside, so that steps of several runs can
    be batched.

    Attributes:
        network: in training mode.
        optimizers: of its parameters.
        batch: to learn from.
        place: epoch and batch, from 0: learning rates and sigma follow from them.
    """

    network: Network
    optimizers: Optimizers
    batch: Batch
    place: tuple[int, int]


def build_step(
    network: Network, optimizers: Optimizers, precision: str, device: torch.device
) -> Callable[[Batch], StepResult]:
    """The step of a training.

    On a GPU that one process has to itself, forward and back are recorded as CUDA graphs. The
    optimisers are not: they are a few launches, and what their schedules change are plain numbers.
    Several processes launch each operation on its own, since their sums are not recorded; networks
    of the paper's sizes are likely slower on several GPUs than on one.
    """

    def step(batch: Batch) -> StepResult:
        return take_step(network, optimizers, batch, precision)

    if device.type != "cuda" or world_size() > 1:
        return step
    find = functools.partial(find_gradients, network, precision=precision)
    recorded = CapturedStep(find, list(network.parameters()))
    return lambda batch: apply(network, optimizers, recorded(batch))


def take_step(network: Network, optimizers: Optimizers, batch: Batch, precision: str) -> StepResult:
    """Forward, back, and on; where loss or gradient is not finite, the network stays as it was.

    That is so in all processes alike, since they decide by sums over all.
    """
    return apply(network, optimizers, find_gradients(network, batch, precision))


def find_gradients(network: Network, batch: Batch, precision: str) -> StepResult:
    """Forward and back."""
    before = statistics(network)
    network.zero_grad()
    with sharing(batch.part):
        with autocast(precision, batch.x.device):
            scores = network(batch.x)
        loss = nn.functional.cross_entropy(scores, batch.target)
        loss.backward(torch.full_like(loss, batch.share))
    loss, right = add_up(network, batch, loss.detach(), (scores.argmax(1) == batch.y).sum())
    return finish(network, before, loss, right)


def finish(network: Network, before: list[Tensor], loss: Tensor, right: Tensor) -> StepResult:
    """What came of a batch whose gradients are there.

    Args:
        network: its running statistics become what they were where these are no numbers.
        before: its running statistics before the batch.
        loss: mean over the samples.
        right: number of right answers.
    """
    finite = loss.isfinite() & gradients_are_finite(network)
    for now, old in zip(_statistics(network), before, strict=True):
        now.copy_(torch.where(finite, now, old))
    return StepResult.of(loss, right, finite)


def apply(network: Network, optimizers: Optimizers, outcome: StepResult) -> StepResult:
    """Move a network by its gradients, where they are numbers."""
    optimizers.step(unless=~outcome.finite)
    network.constrain()
    return outcome


def statistics(network: nn.Module) -> list[Tensor]:
    """A copy of running means and variances, which a batch may spoil."""
    return [buffer.clone() for buffer in _statistics(network)]


def _statistics(network: nn.Module) -> list[Any]:
    norms = (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [buffer for norm in norms for buffer in norm.buffers()]
