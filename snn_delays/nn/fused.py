"""The network's training pass in fused blocks; what it computes is what the modules compute.

On the CPU spectra travel from block to block. On a GPU each block's delayed linear map is the
backend's own, and the rest of the block is one function.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snn_delays.nn.block import Block
from snn_delays.nn.delayed_linear import DelayedLinear
from snn_delays.nn.neurons import LIFNode
from snn_delays.nn.readout import Readout
from snn_delays.nn.stock import is_stock
from snn_delays.nn.sync import BatchNorm1d, Dropout
from snn_delays.ops.maps import BACKENDS, spectral_pays
from snn_delays.ops.norm_lif import norm_lif
from snn_delays.ops.spectral.block import BlockSettings, FusedBlock
from snn_delays.ops.spectral.layer import Plan, SpectralLinear, ToSpectrum, make_plan
from snn_delays.runtime import triton_jit
from snn_delays.runtime.distributed import largest_part, whole_batch
from snn_delays.runtime.tracing import watcher
from snn_delays.runtime.weight_cache import invalidate

if TYPE_CHECKING:
    from snn_delays.nn.network import Network


def why_not_block(block: Block) -> str | None:
    """Why a block's norm, neuron and dropout cannot be one function, or None where they can."""
    if not _is_plain_norm(block.norm):
        return (
            "it has no BatchNorm of nn.sync that learns scale and shift and tracks its statistics"
        )
    if not is_stock(block.dropout, nn.Identity, Dropout) or not block.dropout.training:
        return "its dropout is not that of nn.sync, or does not train"
    return _why_not_neuron(block.neuron)


def _is_plain(network: Network) -> bool:
    layers: list[Any] = [*network.blocks, network.readout]
    whole = all(is_stock(layer, Block, Readout) for layer in layers)
    return whole and all(is_stock(layer.linear, DelayedLinear) for layer in layers)


def _is_plain_norm(norm: Any) -> bool:
    plain = is_stock(norm, BatchNorm1d) and norm.momentum is not None
    return plain and norm.training and norm.affine and norm.track_running_stats


