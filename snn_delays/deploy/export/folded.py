"""A deployed network in the few parts that simulators have, and why one may not hold it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.network import Deployed, Layer, Neurons

ADAPTIVE = ("adaptive", "adaptive_after")


def fold(network: Deployed) -> Deployed:
    """The same network in float64, with fewer parts.

    BatchNorm is folded into weights and bias. Neurons are "plif" or adaptive: "lif" becomes
    ``share = 1 / tau``; "leaky" becomes ``share = 1 - al``, and its factor ``1 - al`` of the input
    goes into weights and bias. Every layer has a bias, parameters and thresholds are [O].
    """
    return replace(wide(network), layers=tuple(_fold(layer) for layer in wide(network).layers))


def wide(network: Deployed) -> Deployed:
    """The network in float64, unless it is already."""
    return network if network.arithmetic == "float64" else network.widened()


def _fold(layer: Layer) -> Layer:
    neurons, gain = _neurons(layer.neurons, layer.outputs)
    bias = np.zeros(layer.outputs) if layer.bias is None else layer.bias
    factor = np.ones(layer.outputs)
    if layer.alpha is not None and layer.beta is not None:
        bias, factor = layer.alpha * bias + layer.beta, layer.alpha
    recurrent = layer.recurrent and replace(
        layer.recurrent, weight=gain[:, None] * layer.recurrent.weight
    )
    return replace(
        layer,
        weight=(gain * factor)[:, None, None] * layer.weight,
        bias=gain * bias,
        alpha=None,
        beta=None,
        neurons=neurons,
        recurrent=recurrent,
    )


def _neurons(neurons: Neurons, outputs: int) -> tuple[Neurons, NDArray[Any]]:
    """The neurons with parameters [O], and the factor [O] by which their input grows."""
    p = {name: np.full(outputs, value) for name, value in neurons.parameters.items()}
    theta = neurons.threshold
    neurons = replace(neurons, threshold=None if theta is None else np.full(outputs, theta))
    gain = np.ones(outputs)
    if neurons.kind in ADAPTIVE:
        return replace(neurons, parameters=p), gain
    if neurons.kind == "lif":
        p = {"share": 1 / p["tau"]}
    elif neurons.kind == "leaky":
        gain = 1 - p["al"]
        p = {"share": gain}
    return replace(neurons, kind="plif", parameters=p), gain


def refusal(
    network: Deployed,
    *,
    real: bool = True,
    soft: bool = True,
    adaptive: bool = True,
) -> str | None:
    """Why a target cannot hold a network, in one sentence; None: it can.

    Args:
        network: the deployed network.
        real: whether the target takes inputs that are no counts.
        soft: whether it has the reset that subtracts the threshold.
        adaptive: whether it has neurons with a second state.
    """
    layers = network.layers
    kinds = {layer.neurons.kind for layer in layers}
    firing = [layer.neurons for layer in layers if layer.neurons.fires]
    reasons = {
        "its numbers are integers": network.is_integer,
        "its input is sound energies, not counts of spikes": (
            not real and network.front.kind != "spikes"
        ),
        "it has a synaptic filter (model.filter_tau_ms)": any(
            layer.filter_leak is not None for layer in layers
        ),
        "a spike subtracts the threshold (model.reset=soft)": (
            not soft and any(neurons.reset == "soft" for neurons in firing)
        ),
        "it has adaptive neurons (model.neuron)": not adaptive and bool(kinds & {*ADAPTIVE}),
    }
    return next((f"{reason}." for reason, is_so in reasons.items() if is_so), None)
