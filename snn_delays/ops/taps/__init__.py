"""What a delay becomes: taps of a temporal convolution, weighted and added up, and their gradients.

Shapes: O outputs, I inputs, C kernel count, D taps, R of them wanted. Taps come first, as the
transforms over them want it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn_delays.ops.taps import numba, one_tap, triton
from snn_delays.ops.taps.one_tap import whole_delay
from snn_delays.ops.taps.synapses import SHAPES, Shape, Synapses, tap_values
from snn_delays.runtime import numba_jit, triton_jit
from snn_delays.runtime.buffers import empty

__all__ = [
    "SHAPES",
    "Shape",
    "Synapses",
    "delay_taps",
    "gradients",
    "tap_values",
    "weighted_taps",
    "whole_delay",
]


def serves(weight: Tensor) -> bool:
    """Whether ``weighted_taps`` and ``gradients`` can compute such weights' taps here."""
    if weight.dtype not in (torch.float32, torch.float64):
        return False
    return triton_jit.serves(weight) or (weight.device.type == "cpu" and numba_jit.available())


def delay_taps(synapses: Synapses, reach: int) -> Tensor:
    """The first R = ``reach`` taps of ``Synapses.kernel``, differentiable, [R, O, I].

    Where loops are compiled, it keeps weight and delay for the way back and no more; the
    definition holds arrays of D numbers per synapse and kernel.
    """
    if not serves(synapses.weight):
        return synapses.kernel()[:reach]
    taps_ROI: Tensor = _DelayTaps.apply(synapses.weight, synapses.delay, synapses, reach)
    return taps_ROI


def weighted_taps(synapses: Synapses, reach: int) -> Tensor:
    """The first R = ``reach`` taps of ``Synapses.kernel``, [R, O, I], where ``serves`` holds."""
    if synapses.straight_through:
        return weighted_taps(synapses.rounded(), reach)
    if _is_plain(synapses):
        with torch.no_grad():
            return synapses.kernel()[:reach].contiguous()
    weight_OIC, delay_OIC = _tensors(synapses)
    shape, width, taps = synapses.shape, synapses.width, synapses.taps
    if shape is not None and triton_jit.serves(weight_OIC):
        out_ROI = weight_OIC.new_empty(reach, *weight_OIC.shape[:2])
        triton.weighted(shape, weight_OIC, delay_OIC, _scalar(width), taps, out_ROI)
        return out_ROI
    weight_Cn, delay_Cn = _by_count(weight_OIC), _by_count(delay_OIC)
    out_Rn = empty((reach, weight_Cn.shape[1]), weight_Cn)
    if shape is None:
        one_tap.weighted(weight_Cn, delay_Cn, taps, out_Rn)
    else:
        w, d, inverse, out = _arrays(weight_Cn, delay_Cn, 1 / _scalar(width), out_Rn)
        numba.kernels(shape, w.dtype.type).weighted(w, d, inverse, taps, out)
    return out_Rn.view(reach, *weight_OIC.shape[:2])


def gradients(synapses: Synapses, g_taps_ROI: Tensor) -> tuple[Tensor, Tensor | None]:
    """Of weight and delay, from that of ``weighted_taps``; deployed delays have none."""
    if synapses.straight_through:
        g_weight, _ = gradients(synapses.rounded(), g_taps_ROI)
        return g_weight, gradients(replace(synapses, straight_through=False), g_taps_ROI)[1]
    if _is_plain(synapses):
        return _plain_gradients(synapses, g_taps_ROI)
    weight_OIC, delay_OIC = _tensors(synapses)
    shape, width, taps = synapses.shape, synapses.width, synapses.taps
    if shape is not None and triton_jit.serves(weight_OIC):
        g_weight, g_delay = torch.empty_like(weight_OIC), torch.empty_like(weight_OIC)
        triton.gradient(
            shape, weight_OIC, delay_OIC, _scalar(width), taps, g_taps_ROI.contiguous(),
            g_weight, g_delay,
        )  # fmt: skip
        return g_weight, g_delay.sum_to_size(synapses.delay.shape)
    weight_Cn, delay_Cn, g_Rn = _by_count(weight_OIC), _by_count(delay_OIC), g_taps_ROI.flatten(1)
    if shape is None:
        return _as_parameter(one_tap.gradient(delay_Cn, taps, g_Rn), weight_OIC), None
    g_weight_Cn, g_delay_Cn = torch.empty_like(weight_Cn), torch.empty_like(weight_Cn)
    w, d, inverse, *rest = _arrays(
        weight_Cn, delay_Cn, 1 / _scalar(width), g_Rn, g_weight_Cn, g_delay_Cn
    )
    numba.kernels(shape, w.dtype.type).gradient(w, d, inverse, taps, *rest)
    g_delay_OIC = _as_parameter(g_delay_Cn, weight_OIC)
    return _as_parameter(g_weight_Cn, weight_OIC), g_delay_OIC.sum_to_size(synapses.delay.shape)


def _is_plain(synapses: Synapses) -> bool:
    """Whether the shape is a function of tensors that nothing is compiled of."""
    return synapses.shape is not None and synapses.shape.slope is None


def _plain_gradients(synapses: Synapses, g_taps_ROI: Tensor) -> tuple[Tensor, Tensor]:
    """``gradients`` by torch's differentiation of ``Synapses.kernel``, computed again."""
    weight = synapses.weight.detach().requires_grad_()
    delay = synapses.delay.detach().requires_grad_()
    with torch.enable_grad():
        every = replace(synapses, weight=weight, delay=delay).kernel()
        taps_ROI = every[: len(g_taps_ROI)]
    g_weight, g_delay = torch.autograd.grad(taps_ROI, (weight, delay), g_taps_ROI)
    return g_weight, g_delay


class _DelayTaps(Function):
    """Weight, delay -> taps."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, delay: Tensor, synapses: Synapses, reach: int) -> Tensor:
        ctx.save_for_backward(weight, delay)
        ctx.synapses = synapses
        return weighted_taps(synapses, reach)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_taps: Tensor) -> Any:
        weight, delay = ctx.saved_tensors
        synapses = replace(ctx.synapses, weight=weight, delay=delay)
        return *gradients(synapses, g_taps.contiguous()), None, None


def _tensors(synapses: Synapses) -> tuple[Tensor, Tensor]:
    """Weight and delay for kernels: one delay for every weight, no gradients."""
    weight = synapses.weight.detach()
    return weight, synapses.delay.detach().expand_as(weight)


def _scalar(width: Tensor | None) -> Tensor:
    assert width is not None
    return width


def _arrays(*tensors: Tensor) -> Sequence[Any]:
    """For numba's kernels; scalars become numbers of the tensors' precision."""
    return [tensor.numpy()[()] for tensor in tensors]


def _by_count(tensor_OIC: Tensor) -> Tensor:
    """[O, I, C] -> [C, O I], the synapses of each kernel side by side."""
    return tensor_OIC.flatten(0, 1).T.contiguous()


def _as_parameter(tensor_Cn: Tensor, like_OIC: Tensor) -> Tensor:
    return tensor_Cn.T.contiguous().view_as(like_OIC)
