"""Penalties that training adds to the loss: on firing rates, and on the length of delays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snn_delays.config import TrainConfig
from snn_delays.nn import Network


def penalty_names(train: TrainConfig) -> list[str]:
    """The options of penalties that are on, in the order of ``penalties``."""
    return [name for name in ("rate_penalty", "delay_penalty") if getattr(train, name)]


def penalties(network: Network, train: TrainConfig) -> list[Tensor]:
    """Each penalty times its factor, after a pass in training mode.

    Each is a mean over the pass's samples, or does not depend on them. The weighted mean over the
    parts of a batch is therefore that of the whole batch.
    """
    found = []
    if train.rate_penalty:
        found.append(train.rate_penalty * rate_excess(network, train.rate_limit))
    if train.delay_penalty:
        found.append(train.delay_penalty * mean_delay(network))
    return found


def rate_excess(network: Network, limit: float) -> Tensor:
    """The mean of max(0, r - limit)^2 over samples and hidden neurons of all layers.

    r is the neuron's firing rate in the sample, in spikes per step, before dropout. Silence that
    pads a sample and the layers' extra steps count as steps.
    """
    blocks: list[Any] = list(network.blocks)
    rates_BN = torch.cat([block.take_rates() for block in blocks], 1)
    return (rates_BN - limit).clamp(min=0).square().mean()


def mean_delay(network: Network) -> Tensor:
    """The mean of all learned delays that a synapse has, recurrent ones included, in steps.

    Frozen delays have no gradient.
    """
    every: list[Any] = [*network.delayed_layers(), *network.recurrences()]
    parts = [part for part in every if part.delays == "learned"]
    delays = [part.delay.detach() if part.frozen else part.delay for part in parts]
    exist = [part.delay_exists for part in parts]
    total = sum((delay * e).sum() for delay, e in zip(delays, exist, strict=True))
    return total / sum(e.sum() for e in exist)
