"""The delayed linear map: one signature, one table of implementations.

Shapes: T time, B batch, I inputs, O outputs, C kernel count, D taps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snn_delays.ops.maps import dense, depthwise, event, fft, matmul, numba, reference
from snn_delays.ops.maps.backend import Backend, Problem
from snn_delays.ops.taps import Synapses
from snn_delays.runtime.weight_cache import invalidate

__all__ = [
    "BACKENDS",
    "Backend",
    "Problem",
    "check_backend",
    "check_input",
    "choose_backend",
    "delayed_linear",
]

# from the plainest to the most special; of those that cost the same, "auto" takes the last
_MODULES = (reference, dense, fft, matmul, numba, event, depthwise)
BACKENDS: dict[str, Backend] = {module.BACKEND.name: module.BACKEND for module in _MODULES}


def check_backend(name: str) -> None:
    """Refuse a name that is neither "auto" nor a key of ``BACKENDS``.

    Raises:
        ValueError: no such implementation.
    """
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"backend={name} is not one of auto, {', '.join(BACKENDS)}.")


def choose_backend(problem: Problem) -> str:
    """The backend that "auto" stands for: of those that can serve, the one of the least cost."""
    chosen, least = "", math.inf
    for backend in BACKENDS.values():
        if backend.why_not(problem) is None and (cost := backend.cost(problem)) <= least:
            chosen, least = backend.name, cost
    return chosen


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
    weight = synapses.weight
    _check_shape(x, synapses, extra_steps)
    check_backend(backend)
    problem = Problem.of(x, synapses, extra_steps)
    chosen = BACKENDS[choose_backend(problem) if backend == "auto" else backend]
    reason = chosen.why_not(problem)
    if reason:
        raise ValueError(f"backend={backend} cannot serve: {reason}.")
    _check_precision(x, synapses)
    if torch.is_grad_enabled() and weight.requires_grad:
        invalidate(weight)
    y = chosen.run(x, synapses, extra_steps)
    return y.to(x.dtype)  # inside torch.autocast, products alone are rounded


def check_input(x: Tensor, synapses: Synapses, extra_steps: int) -> None:
    """Refuse an input that does not fit the synapses, as ``delayed_linear`` does.

    Raises:
        ValueError: shapes or precisions that do not fit together, no time steps.
    """
    _check_shape(x, synapses, extra_steps)
    _check_precision(x, synapses)


def _check_shape(x: Tensor, synapses: Synapses, extra_steps: int) -> None:
    weight = synapses.weight
    if x.dim() != 3 or weight.shape[1] != x.shape[2]:
        raise ValueError(
            f"x {list(x.shape)} must be [T, B, I] and weight {list(weight.shape)} [O, I, C]."
        )
    if x.shape[0] < 1:
        raise ValueError(f"x {list(x.shape)} has no time steps.")
    if extra_steps < 0:
        raise ValueError(f"extra_steps={extra_steps} must be at least 0.")


def _check_precision(x: Tensor, synapses: Synapses) -> None:
    weight, delay = synapses.weight, synapses.delay
    if not x.dtype == weight.dtype == delay.dtype:
        raise ValueError(
            f"x is {x.dtype}, weight {weight.dtype}, delay {delay.dtype}: make them one."
        )