def _is_watched(module: nn.Module) -> bool:
    """Whether a hook, a monitor for one, wants to see single modules run."""
    hooks = (m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    backward = (m._backward_hooks or m._backward_pre_hooks for m in module.modules())
    return any(hooks) or any(backward)


def _why_not_neuron(node: Any) -> str | None:
    if not is_stock(node, LIFNode) or not node.is_plain():
        return "its neuron is not a LIF with hard reset and ATan surrogate"
    if node.step_mode != "m":
        return "its neuron runs step by step"
    return "its neuron stores its membrane" if node.store_v_seq else None


def why_not_fused(network: Network, x_TBI: Tensor) -> str | None:
    """Why a pass must run module by module, or None where it can be fused."""
    if not network.training:
        return "it is not training"
    blocks: list[Any] = list(network.blocks)
    if not blocks:
        return "there is no hidden layer"
    if not _is_plain(network):
        return "the class or a method of a block, a delayed linear layer or the readout is foreign"
    linears: list[DelayedLinear] = list(network.delayed_layers())
    if x_TBI.shape[1] == 0 or x_TBI.shape[0] + linears[0].extra_steps < 2:
        return "there are too few numbers for BatchNorm"
    if any(p.dtype != x_TBI.dtype for p in network.parameters()):
        return "input and parameters differ in precision"
    if watched := watcher():
        return watched
    if any(_is_watched(module) for module in (network.blocks, network.readout)):
        return "a hook or monitor watches it"
    reason = None if triton_jit.serves(x_TBI) else _why_not_spectra(blocks, linears, x_TBI)
    for block in blocks:
        reason = reason or why_not_block(block)
    return reason


def _why_not_spectra(blocks: list[Any], linears: list[DelayedLinear], x_TBI: Tensor) -> str | None:
    """Why spectra cannot travel from block to block, or None where they can."""
    if any(linear.backend not in ("auto", "numba") for linear in linears):
        return f"backend={linears[0].backend}"
    reason = BACKENDS["numba"].why_not(x_TBI, False)
    if reason:
        return reason
    for block in blocks:
        if block.linear.bias is not None:
            return "it has a bias"
        if not is_stock(block.filter, nn.Identity):
            return "it has a synaptic filter"
    return _why_not_worth(linears, x_TBI)


def _why_not_worth(linears: list[DelayedLinear], x_TBI: Tensor) -> str | None:
    """With backend=auto, the same rule as for one layer."""
    steps, batch = x_TBI.shape[0], largest_part(x_TBI.shape[1])
    for linear in linears[:-1]:
        pays = spectral_pays(steps, batch, linear.weight, linear.taps, linear.extra_steps)
        if linear.backend == "auto" and not pays:
            return "a convolution is cheaper at these sizes"
        steps += linear.extra_steps
    return None


def forward(network: Network, x_TBI: Tensor) -> Tensor:
    """All blocks and the readout's delayed linear map, [T, B, I] -> [T_out, B, K]."""
    blocks: list[Any] = list(network.blocks)
    linears: list[DelayedLinear] = list(network.delayed_layers())
    if triton_jit.serves(x_TBI):
        for block in blocks:
            x_TBI = _block_on_gpu(block, x_TBI)
        y: Tensor = linears[-1](x_TBI)
        return y
    return _forward_spectra(blocks, linears, x_TBI)


def _block_on_gpu(block: Block, x_TBI: Tensor) -> Tensor:
    norm: Any = block.norm
    node: Any = block.neuron
    y_TBO = block.linear(x_TBI)
    spikes_TBO, _, _, node.v = norm_lif(
        y_TBO,
        norm.weight,
        norm.bias,
        dropout_mask(block.dropout, torch.empty_like(y_TBO[0])),
        eps=norm.eps,
        tau=node.tau,
        v_threshold=node.v_threshold,
        alpha=node.surrogate_function.alpha,
        running=norm.running,
    )
    filtered: Tensor = block.filter(spikes_TBO)
    return filtered


def _forward_spectra(blocks: list[Any], linears: list[DelayedLinear], x_TBI: Tensor) -> Tensor:
    last = linears[-1]
    for linear in linears:
        invalidate(linear.weight)
    plans = list(_plans(linears, x_TBI.shape[0]))
    X = ToSpectrum.apply(x_TBI, plans[0])
    for block, plan, next_plan in zip(blocks, plans[:-1], plans[1:], strict=True):
        X = _block(block, X, plan, next_plan)
    synapses = last.synapses()
    y = SpectralLinear.apply(X, synapses.weight, synapses.delay, synapses, plans[-1])
    return y if last.bias is None else y + last.bias


def _plans(linears: list[DelayedLinear], steps: int) -> Iterator[Plan]:
    for linear in linears:
        yield make_plan(steps, linear.taps, linear.extra_steps)
        steps += linear.extra_steps


def _block(block: Block, X: Tensor, plan: Plan, next_plan: Plan) -> Tensor:
    synapses = block.linear.synapses()
    norm: Any = block.norm
    node: Any = block.neuron
    settings = BlockSettings(
        synapses=synapses,
        plan=plan,
        next_plan=next_plan,
        tau=node.tau,
        v_threshold=node.v_threshold,
        alpha=node.surrogate_function.alpha,
        eps=norm.eps,
    )
    out, mean, var, node.v = FusedBlock.apply(
        X,
        synapses.weight,
        synapses.delay,
        norm.weight,
        norm.bias,
        dropout_mask(block.dropout, X.new_empty(X.shape[2], len(synapses.weight))),
        settings,
    )
    norm.running.track(mean, var, plan.out_steps * whole_batch(X.shape[2]))
    return out


def dropout_mask(dropout: Any, like_BO: Tensor) -> Tensor:
    """What each sample's neurons have their spikes multiplied by, drawn; ones without dropout."""
    if isinstance(dropout, nn.Identity):
        return torch.ones_like(like_BO)
    mask: Tensor = dropout.create_mask(like_BO)
    dropout.mask = mask
    return mask
