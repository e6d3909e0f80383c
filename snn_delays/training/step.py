"""One training step. Its result stays on the device, so that the host does not wait for a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snn_delays.config import TrainConfig
from snn_delays.data.loaders import Batch
from snn_delays.nn import Network
from snn_delays.nn.loss import Loss, cross_entropy, running_loss, squared_errors
from snn_delays.runtime.cuda_graph import CapturedStep
from snn_delays.runtime.device import autocast
from snn_delays.runtime.distributed import all_reduce, sharing, world_size
from snn_delays.training.distributed import all_reduce_step
from snn_delays.training.health import are_finite
from snn_delays.training.optim import Optimizers
from snn_delays.training.penalties import penalties

NO_PENALTIES = TrainConfig()


@dataclass(frozen=True)
class StepResult:
    """The result of one batch over all ranks, on the device.

    Attributes:
        values: [3 + P], the mean loss over the samples, the number of correct answers (with targets
            per step the sum over the samples of their mean squared errors), and 1 if loss and
            gradients are finite; 0 if not, and the parameters did not change; then each of the P
            penalties, which the loss contains.
    """

    values: Tensor

    @classmethod
    def of(
        cls, loss: Tensor, correct: Tensor, finite: Tensor, added: Sequence[Tensor] = ()
    ) -> StepResult:
        """A result from scalars, in the loss's precision; ``added``: the penalties."""
        return cls(torch.stack([x.to(loss.dtype) for x in (loss, correct, finite, *added)]))

    @property
    def finite(self) -> Tensor:
        """Whether loss and gradients are finite."""
        return self.values[2] > 0


@dataclass(frozen=True)
class PendingStep:
    """Everything needed to compute a training step from outside, so that steps of several runs can
    be batched.

    Attributes:
        network: in training mode.
        optimizers: of its parameters.
        batch: to train on.
        epoch_and_batch: both from 0: learning rates and sigma follow from them.
    """

    network: Network
    optimizers: Optimizers
    batch: Batch
    epoch_and_batch: tuple[int, int]


def build_step(
    network: Network,
    optimizers: Optimizers,
    precision: str,
    device: torch.device,
    loss: Loss = cross_entropy,
    train: TrainConfig = NO_PENALTIES,
    *,
    capture: bool = True,
) -> Callable[[Batch], StepResult]:
    """The function that takes one training step.

    On a single GPU, forward and backward are captured as CUDA graphs. The optimisers are not
    captured: they launch few kernels, and their schedules change plain numbers, which a graph would
    keep. With several ranks nothing is captured, since sums over ranks are not; networks of the
    paper's sizes are likely slower on several GPUs than on one. ``capture=False`` captures nothing:
    a user's own code may wait for the GPU, or change plain numbers. ``train`` says what the
    penalties are that are added to ``loss``.
    """

    def step(batch: Batch) -> StepResult:
        return take_step(network, optimizers, batch, precision, loss, train)

    if device.type != "cuda" or world_size() > 1 or not capture:
        return step
    compute = functools.partial(
        compute_gradients, network, precision=precision, loss=loss, train=train
    )
    captured = CapturedStep(compute, list(network.parameters()))
    return lambda batch: apply(network, optimizers, captured(batch))


def take_step(
    network: Network,
    optimizers: Optimizers,
    batch: Batch,
    precision: str,
    loss: Loss = cross_entropy,
    train: TrainConfig = NO_PENALTIES,
) -> StepResult:
    """Forward, backward and update; a loss or gradient that is not finite changes nothing.

    All ranks decide alike, since they decide by sums over all ranks.
    """
    return apply(network, optimizers, compute_gradients(network, batch, precision, loss, train))


def compute_gradients(
    network: Network,
    batch: Batch,
    precision: str,
    loss: Loss = cross_entropy,
    train: TrainConfig = NO_PENALTIES,
) -> StepResult:
    """Forward and backward."""
    before = statistics(network)
    network.zero_grad()
    with sharing(batch.own_part):
        scores, first = _scores_and_loss(network, batch, precision, loss, train.running_loss)
        terms = penalties(network, train)
        mean = sum(terms, first)
        mean.backward(torch.full_like(mean, batch.loss_weight))
        added = [all_reduce(batch.loss_weight * term.detach()) for term in terms]
    correct = _count(scores.detach(), batch, mean.dtype)
    mean, correct = all_reduce_step(network, batch, mean.detach(), correct)
    return finish(network, before, mean, correct, added)


def _count(scores: Tensor, batch: Batch, dtype: torch.dtype) -> Tensor:
    """Number of correct answers; with targets per step the sum of the squared errors."""
    if batch.per_step:
        return squared_errors(scores, batch.target).sum(dtype=dtype)
    return (scores.argmax(1) == batch.y).sum(dtype=dtype)


def _scores_and_loss(
    network: Network, batch: Batch, precision: str, loss: Loss, share: float
) -> tuple[Tensor, Tensor]:
    """The scores of the whole input, [B, K], and the loss without penalties.

    With targets per step the outputs of all S steps, [S, B, K], in place of the scores.
    """
    running = bool(share) or batch.per_step
    with autocast(precision, batch.x.device):
        scores = network(batch.x, running=True) if running else network(batch.x)
    if not share:
        return scores, loss(scores, batch.target)
    return scores[-1], running_loss(loss, share, scores, batch.target)


def finish(
    network: Network, before: Tensor, loss: Tensor, correct: Tensor, added: Sequence[Tensor] = ()
) -> StepResult:
    """The result of a batch whose gradients are computed.

    Args:
        network: if its gradients are not finite, its running statistics are restored.
        before: what ``statistics`` returned before the batch.
        loss: mean over the samples.
        correct: see ``StepResult.values``.
        added: the penalties in the loss.
    """
    finite = are_finite(network, loss)
    if buffers := _statistics(network):
        kept = torch.where(finite, torch.cat(buffers), before)
        torch._foreach_copy_(buffers, kept.split([len(buffer) for buffer in buffers]))
    return StepResult.of(loss, correct, finite, added)


def apply(network: Network, optimizers: Optimizers, result: StepResult) -> StepResult:
    """Update a network by its gradients, if they are finite."""
    optimizers.step(unless=1 - result.values[2])
    network.constrain()
    return result


def statistics(network: nn.Module) -> Tensor:
    """A copy of the running means and variances, which a batch with NaN would spoil, as bytes."""
    buffers = _statistics(network)
    return torch.cat(buffers) if buffers else torch.empty(0)


def _statistics(network: nn.Module) -> list[Tensor]:
    """Where they lie, each as bytes."""
    norms = (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [buffer.view(-1).view(torch.uint8) for norm in norms for buffer in norm.buffers()]
