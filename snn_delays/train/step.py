"""One training step. What comes of it stays on the device, so that a GPU's host need not wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snn_delays.data.loaders import Batch
from snn_delays.device import autocast
from snn_delays.nn import Network
from snn_delays.ops.sums import processes, sharing
from snn_delays.train.graph import RecordedStep
from snn_delays.train.guards import gradients_are_finite
from snn_delays.train.optim import Optimizers
from snn_delays.train.processes import add_up


@dataclass(frozen=True)
class Outcome:
    """Of one batch, over all processes' parts of it; scalars on the device.

    Attributes:
        loss: mean over the samples.
        right: number of right answers.
        finite: whether loss and gradients are numbers; otherwise no step was taken.
    """

    loss: Tensor
    right: Tensor
    finite: Tensor


def build_step(
    network: Network, optimizers: Optimizers, precision: str, device: torch.device
) -> Callable[[Batch], Outcome]:
    """The step of one epoch, whose learning rates and sigma stay as they are.

    On a GPU that one process has to itself it is recorded as a CUDA graph.
    """

    def step(batch: Batch) -> Outcome:
        return take_step(network, optimizers, batch, precision)

    if device.type != "cuda" or processes() > 1:
        return step
    return RecordedStep(step, optimizers)


def take_step(network: Network, optimizers: Optimizers, batch: Batch, precision: str) -> Outcome:
    """Forward, back, and on; where loss or gradient is not finite, the network stays as it was.

    That is so in all processes alike, since they decide by sums over all.
    """
    before = [buffer.clone() for buffer in _statistics(network)]
    optimizers.zero_grad()
    with sharing(batch.part):
        with autocast(precision, batch.x.device):
            scores = network(batch.x)
        loss = nn.functional.cross_entropy(scores, batch.target)
        loss.backward(torch.full_like(loss, batch.share))
    loss, right = add_up(network, batch, loss.detach(), (scores.argmax(1) == batch.y).sum())
    finite = loss.isfinite() & gradients_are_finite(network)
    optimizers.step(unless=~finite)
    network.constrain()
    for now, old in zip(_statistics(network), before, strict=True):
        now.copy_(torch.where(finite, now, old))
    return Outcome(loss, right, finite)


def _statistics(network: nn.Module) -> list[Any]:
    """Running means and variances, which such a batch spoils."""
    norms = (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [buffer for norm in norms for buffer in norm.buffers()]
