"""What training minimises."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from snn_delays.config import Config
from snn_delays.config.options import is_own
from snn_delays.nn.own_parts import own_loss

Loss = Callable[[Tensor, Tensor], Tensor]  # scores [B, K], target -> the mean over the samples


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Of softmax(scores); the target holds classes [B] or probabilities [B, K]."""
    return nn.functional.cross_entropy(scores, target)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}


def running_loss(loss: Loss, share: float, running_TBK: Tensor, target: Tensor) -> Tensor:
    """The loss for an early answer: a mix of that of the last scores and its mean over all steps.

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
        classes: number of classes K.

    Raises:
        UserError: it is a user's own, and does not fit.
    """
    name = config.train.loss
    if is_own(name):
        return own_loss(name, network, classes, soft=config.data.augment.cutmix > 0)
    return LOSSES[name]
