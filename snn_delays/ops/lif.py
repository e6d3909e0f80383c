"""LIF neurons over whole sequences.

Charge ``h = v - v * share / tau + x``, fire where ``h >= v_threshold``, then ``v = 0`` with the
reset path detached, else ``v = h``. LIF divides by tau (share = 1), PLIF multiplies by a learned
share (tau = 1): rounded in SpikingJelly's order, so that spikes are equal to its bit by bit.

Shapes: T time, B batch, N neurons.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops import lif_numba, lif_triton
from snn_delays.runtime import numba_jit, triton_jit
from snn_delays.runtime.tracing import watcher


@dataclass(frozen=True)
class Scans:
    """The kernels of one kind of device, called with tensors [T, N] and [N] and with numbers."""

    fire: Callable[..., None]
    fire_gradient: Callable[..., None]
    integrate: Callable[..., None]
    integrate_gradient: Callable[..., None]


def _with_arrays(kernel: Callable[..., None]) -> Callable[..., None]:
    """A compiled kernel, called with tensors and with numbers.

    Scalars get the tensors' precision, or it would compute in float64.
    """

    def run(x: Tensor, *arguments: Tensor | float) -> None:
        number = x.numpy().dtype.type
        arrays = (a.numpy()[()] if isinstance(a, Tensor) else number(a) for a in arguments)
        kernel(x.numpy(), *arrays)

    return run


NAMES = tuple(field.name for field in fields(Scans))
COMPILED = Scans(*(_with_arrays(getattr(lif_numba, name)) for name in NAMES))
TRITON = Scans(*(getattr(lif_triton, name) for name in NAMES))


def why_not(x: Tensor) -> str | None:
    """Why no scan in one kernel can serve, or None where one can."""
    if x.dtype not in (torch.float32, torch.float64):
        return "it needs float32 or float64"
    watched = watcher()
    if watched or triton_jit.serves(x):
        return watched
    return numba_jit.why_not() if x.device.type == "cpu" else triton_jit.why_not(x)


def _scans(x: Tensor) -> Scans:
    return TRITON if triton_jit.serves(x) else COMPILED


def fire(
    x: Tensor,
    v: Tensor | float,
    *,
    tau: float = 1.0,
    share: Tensor | None = None,
    v_threshold: float = 1.0,
    alpha: float = 5.0,
) -> tuple[Tensor, Tensor]:
    """Spikes of neurons with the surrogate gradient of ATan, and the membrane they end with.

    Args:
        x: input current, [T, B, N], T >= 1.
        v: membrane before the first step, [B, N] or one number.
        tau: time constant in steps; 1 for PLIF.
        share: of the membrane that leaks in a step, a scalar tensor; None for LIF.
        v_threshold: firing threshold.
        alpha: the surrogate is ``alpha / 2 / (1 + (pi / 2 alpha (h - v_threshold))^2)``.

    Returns:
        spikes 0 or 1 [T, B, N], membrane after the last step [B, N].
    """
    v, share = _state(x, v), _share(x, share)
    if why_not(x) is None:
        return _Fire.apply(x, v, share, tau, v_threshold, alpha)
    spikes, v_seq = plain(x, v, share, tau, v_threshold, alpha)
    return spikes, v_seq[-1]


def integrate(
    x: Tensor, v: Tensor | float, *, tau: float = 1.0, share: Tensor | None = None
) -> Tensor:
    """The membrane after every step of neurons that never fire, [T, B, N]; see ``fire``."""
    v, share = _state(x, v), _share(x, share)
    if why_not(x) is None:
        return _Integrate.apply(x, v, share, tau)
    return plain(x, v, share, tau, math.inf, 1.0)[1]


def plain(
    x: Tensor, v: Tensor, share: Tensor, tau: float, v_threshold: float, alpha: float
) -> tuple[Tensor, Tensor]:
    """The recurrence step by step, on any device: what the kernels are held to.

    Returns:
        spikes and membranes after each step, [T, B, N] each.
    """
    spikes, membranes = [], []
    for current in x:
        h = v - v * share / tau + current
        fired = h >= v_threshold
        soft = torch.atan(math.pi / 2 * alpha * (h - v_threshold)) / math.pi
        spikes.append(fired.to(x.dtype) + (soft - soft.detach()))
        v = torch.where(fired, torch.zeros_like(h), h)
        membranes.append(v)
    return torch.stack(spikes), torch.stack(membranes)


def _state(x: Tensor, v: Tensor | float) -> Tensor:
    return v if isinstance(v, Tensor) else x.new_full(x.shape[1:], v)


def _share(x: Tensor, share: Tensor | None) -> Tensor:
    return x.new_ones(()) if share is None else share


class _Fire(Function):
    """x, v, share -> spikes, last membrane. The way back scans again instead of storing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, share: Tensor, *settings: float) -> Any:
        x, last = x.contiguous(), _copy(v)
        spikes = torch.empty_like(x)
        tau, v_threshold, _ = settings
        _scans(x).fire(_rows(x), last.view(-1), share, tau, v_threshold, _rows(spikes))
        ctx.save_for_backward(x, v, share)
        ctx.settings = settings
        return spikes, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_spikes: Tensor, g_last: Tensor) -> Any:
        x, v, share = ctx.saved_tensors
        tau, v_threshold, alpha = ctx.settings
        g_x, g_v, g_share = torch.empty_like(x), _copy(g_last), _copy(v)
        numbers = tau, v_threshold, alpha / 2, math.pi / 2 * alpha
        _scans(x).fire_gradient(
            _rows(x), g_share.view(-1), g_v.view(-1), share, *numbers,
            _rows(g_spikes.contiguous()), _rows(g_x),
        )  # fmt: skip
        return g_x, g_v, _sum(g_share, tau), None, None, None


class _Integrate(Function):
    """x, v, share -> membrane after every step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, share: Tensor, tau: float) -> Tensor:
        x, v = x.contiguous(), v.contiguous()
        v_seq = torch.empty_like(x)
        _scans(x).integrate(_rows(x), v.view(-1), share, tau, _rows(v_seq))
        ctx.save_for_backward(v_seq, v, share)
        ctx.tau = tau
        return v_seq

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_v_seq: Tensor) -> Any:
        v_seq, v, share = ctx.saved_tensors
        g_x, g_v, g_share = torch.empty_like(v_seq), torch.empty_like(v), torch.empty_like(v)
        _scans(v_seq).integrate_gradient(
            _rows(v_seq), v.view(-1), share, ctx.tau, _rows(g_v_seq.contiguous()), _rows(g_x),
            g_v.view(-1), g_share.view(-1),
        )  # fmt: skip
        return g_x, g_v, _sum(g_share, ctx.tau), None


def _copy(v: Tensor) -> Tensor:
    return v.clone(memory_format=torch.contiguous_format)


def _rows(x: Tensor) -> Tensor:
    return x.view(x.shape[0], -1)


def _sum(g_share: Tensor, tau: float) -> Tensor:
    return (g_share.sum(dtype=torch.float64) / -tau).to(g_share.dtype)
