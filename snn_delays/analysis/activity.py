"""What a deployed network does with samples: spikes and membranes of every layer.

Shapes: T time steps (each layer lengthens the sequence), B batch, N neurons, I inputs, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snn_delays.nn import Network


@dataclass(frozen=True)
class Activity:
    """A recording of a whole network, on its device.

    Attributes:
        input: what came in, [T, B, I].
        spikes: of each hidden layer, [T, B, N].
        membranes: of each hidden layer after the reset, [T, B, N]; NaN where a user's own neurons
            do not store them, as SpikingJelly's do with ``store_v_seq``.
        readout: membrane of the readout, [T, B, K].
        scores: of the classes, [B, K].
    """

    input: Tensor
    spikes: list[Tensor]
    membranes: list[Tensor]
    readout: Tensor
    scores: Tensor

    @property
    def predictions(self) -> Tensor:
        """Most likely class, [B]."""
        return self.scores.argmax(1)

    def until(self, steps: int) -> Activity:
        """The first steps of it; scores stay those of all steps."""
        spikes, membranes = ([x[:steps] for x in part] for part in (self.spikes, self.membranes))
        return Activity(self.input[:steps], spikes, membranes, self.readout[:steps], self.scores)


@torch.no_grad()
def record(network: Network, x_TBI: Tensor) -> Activity:
    """Run the deployed network on a batch and keep all that its neurons do.

    Args:
        network: left as it was.
        x_TBI: the batch.
    """
    nodes: list[Any] = [*(block.neuron for block in network.blocks), network.readout.neuron]
    spikes: list[Tensor] = []
    hooks = [node.register_forward_hook(lambda *call: spikes.append(call[2])) for node in nodes]
    try:
        with _evaluating(network), _stored_membranes(nodes):
            scores = network(x_TBI)
            membranes = [
                node.v_seq if hasattr(node, "store_v_seq") else torch.full_like(out, torch.nan)
                for node, out in zip(nodes, spikes, strict=True)
            ]
    finally:
        for hook in hooks:
            hook.remove()
    return Activity(x_TBI, spikes[:-1], membranes[:-1], membranes[-1], scores)


def rates(spikes_TBN: Tensor) -> Tensor:
    """Spikes per step of each neuron, [N]."""
    return spikes_TBN.mean((0, 1))


@contextmanager
def _evaluating(network: Network) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


@contextmanager
def _stored_membranes(nodes: list[Any]) -> Iterator[None]:
    nodes = [node for node in nodes if hasattr(node, "store_v_seq")]
    stored = [node.store_v_seq for node in nodes]
    try:
        for node in nodes:
            node.store_v_seq = True
        yield
    finally:
        for node, was in zip(nodes, stored, strict=True):
            node.store_v_seq = was
