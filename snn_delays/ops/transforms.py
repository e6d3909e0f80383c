"""Fourier transforms over time as matrix products, and how a sequence is cut for them.

At the lengths that occur, a product with a matrix of cosines and sines is faster than an FFT over
strided memory; a long sequence is cut into segments whose results overlap and add up.

A spectrum has 2 F rows: F real parts, then F imaginary parts, F = N // 2 + 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_delays.ops.products import multiply_wide

MOST_SEGMENTS = 64


@dataclass(frozen=True)
class Plan:
    """How a sequence of ``steps`` is convolved with a kernel of ``taps``.

    Attributes:
        steps: T of the input.
        taps: taps that arrive within the output.
        out_steps: T of the output.
        segment: steps of each segment of the input; the last may be shorter.
    """

    steps: int
    taps: int
    out_steps: int
    segment: int

    @property
    def length(self) -> int:
        """N, the shortest transform in which nothing wraps around."""
        return self.segment + self.taps - 1

    @property
    def frequencies(self) -> int:
        """F."""
        return self.length // 2 + 1

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return -(-self.steps // self.segment)

    def inputs(self) -> Iterator[slice]:
        """The input steps of each segment."""
        for start in range(0, self.steps, self.segment):
            yield slice(start, min(start + self.segment, self.steps))

    def outputs(self) -> Iterator[slice]:
        """The output steps that each segment reaches."""
        for start in range(0, self.steps, self.segment):
            yield slice(start, min(start + self.length, self.out_steps))

    def operations(self, inputs: int, outputs: int, batch: int) -> int:
        """Operations of one forward pass, the kernel's spectrum included.

        A complex product counts 10 where it multiplies and adds 6 times: the sums around it cost
        about as much time as the difference.
        """
        transforms = 4 * batch * (inputs * self.segment + outputs * self.length)
        products = 10 * batch * inputs * outputs
        kernel = 6 * self.taps * inputs * outputs
        return self.frequencies * (self.segments * (transforms + products) + kernel)


@functools.lru_cache(maxsize=256)
def make_plan(steps: int, taps: int, extra_steps: int, inputs: int, outputs: int) -> Plan:
    """The cheapest plan; it does not depend on the batch, so that results do not either."""
    out_steps = steps + extra_steps
    reach = min(taps, out_steps)
    segments = {-(-steps // n) for n in range(1, min(MOST_SEGMENTS, steps) + 1)}
    plans = [Plan(steps, reach, out_steps, segment) for segment in sorted(segments, reverse=True)]
    return min(plans, key=lambda plan: plan.operations(inputs, outputs, 128))


# ---- between time and frequency ----------------------------------------------------------------
#
# Arrays here are [steps, columns] and [2 F, columns]. Forward: X = A x. Inverse: y = (w A)' Y, as w
# counts every frequency but 0 and N / 2 twice. Their adjoints are A' and w A.


def to_frequency(x: Tensor, plan: Plan, out: Tensor, weighted: bool = False) -> None:
    """``out <- A x``, or w A x; x has at most N rows."""
    matrix = _matrix(plan, weighted, x.dtype, x.device)
    multiply_wide(out, matrix[:, : len(x)], x)


def to_time(X: Tensor, plan: Plan, out: Tensor, weighted: bool = False, add: bool = False) -> None:
    """``out <- A' X``, or (w A)' X, or added to out; out has at most N rows."""
    matrix = _matrix(plan, weighted, X.dtype, X.device)
    multiply_wide(out, matrix[:, : len(out)].T, X, beta=1 if add else 0)


def _angles(plan: Plan, steps: int) -> Tensor:
    """2 pi f t / N, [F, steps]; the product is reduced in whole numbers, so it stays exact."""
    f = torch.arange(plan.frequencies).unsqueeze(1)
    t = torch.arange(steps)
    return (2 * math.pi / plan.length) * ((f * t) % plan.length).double()


def _weights(plan: Plan) -> Tensor:
    """w, [F, 1]."""
    w = torch.full((plan.frequencies, 1), 2.0 / plan.length, dtype=torch.float64)
    w[0] = 1 / plan.length
    if plan.length % 2 == 0:
        w[-1] = 1 / plan.length
    return w


@functools.lru_cache(maxsize=64)
def _matrix(plan: Plan, weighted: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A or w A, [2 F, N]."""
    angle = _angles(plan, plan.length)
    w = _weights(plan) if weighted else 1
    return torch.cat([w * angle.cos(), -w * angle.sin()]).to(device, dtype)


# ---- the kernel's taps -------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def kernel_matrix(plan: Plan, dtype: torch.dtype, device: torch.device) -> Tensor:
    """From taps to real part, real + imaginary and imaginary - real, [3, F, taps].

    With these, a complex product takes three real ones (Gauss) without further sums.
    """
    angle = _angles(plan, plan.taps)
    real, imaginary = angle.cos(), -angle.sin()
    planes = torch.stack([real, real + imaginary, imaginary - real])
    return planes.to(device, dtype)


@functools.lru_cache(maxsize=64)
def taps_matrix(plan: Plan, dtype: torch.dtype, device: torch.device) -> Tensor:
    """From taps to real and imaginary part, [2, F, taps]."""
    angle = _angles(plan, plan.taps)
    return torch.stack([angle.cos(), -angle.sin()]).to(device, dtype)
