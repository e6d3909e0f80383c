"""Checks of a training network: losses and gradients that are not finite, silent layers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn_delays.data.loaders import Samples
from snn_delays.files import replace_file
from snn_delays.nn import Network

SATURATED = 0.9  # a neuron is saturated if it fires in a larger share of the steps
REPORTED = 0.5  # share of dead or saturated neurons from which on a layer is reported


class NonFinite(Exception):
    """A loss or gradient that is infinite or NaN.

    Args:
        loss: the loss.
        batch: number of its batch, from 0.
        indices: indices of the batch's samples, [B].
    """

    def __init__(self, loss: float, batch: int, indices: NDArray[np.int64]) -> None:
        super().__init__()
        self.loss, self.batch, self.indices = loss, batch, indices

    @property
    def what(self) -> str:
        """The start of a sentence: whether the loss or a gradient is not finite."""
        finite = torch.tensor(self.loss).isfinite()
        return "A gradient became infinite or NaN" if finite else f"The loss became {self.loss}"

    def note(self, path: Path, samples: Samples, epoch: int) -> None:
        """Write the batch's samples to a file.

        Args:
            path: file to write.
            samples: the samples that the indices refer to.
            epoch: from 1.
        """
        rows = samples.rows[self.indices]
        held = [{"file": str(samples.stores[s].source), "sample": int(i)} for s, i in rows]
        content = {"epoch": epoch, "batch": self.batch + 1, "loss": str(self.loss)}
        replace_file(path, json.dumps({**content, "samples": held}, indent=1).encode())


def are_finite(network: nn.Module, loss: Tensor) -> Tensor:
    """Whether the loss and every gradient are finite, a scalar on the device.

    The largest magnitude of each tensor says it, infinity or NaN where one of its numbers is that.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    largest = torch.stack(torch._foreach_norm([loss, *gradients], math.inf))
    return largest.amax() < math.inf


@torch.no_grad()
def layer_activity(network: Network, x_TBI: Tensor) -> dict[str, float]:
    """Firing rates of the deployed network's hidden layers on a batch; changes nothing.

    Args:
        network: the network.
        x_TBI: a batch.

    Returns:
        For each layer n from 1: ``rate_<n>``, spikes per neuron and step; ``dead_<n>``, share of
        its neurons that never fire; ``saturated_<n>``, share that fire in more than ``SATURATED``
        of the steps.
    """
    rates: list[Tensor] = []

    def look(module: nn.Module, inputs: Any, spikes_TBO: Tensor) -> None:
        rates.append(spikes_TBO.mean((0, 1)))

    was_training = network.training
    network.eval()
    blocks: list[Any] = list(network.blocks)
    hooks = [block.neuron.register_forward_hook(look) for block in blocks]
    try:
        network(x_TBI)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)
    found = {}
    for number, rate_O in enumerate(rates, 1):
        found[f"rate_{number}"] = rate_O.mean().item()
        found[f"dead_{number}"] = (rate_O == 0).float().mean().item()
        found[f"saturated_{number}"] = (rate_O > SATURATED).float().mean().item()
    return found


def describe_activity(metrics: dict[str, Any]) -> str:
    """A text that names layers with at least half their neurons dead or saturated; "" if none."""
    told = [
        f"layer {name.rpartition('_')[2]} {value:.0%} {kind}"
        for kind in ("dead", "saturated")
        for name, value in metrics.items()
        if name.startswith(f"{kind}_") and value >= REPORTED
    ]
    return ", ".join(told)
