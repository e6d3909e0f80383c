"""The delayed linear map: one signature, one table of implementations.

Shapes: T time, B batch, I inputs, O outputs, C kernel count, D taps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_delays.ops.maps import dense, event, fft, matmul, numba, reference
from snn_delays.ops.spectral.layer import make_plan
from snn_delays.ops.taps import Synapses
from snn_delays.runtime import numba_jit
from snn_delays.runtime.tracing import watcher
from snn_delays.runtime.weight_cache import invalidate

__all__ = [
    "BACKENDS",
    "check_backend",
    "choose_backend",
    "delayed_linear",
    "spectral_pays",
]

EVENT_BATCH = 16  # up to this, deployed maps run event by event
TRANSFORM_COST = 32  # operations that take as long as N log2 N says
MATRIX_LENGTH = 1024  # of a transform that is a matrix product; beyond it, it is a fast one


@dataclass(frozen=True)
class Backend:
    """An implementation of the map.

    Attributes:
        run: (x, synapses, extra_steps) -> y.
        why_not: (x, whether synapses are deployed) -> why it cannot serve, or None where it can.
    """

    run: Callable[[Tensor, Synapses, int], Tensor]
    why_not: Callable[[Tensor, bool], str | None]


def _serves_all(x: Tensor, deployed: bool) -> None:
    return None


def _why_not_spectral(x: Tensor, deployed: bool) -> str | None:
    return None if x.dtype in (torch.float32, torch.float64) else "it needs float32 or float64"


def _why_not_beyond_torch(x: Tensor, deployed: bool) -> str | None:
    """Why none but torch's own functions, with torch's own gradients, can serve."""
    if x.is_meta:
        return "a tensor on the device meta has no numbers"
    return watcher() or _why_not_spectral(x, deployed)


def _why_not_compiled(x: Tensor, deployed: bool) -> str | None:
    if x.device.type != "cpu":
        return "it runs on the CPU only"
    return numba_jit.why_not() or _why_not_beyond_torch(x, deployed)


BACKENDS: dict[str, Backend] = {
    "reference": Backend(reference.delayed_linear, _serves_all),
    "dense": Backend(dense.delayed_linear, _serves_all),
    "fft": Backend(fft.delayed_linear, _why_not_beyond_torch),
    "matmul": Backend(matmul.delayed_linear, _why_not_beyond_torch),
    "numba": Backend(numba.delayed_linear, _why_not_compiled),
    "event": Backend(event.delayed_linear, event.why_not),
}


def check_backend(name: str) -> None:
    """Refuse a name that is neither "auto" nor a key of ``BACKENDS``.

    Raises:
        ValueError: no such implementation.
    """
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"backend={name} is not one of auto, {', '.join(BACKENDS)}.")


def choose_backend(x: Tensor, synapses: Synapses, extra_steps: int) -> str:
    """What "auto" stands for, by device and sizes alone.

    Where torch must see every operation, "dense", which is torch's own. Small batches of a deployed
    network go event by event; else the one of "dense" and the spectral maps that needs fewer
    operations. Of these, "numba" where it serves, or "matmul", or "fft" for long sequences.
    """
    T, B, _ = x.shape
    deployed, taps = synapses.deployed, synapses.taps
    few = B <= EVENT_BATCH and not torch.is_grad_enabled()
    if few and BACKENDS["event"].why_not(x, deployed) is None:
        return "event"
    if _why_not_beyond_torch(x, deployed):
        return "dense"
    pays = _matrices_pay if x.device.type == "cuda" else spectral_pays
    if not pays(T, B, synapses.weight, taps, extra_steps):
        return "dense"
    if _why_not_compiled(x, deployed) is None:
        return "numba"
    return "fft" if make_plan(T, taps, extra_steps).length > MATRIX_LENGTH else "matmul"


def spectral_pays(steps: int, batch: int, weight: Tensor, taps: int, extra_steps: int) -> bool:
    """Whether the map is done sooner by spectra than as a convolution; in operations, about.

    Per frequency a complex product takes three real ones. A transform takes longer than its
    5/2 N log2 N operations say, since it moves more than it computes.
    """
    outputs, inputs, _ = weight.shape
    plan = make_plan(steps, taps, extra_steps)
    length = plan.length
    transform = TRANSFORM_COST * length * math.log2(length + 1)
    sequences = batch * (inputs + outputs) + inputs * outputs
    spectral = 3 * length * batch * inputs * outputs + transform * sequences
    return taps > 1 and spectral < 2 * plan.out_steps * taps * batch * inputs * outputs


def _matrices_pay(steps: int, batch: int, weight: Tensor, taps: int, extra_steps: int) -> bool:
    """The same on a GPU, where either way is matrix products alone (by count, not measured)."""
    outputs, inputs, _ = weight.shape
    plan = matmul.matrix_plan(steps, taps, extra_steps)
    spectral = matmul.operations(plan, batch, inputs, outputs)
    return spectral < 2 * plan.out_steps * taps * batch * inputs * outputs


def delayed_linear(
    x: Tensor, synapses: Synapses, *, extra_steps: int = 0, backend: str = "auto"
) -> Tensor:
    """A linear map whose every synapse has delays of its own (arXiv 2306.17670).

    ``y[t, b, o] = sum_i sum_j K[o, i, j] x[t - j, b, i]`` with K of ``Synapses.kernel``. Before the
    first step the input is zero.

    Args:
        x: input, [T, B, I].
        synapses: weights, delays, and the taps that a delay becomes; deployed, with one tap at the
            rounded delay, the map is differentiable in x and the weights only.
        extra_steps: steps added behind the sequence, so that late delays still arrive.
        backend: a key of ``BACKENDS``, or "auto": see ``choose_backend``.

    Returns:
        [T + extra_steps, B, O].

    Raises:
        ValueError: shapes or precisions that do not fit together, no time steps, an unknown
            backend or one that cannot serve.
    """
    weight, delay = synapses.weight, synapses.delay
    if x.dim() != 3 or weight.shape[1] != x.shape[2]:
        raise ValueError(
            f"x {list(x.shape)} must be [T, B, I] and weight {list(weight.shape)} [O, I, C]."
        )
    if x.shape[0] < 1:
        raise ValueError(f"x {list(x.shape)} has no time steps.")
    if extra_steps < 0:
        raise ValueError(f"extra_steps={extra_steps} must be at least 0.")
    check_backend(backend)
    if backend == "auto":
        backend = choose_backend(x, synapses, extra_steps)
    chosen = BACKENDS[backend]
    reason = chosen.why_not(x, synapses.deployed)
    if reason:
        raise ValueError(f"backend={backend} cannot serve: {reason}.")
    if not x.dtype == weight.dtype == delay.dtype:
        raise ValueError(
            f"x is {x.dtype}, weight {weight.dtype}, delay {delay.dtype}: make them one."
        )
    if torch.is_grad_enabled() and weight.requires_grad:
        invalidate(weight)
    y = chosen.run(x, synapses, extra_steps)
    return y.to(x.dtype)  # inside torch.autocast, products alone are rounded
