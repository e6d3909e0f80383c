"""The network's training pass in fused blocks; what it computes is what the modules compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from snn_delays.nn.neurons import LIFNode
from snn_delays.ops.block import BlockSettings, FusedBlock
from snn_delays.ops.delay import BACKENDS, spectral_pays
from snn_delays.ops.spectral import Plan, SpectralLinear, ToSpectrum, make_plan

if TYPE_CHECKING:
    from snn_delays.nn.delayed_linear import DelayedLinear
    from snn_delays.nn.network import Block


def _why_not_block(block: Block) -> str | None:
    """Why a block must run module by module, or None where it can be fused."""
    if block.linear.bias is not None:
        return "it has a bias"
    if type(block.norm) is not layer.BatchNorm1d or block.norm.momentum is None:
        return "it has no BatchNorm"
    if not isinstance(block.filter, nn.Identity):
        return "it has a synaptic filter"
    if any(m._forward_hooks or m._forward_pre_hooks for m in block.modules()):
        return "a hook or monitor watches it"
    return _why_not_neuron(block.neuron)


def _why_not_neuron(node: Any) -> str | None:
    if not isinstance(node, LIFNode) or not node.is_plain():
        return "its neuron is not a LIF with hard reset and ATan surrogate"
    return "its neuron stores its membrane" if node.store_v_seq else None


def why_not_fused(blocks: list[Block], last: DelayedLinear, x_TBI: Tensor) -> str | None:
    """Why a training pass must run module by module, or None where it can be fused."""
    if not blocks:
        return "there is no hidden layer"
    linears = [block.linear for block in blocks] + [last]
    if any(linear.backend not in ("auto", "numba") for linear in linears):
        return f"backend={linears[0].backend}"
    reason = BACKENDS["numba"].why_not(x_TBI, 1.0)
    if reason:
        return reason
    for block in blocks:
        reason = reason or _why_not_block(block)
    return reason or _why_not_worth(linears, x_TBI)


def _why_not_worth(linears: list[DelayedLinear], x_TBI: Tensor) -> str | None:
    """With backend=auto, the same rule as for one layer."""
    steps = x_TBI.shape[0]
    for linear in linears[:-1]:
        pays = spectral_pays(steps, x_TBI.shape[1], linear.weight, linear.taps, linear.extra_steps)
        if linear.backend == "auto" and not pays:
            return "a convolution is cheaper at these sizes"
        steps += linear.extra_steps
    return None


def forward(blocks: list[Block], last: DelayedLinear, x_TBI: Tensor) -> Tensor:
    """All blocks and the readout's delayed linear map, [T, B, I] -> [T_out, B, K]."""
    linears = [block.linear for block in blocks] + [last]
    plans = list(_plans(linears, x_TBI.shape[0]))
    X = ToSpectrum.apply(x_TBI, plans[0])
    for block, plan, next_plan in zip(blocks, plans[:-1], plans[1:], strict=True):
        X = _block(block, X, plan, next_plan)
    y = SpectralLinear.apply(X, last.weight, last.delay, last.active_sigma, last.taps, plans[-1])
    return y if last.bias is None else y + last.bias


def _plans(linears: list[DelayedLinear], steps: int) -> Iterator[Plan]:
    for linear in linears:
        yield make_plan(steps, linear.taps, linear.extra_steps)
        steps += linear.extra_steps


def _block(block: Block, X: Tensor, plan: Plan, next_plan: Plan) -> Tensor:
    linear = block.linear
    norm: Any = block.norm
    node: Any = block.neuron
    settings = BlockSettings(
        sigma=linear.active_sigma,
        taps=linear.taps,
        plan=plan,
        next_plan=next_plan,
        tau=node.tau,
        v_threshold=node.v_threshold,
        alpha=node.surrogate_function.alpha,
        eps=norm.eps,
    )
    out, mean, var, node.v = FusedBlock.apply(
        X,
        linear.weight,
        linear.delay,
        norm.weight,
        norm.bias,
        _dropout_mask(block.dropout, X.new_empty(X.shape[2], linear.weight.shape[0])),
        settings,
    )
    _track(norm, mean, var, plan.out_steps * X.shape[2])
    return out


def _dropout_mask(dropout: Any, like_BO: Tensor) -> Tensor:
    if isinstance(dropout, nn.Identity):
        return torch.ones_like(like_BO)
    mask: Tensor = dropout.create_mask(like_BO)
    dropout.mask = mask
    return mask


@torch.no_grad()
def _track(norm: Any, mean: Tensor, var: Tensor, n: int) -> None:
    """BatchNorm's running statistics, with the unbiased variance, as torch keeps them."""
    norm.num_batches_tracked += 1
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
    norm.running_var.lerp_((var * n / max(n - 1, 1)).to(norm.running_var.dtype), norm.momentum)
