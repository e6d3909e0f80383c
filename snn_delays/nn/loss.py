"""What training minimises."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from snn_delays.config import Config
from snn_delays.config.options import is_own
from snn_delays.nn.own_parts import own_loss

# (scores [B, K], target), or (outputs [S, B, K], targets [T, B, K]) -> the mean over the samples
Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Of softmax(scores); the target holds classes [B] or probabilities [B, K]."""
    return nn.functional.cross_entropy(scores, target)


def squared_errors(outputs_SBK: Tensor, target_TBK: Tensor) -> Tensor:
    """Mean squared error of each sample over its own steps and outputs, [B].

    Output t answers target t. Outputs after the last target, and those where the target is NaN
    (padding, or no target), count for nothing, and no gradient reaches them.

    Args:
        outputs_SBK: of S steps, at least T.
        target_TBK: NaN where there is none; every sample has one.
    """
    exists = ~target_TBK.isnan()
    error_TBK = torch.where(exists, outputs_SBK[: len(target_TBK)] - target_TBK, 0.0)
    return error_TBK.square().sum((0, 2)) / exists.sum((0, 2))


def mse(outputs_SBK: Tensor, target_TBK: Tensor) -> Tensor:
    """Mean of ``squared_errors`` over the samples."""
    return squared_errors(outputs_SBK, target_TBK).mean()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse}


def running_loss(loss: Loss, share: float, running_TBK: Tensor, target: Tensor) -> Tensor:
    """The loss for an early answer: a mix of the last scores' loss and the mean over all steps.

    Deng, Li, Zhang, Gu, "Temporal efficient training of spiking neural network via gradient
    re-weighting", ICLR 2022, average the loss over steps too, of the outputs of single steps.

    Args:
        loss: the mean over the samples of what it is given.
        share: weight of the mean over the steps, in [0, 1].
        running_TBK: the scores after every step.
        target: classes [B] or probabilities [B, K].
    """
    repeated = target.repeat(len(running_TBK), *[1] * (target.dim() - 1))
    every, last = loss(running_TBK.flatten(0, 1), repeated), loss(running_TBK[-1], target)
    return share * every + (1 - share) * last


def build_loss(config: Config, network: nn.Module, classes: int) -> Loss:
    """The loss that ``train.loss`` names.

    Args:
        config: options.
        network: passed to a loss that takes it.
        classes: number of classes, or of outputs, K.

    Raises:
        UserError: it is a user's own, and does not fit.
    """
    name = config.train.loss
    if is_own(name):
        soft, per_step = config.data.augment.cutmix > 0, config.data.target == "per_step"
        return own_loss(name, network, classes, soft, per_step)
    return LOSSES[name]
