"""Neurons, as SpikingJelly nodes, so that its monitors and operation counters see them."""

from __future__ import annotations

from spikingjelly.activation_based import neuron, surrogate


def build_neuron(
    kind: str, *, tau: float, v_threshold: float, surrogate_alpha: float, store_membrane: bool
) -> neuron.BaseNode:
    """A leaky integrate-and-fire node over whole sequences [T, B, N].

    Charge ``v <- v + x - v / tau``, fire where ``v >= v_threshold``, hard reset to 0 with the
    reset path detached; surrogate ATan.

    Args:
        kind: "lif", or "plif" with a learned tau (Fang et al. 2021).
        tau: time constant in steps, above 1.
        v_threshold: firing threshold; infinity for a neuron that only integrates.
        surrogate_alpha: steepness of the surrogate gradient.
        store_membrane: keep the membrane of every step in ``v_seq``.
    """
    settings = {
        "decay_input": False,
        "v_threshold": v_threshold,
        "v_reset": 0.0,
        "surrogate_function": surrogate.ATan(alpha=surrogate_alpha),
        "detach_reset": True,
        "step_mode": "m",
        "store_v_seq": store_membrane,
    }
    if kind == "plif":
        return neuron.ParametricLIFNode(init_tau=tau, **settings)
    return neuron.LIFNode(tau=tau, **settings)
