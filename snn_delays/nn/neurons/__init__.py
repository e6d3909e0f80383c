"""Neurons, as SpikingJelly nodes, so that its monitors and operation counters see them.

A file each; ``ops.neurons`` holds the arithmetic of their steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from snn_delays.config import ModelConfig
from snn_delays.config.neurons import NEURONS
from snn_delays.config.options import check_options
from snn_delays.nn.neurons.adaptive import AdaptiveNode, LeakyReadoutNode, LearnedNode
from snn_delays.nn.neurons.adlif import AdLIFNode
from snn_delays.nn.neurons.cadlif import CAdLIFNode
from snn_delays.nn.neurons.cadlif import draw_weight as xavier
from snn_delays.nn.neurons.lif import LIFNode
from snn_delays.nn.neurons.node import ScannedNode
from snn_delays.nn.neurons.plif import ParametricLIFNode
from snn_delays.nn.neurons.se_adlif import SEAdLIFNode
from snn_delays.nn.neurons.se_adlif import draw_weight as uniform
from snn_delays.nn.neurons.silif import SiLIFNode
from snn_delays.nn.surrogates import build_surrogate

__all__ = [
    "ADAPTIVE_NODES",
    "WEIGHT_DRAWS",
    "AdLIFNode",
    "AdaptiveNode",
    "CAdLIFNode",
    "LIFNode",
    "LeakyReadoutNode",
    "LearnedNode",
    "ParametricLIFNode",
    "SEAdLIFNode",
    "ScannedNode",
    "SiLIFNode",
    "build_neuron",
]

ADAPTIVE_NODES: dict[str, type[AdaptiveNode]] = {
    "adlif": AdLIFNode,
    "cadlif": CAdLIFNode,
    "silif": SiLIFNode,
    "se_adlif": SEAdLIFNode,
}
# How the weights of delayed linear maps are drawn, where not as ``DelayedLinear`` draws them.
WEIGHT_DRAWS: dict[str, Callable[[Tensor], None]] = {
    "cadlif": xavier,
    "silif": xavier,
    "se_adlif": uniform,
}


def build_neuron(
    kind: str,
    *,
    tau: float,
    v_threshold: float,
    surrogate_alpha: float,
    store_membrane: bool,
    size: int | None = None,
    step_ms: float = 10.0,
    reset: str = "auto",
    detach_reset: bool | None = None,
    surrogate: str = "auto",
    tau_scope: str = "auto",
) -> neuron.BaseNode:
    """A spiking node over whole sequences [T, B, N], which fires where ``v >= v_threshold``.

    LIF: charge ``v <- v + x - v / tau``. The others: their files in ``nn.neurons``.

    Args:
        kind: a key of ``NEURONS``: "lif"; "plif" with a learned tau (Fang et al. 2021); an
            adaptive neuron, whose time constants are its own.
        tau: time constant of a LIF or PLIF neuron in steps, above 1.
        v_threshold: firing threshold; infinity for a neuron that only integrates, which an
            adaptive kind does with a learned decay of every neuron.
        surrogate_alpha: steepness of the surrogate gradient.
        store_membrane: keep the membrane of every step in ``v_seq``.
        size: number of neurons N, where each has parameters.
        step_ms: length of a time step, for time constants in ms.
        reset: "hard" (to 0) or "soft" (by the threshold); "auto" here and below: the kind's own.
        detach_reset: whether no gradient passes through the reset; None: the kind's own.
        surrogate: "atan", "triangle", "boxcar" or "exponential".
        tau_scope: a learned time constant for the "layer" or for each "neuron".

    Raises:
        ValueError: a value that cannot be.
    """
    check_options(ModelConfig, neuron=kind, reset=reset, surrogate=surrogate, tau_scope=tau_scope)
    preset = NEURONS[kind].chosen(
        reset=reset, detach_reset=detach_reset, surrogate=surrogate, tau_scope=tau_scope
    )
    if not (preset.adaptive or tau > 1):
        raise ValueError(f"tau={tau:g} must be above 1 step.")
    if size is None and (preset.adaptive or preset.tau_scope == "neuron"):
        raise ValueError(f"neuron={kind} with parameters of every neuron needs size.")
    settings: dict[str, Any] = {
        "v_threshold": float(v_threshold),
        "v_reset": 0.0 if preset.reset == "hard" else None,
        "surrogate_function": build_surrogate(preset.surrogate, surrogate_alpha),
        "detach_reset": preset.detach_reset,
        "step_mode": "m",
        "store_v_seq": store_membrane,
    }
    if preset.adaptive:
        settings |= {"size": size, "tau_scope": preset.tau_scope}
        if v_threshold == math.inf:
            return LeakyReadoutNode(**settings)
        if kind == "se_adlif":
            settings["step_ms"] = step_ms
        return ADAPTIVE_NODES[kind](**settings)
    if kind == "lif":
        return LIFNode(tau=float(tau), decay_input=False, **settings)
    node = ParametricLIFNode(init_tau=float(tau), decay_input=False, **settings)
    if preset.tau_scope == "neuron":
        node.w = nn.Parameter(node.w.detach().expand(size).clone())
    return node
