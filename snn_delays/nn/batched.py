"""Several networks of one architecture in one training pass, each with a batch of its own.

What it computes is what each of them would. Shapes: S networks, T time, B batch of each, I inputs,
O outputs, N neurons of all hidden layers, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snn_delays.nn.block import How
from snn_delays.nn.delayed_linear import DelayedLinear
from snn_delays.nn.network import Network
from snn_delays.nn.plan import why_not_one_function
from snn_delays.nn.readout import SCORES
from snn_delays.nn.state import reset, stateful
from snn_delays.nn.sync import dropout_mask
from snn_delays.ops.maps import depthwise, matmul_batched
from snn_delays.ops.norm_neuron import norm_neuron
from snn_delays.ops.scan import scan


def why_not_batched(network: Network) -> str | None:
    """Why networks such as this one cannot train in one pass, or None where they can."""
    blocks: list[Any] = list(network.blocks)
    backend, serves = network.readout.linear.backend, _backend(network)
    if backend not in ("auto", serves):
        return f"backend={backend} is not {serves}, which is what serves several at once"
    if not all(isinstance(block.filter, nn.Identity) for block in blocks):
        return "it has a synaptic filter"
    if network.readout.own_scores is not None:
        return "its readout is foreign"
    return next((reason for block in blocks if (reason := why_not_one_function(block))), None)


def plan_batched(network: Network) -> list[How]:
    """How each layer of such a network computes a pass of several."""
    backend = _backend(network)
    return [*(How(backend, "scan") for _ in network.blocks), How(backend)]


def _backend(network: Network) -> str:
    """The map that serves several networks at once."""
    return "matmul" if network.readout.linear.delay_type == "synaptic" else "depthwise"


def draw_masks(network: Network, batch: int) -> Tensor:
    """Dropout's masks of one network for a batch, drawn as its own pass would draw them.

    Returns:
        [B, N], N the neurons of all hidden layers.
    """
    blocks: list[Any] = list(network.blocks)
    like_BO = [block.linear.weight.new_empty(batch, len(block.linear.weight)) for block in blocks]
    masks = [dropout_mask(b.dropout, like) for b, like in zip(blocks, like_BO, strict=True)]
    return torch.cat(masks, 1)


def forward(networks: Sequence[Network], x_TBSI: Tensor, masks_BSN: Tensor) -> Tensor:
    """Class scores of every network.

    Args:
        networks: in training mode, with one sigma.
        x_TBSI: the batch of each.
        masks_BSN: dropout's.

    Returns:
        [B, S, K].
    """
    for network in networks:
        reset(stateful(network))
    layers: list[Any] = list(zip(*(network.blocks for network in networks), strict=True))
    widths = [len(blocks[0].linear.weight) for blocks in layers]
    for blocks, mask_BSO in zip(layers, masks_BSN.split(widths, 2), strict=True):
        y_TBSO = _linears([block.linear for block in blocks], x_TBSI)
        x_TBSI = _fire(blocks, y_TBSO, mask_BSO)
    y_TBSK = _linears([network.readout.linear for network in networks], x_TBSI)
    nodes: list[Any] = [network.readout.neuron for network in networks]
    cell = nodes[0].cell()
    rest = (0.0,) * cell.neuron.states
    out, _ = scan(y_TBSK.flatten(2), cell, rest, _own(nodes, y_TBSK))
    scores = SCORES[networks[0].readout.kind](out.view(len(out), -1, y_TBSK.shape[3]))
    return scores.unflatten(0, y_TBSK.shape[1:3])


def _linears(layers: Sequence[DelayedLinear], x_TBSI: Tensor) -> Tensor:
    first = layers[0]
    module = matmul_batched if first.delay_type == "synaptic" else depthwise
    synapses = [layer.synapses() for layer in layers]
    y_TBSO = module.delayed_linears(x_TBSI, synapses, first.extra_steps)
    if first.bias is None:
        return y_TBSO
    return y_TBSO + torch.stack([layer.bias for layer in layers if layer.bias is not None])


def _fire(blocks: Sequence[Any], y_TBSO: Tensor, mask_BSO: Tensor) -> Tensor:
    """Norm, neurons and dropout: as of one wide layer, since they know no other channel."""
    norm, nodes = blocks[0].norm, [block.neuron for block in blocks]
    spikes, mean, var, _ = norm_neuron(
        y_TBSO.flatten(2),
        torch.cat([block.norm.weight for block in blocks]),
        torch.cat([block.norm.bias for block in blocks]),
        mask_BSO.flatten(1),
        *_own(nodes, y_TBSO),
        eps=norm.eps,
        cell=nodes[0].cell(),
    )
    statistics = mean.view(len(blocks), -1), var.view(len(blocks), -1)
    for block, *moments in zip(blocks, *statistics, strict=True):
        block.norm.running.track(*moments, y_TBSO.shape[0] * y_TBSO.shape[1])
    return spikes.view(y_TBSO.shape)


def _own(nodes: Sequence[Any], like_TBSO: Tensor) -> list[Tensor]:
    """Each parameter of all networks' neurons, [S O]."""
    each = zip(*(node.own() for node in nodes), strict=True)
    return [torch.cat([p.expand(like_TBSO.shape[3]) for p in same]) for same in each]
