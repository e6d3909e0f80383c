"""The roundings of weights and delays: of an integer network, and of a training for one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# The greatest whole number that a weight becomes, by the options' names; None: it stays a float.
LEVELS = {"float32": None, "16": 32767, "8": 127, "4": 7, "ternary": 1}
SHARES = tuple(0.05 * n for n in range(20, 7, -1))  # of the largest weight, from 1 to 0.4
CUT = 0.7  # of the mean size; ternary weights below it are 0
SMALLEST = 1e-30  # a weight of this size counts as 0


@dataclass(frozen=True)
class Rounding:
    """What a layer's weights and delays are rounded to.

    Attributes:
        levels: weights are whole numbers of at most this size times a step; None: they are not
            rounded.
        shared: whether the weights of all outputs have one step; else each output has its own.
        delays: number of values that a delay may have; None: it is not rounded.
    """

    levels: int | None = None
    shared: bool = False
    delays: int | None = None

    def apply(self, weight: Tensor, delay: Tensor, taps: int) -> tuple[Tensor, Tensor]:
        """The rounded weights and delays; gradients pass the rounding as if it were not there.

        This is the straight-through estimator (Bengio, Léonard and Courville 2013, arXiv
        1308.3432).
        """
        if self.levels is not None:
            whole, step = round_weights(weight, self.levels, shared=self.shared)
            weight = whole * step + (weight - weight.detach())
        if self.delays is not None:
            delay = round_delays(delay, taps, self.delays) + (delay - delay.detach())
        return weight, delay


NO_ROUNDING = Rounding()


@torch.no_grad()
def round_weights(weight: Tensor, levels: int, *, shared: bool = False) -> tuple[Tensor, Tensor]:
    """Whole numbers and steps whose products are near the weights.

    Whole numbers are the nearest ones for some step, and the returned step is that of least squares
    for them. With one level, weights above 0.7 of the mean size become 1 or -1: the ternary weights
    of Li, Zhang and Liu 2016 (arXiv 1605.04711). With more levels, that share of the largest weight
    becomes ``levels`` which gives the least squared error.

    Args:
        weight: [O, I, C].
        levels: greatest size of a whole number.
        shared: give all outputs one step.

    Returns:
        The whole numbers [O, I, C] and the steps [O, 1, 1], or [1, 1, 1], as floats; the step is 0
        where all weights are 0.
    """
    flat = weight.reshape(1 if shared else len(weight), -1)
    size = flat.abs()
    if levels == 1:
        steps = [2 * CUT * size.mean(1, keepdim=True).clamp_min(SMALLEST)]
    else:
        largest = size.amax(1, keepdim=True).clamp_min(SMALLEST)
        steps = [largest * (share / levels) for share in SHARES]
    best, step, least = flat, steps[0], torch.full_like(steps[0], torch.inf)
    for near in steps:
        whole = (flat / near).round().clamp(-levels, levels)
        norm = whole.square().sum(1, keepdim=True).clamp_min(1)
        fitted = (whole * flat).sum(1, keepdim=True) / norm
        error = (whole * fitted - flat).square().sum(1, keepdim=True)
        better = error < least
        best, step = torch.where(better, whole, best), torch.where(better, fitted, step)
        least = torch.where(better, error, least)
    return best.view_as(weight), step.view(-1, 1, 1)


@torch.no_grad()
def round_delays(delay: Tensor, taps: int, values: int) -> Tensor:
    """Delays rounded to the nearest of so many values, which are spread evenly over [0, D - 1].

    The values themselves are whole numbers: the n-th is ``n (D - 1) / (values - 1)``, rounded.

    Args:
        delay: in steps, within [0, D - 1].
        taps: D.
        values: their number, from 2 to D.
    """
    step = (taps - 1) / (values - 1)
    return ((delay / step).round() * step).round()
