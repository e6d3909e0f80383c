"""An implementation of the delayed linear map, and the problem by which one is chosen.

Shapes: T time, B batch, O outputs, I inputs, C kernel count, D taps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from snn_delays.ops.taps import Synapses
from snn_delays.runtime import numba_jit
from snn_delays.runtime.tracing import watcher


class Problem(NamedTuple):
    """A delayed linear map by its sizes, without its numbers.

    Attributes:
        steps: T of the input.
        batch: B.
        weight: shape of the weights, [O, I, C].
        delay: shape of the delays, which broadcasts to that of the weights.
        taps: D.
        extra_steps: steps added behind the sequence.
        dtype: precision of the input.
        device: device of the input.
        deployed: whether each synapse acts through one tap at its rounded delay.
        gradients: whether torch notes operations, so that gradients can be asked for.
    """

    steps: int
    batch: int
    weight: tuple[int, ...]
    delay: tuple[int, ...]
    taps: int
    extra_steps: int
    dtype: torch.dtype
    device: torch.device
    deployed: bool
    gradients: bool

    @classmethod
    def of(cls, x_TBI: Tensor, synapses: Synapses, extra_steps: int) -> Problem:
        """The problem of a call of ``delayed_linear``."""
        return cls(
            steps=x_TBI.shape[0],
            batch=x_TBI.shape[1],
            weight=synapses.weight.shape,
            delay=synapses.delay.shape,
            taps=synapses.taps,
            extra_steps=extra_steps,
            dtype=x_TBI.dtype,
            device=x_TBI.device,
            deployed=synapses.deployed,
            gradients=torch.is_grad_enabled(),
        )


@dataclass(frozen=True)
class Backend:
    """An implementation of the map.

    Attributes:
        name: its name in options.
        run: (x, synapses, extra_steps) -> y.
        why_not: why it cannot serve a problem, or None where it can.
        cost: operations that it takes forward, about; infinite where "auto" never takes it.
        half: whether its products are in bfloat16 inside ``torch.autocast``.
        spectra: whether it can also multiply a ``Spectrum``, the output of a fused block.
    """

    name: str
    run: Callable[[Tensor, Synapses, int], Tensor]
    why_not: Callable[[Problem], str | None]
    cost: Callable[[Problem], float]
    half: bool = True
    spectra: bool = False


def serves_all(problem: Problem) -> None:
    """For a backend of torch's own functions and gradients."""


def why_not_kernels(problem: Problem) -> str | None:
    """Why none but torch's own functions, with torch's own gradients, can serve."""
    if problem.device.type == "meta":
        return "a tensor on the device meta has no numbers"
    if problem.dtype not in (torch.float32, torch.float64):
        return watcher() or "it needs float32 or float64"
    return watcher()


def why_not_compiled(problem: Problem) -> str | None:
    """Why numba's loops cannot serve."""
    if problem.device.type != "cpu":
        return "it runs on the CPU only"
    return numba_jit.why_not() or why_not_kernels(problem)
