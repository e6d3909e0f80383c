"""A deployed network step by step in numpy: every other engine and every export is held to it.

Slow and short. All sums are added up in the order in which events arrive, and every operation
rounds to the network's arithmetic, as ``snn-delays evaluate backend=event`` does.

Shapes: T time, I inputs, O outputs, C kernel count, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.network import Deployed, Layer, Neurons, Recurrent

Array = NDArray[Any]


class LayerState:
    """A layer and its state after a step.

    Attributes:
        layer: the layer.
        current: the neurons' input y [O], behind bias, BatchNorm and recurrence.
        membrane: u [O], before the reset.
        spikes: [O] 0 or 1; u where the neurons have no threshold.
        output: what the next layer takes [O]: the spikes, or what a synaptic filter makes of them.
        rest: the membranes after the reset, [O].
    """

    def __init__(self, layer: Layer, network: Deployed) -> None:
        self.layer, self._dtype = layer, network.dtype
        self._coming = np.zeros((layer.taps, layer.outputs), self._dtype)
        zeros = np.zeros((5, layer.outputs), self._dtype)
        self.membrane, self.spikes, self.rest, self._w, self._filtered = zeros
        self.current = self.output = self.spikes
        depth = 0 if layer.recurrent is None else 1 + int(layer.recurrent.delay.max())
        self._returning = np.zeros((depth, layer.outputs), self._dtype)

    def step(self, x: Array) -> Array:
        """The output of this step, from the input [I]."""
        layer = self.layer
        y = self._sum(x.astype(self._dtype))
        y = y << layer.shift if layer.shift else y
        y = y if layer.bias is None else y + layer.bias
        y = y if layer.alpha is None or layer.beta is None else y * layer.alpha + layer.beta
        y = y if layer.recurrent is None else y + self._recurrent(layer.recurrent)
        self.current = y
        self._fire(y, layer.neurons)
        if layer.recurrent is not None:
            self._returning[layer.recurrent.delay, np.arange(layer.outputs)] += self.spikes
        self.output = self.spikes
        if layer.filter_leak is not None:
            leak = (1 - self.spikes) * self._filtered * layer.filter_leak
            self._filtered = self.output = self._filtered - leak + self.spikes
        return self.output

    def _sum(self, x: Array) -> Array:
        """Add every event's weights to the steps they arrive in, and take the sum of this step."""
        outputs = np.arange(self.layer.outputs)[:, None]
        for i in np.flatnonzero(x):
            weight = x[i] * self.layer.weight[:, i].astype(self._dtype)
            np.add.at(self._coming, (self.layer.delays[:, i], outputs), weight)
        return _take_first(self._coming)

    def _recurrent(self, recurrent: Recurrent) -> Array:
        current = np.zeros_like(self.rest)
        for i in np.flatnonzero(_take_first(self._returning)):
            current += recurrent.weight[:, i]
        return current

    def _fire(self, y: Array, neurons: Neurons) -> None:
        """Charge, fire and reset; see ``Neurons``."""
        r, w, p = self.rest, self._w, neurons.parameters
        if neurons.kind == "lif":
            u = r - r / p["tau"] + y
        elif neurons.kind == "plif":
            u = r - r * p["share"] + y
        elif neurons.kind == "integer":
            u = ((r.astype(np.int64) * p["keep"]) >> 16).astype(y.dtype) + y
        elif neurons.kind == "loihi":
            kept = (np.abs(r.astype(np.int64)) * p["keep"]) >> 16
            u = (np.sign(r) * kept).astype(y.dtype) + y
        else:
            u = p["al"] * r + (1 - p["al"]) * (y - w)
        self.membrane = self.spikes = self.rest = u
        if neurons.threshold is not None:
            s = self.spikes = (u >= neurons.threshold).astype(self._dtype)
            hard = neurons.reset == "hard"
            self.rest = np.where(s > 0, 0, u) if hard else u - neurons.threshold * s
        if "b" in p:
            m = self.rest if neurons.kind == "adaptive_after" else u
            self._w = p["be"] * w + (p["a"] * m + p["b"] * self.spikes)


def run(
    network: Deployed, frames: Array, watch: Callable[[int, int, LayerState], None] | None = None
) -> Array:
    """Scores [K] of a recording's frames [T, I], padded to the network's length.

    Args:
        network: the deployed network.
        frames: counts or energies.
        watch: called after every step of every layer with the number of the layer, that of the
            step, both from 0, and the layer's state.
    """
    ends, outputs = network.ends(len(frames)), []
    layers = [LayerState(layer, network) for layer in network.layers]
    for t in range(ends[-1]):
        x = frames[t] if t < len(frames) else np.zeros(layers[0].layer.inputs)
        for number, (state, end) in enumerate(zip(layers, ends, strict=True)):
            if t >= end:
                x = np.zeros_like(state.rest)
                continue
            x = state.step(x)
            if watch is not None:
                watch(number, t, state)
        outputs.append(x)
    return scores(network, np.stack(outputs))


def scores(network: Deployed, outputs: Array) -> Array:
    """From the readout's outputs of all steps, [S, K], to scores [K] in float64."""
    v = outputs.astype(np.float64) * network.layers[-1].output_unit
    if network.readout == "sum":
        e = np.exp(v - v.max(1, keepdims=True))
        return np.asarray((e / e.sum(1, keepdims=True)).sum(0))
    of: Any = {"mean": np.mean, "max": np.max, "spike_count": np.sum}.get(network.readout)
    return np.asarray(v[-1] if of is None else of(v, axis=0))


def _take_first(rows: Array) -> Array:
    """The first row; the others move up, and zeros come last."""
    first = rows[0].copy()
    rows[:-1] = rows[1:]
    rows[-1] = 0
    return first
