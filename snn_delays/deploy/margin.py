"""How far membranes stay from their thresholds, against how far rounding can move them.

Two programs that add up the same floats in other orders get other last digits, and a membrane that
is nearer to its threshold than these may fire in one program alone. The certificate bounds the
difference (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1), with
``e = 2^-24`` in float32, for an input y that is a sum of n products with the sizes added up to A::

    y    moves by at most  g (|alpha| (A + |bias|) + |beta|),  g = (n + 4) e / (1 - (n + 4) e)
    u    moves by at most  |k| m + that + e (4 |r| + 4 |r| / tau + 2 |y| + 2 |u|),  k = 1 - 1 / tau

where the rest r has moved by m, and moves by 0 where a spike has reset it to 0. BatchNorm may be
folded into the weights, and k computed in advance. If every ``|u - threshold|`` is larger than its
bound, all programs fire the same spikes, step after step and layer after layer.

Shapes: S steps, I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_delays.deploy.network import Deployed, Layer
from snn_delays.ops.maps import event
from snn_delays.ops.taps import Synapses

Array = NDArray[Any]

SECOND_ORDER = 1.01  # covers products of errors, and this module's own rounding in float64


class Margin:
    """Collects the margins of recordings.

    Args:
        network: a network of floats.

    Attributes:
        reason: why it has no certificate; None: it has.
        samples: number of recordings.
        proven: number of them on which every membrane stays farther than its bound.
        near: number of neurons and steps that do not.
        steps: number of neurons and steps.
        smallest: the smallest ``|u - threshold|``.
        largest_bound: the largest bound.
    """

    def __init__(self, network: Deployed) -> None:
        self.reason = _reason(network)
        self.samples = self.proven = self.near = self.steps = 0
        self.smallest, self.largest_bound = np.inf, 0.0
        self._e = {"float32": 2.0**-24, "float64": 2.0**-53}.get(network.arithmetic, 0.0)
        self._network = network
        self._layers = [] if self.reason else [_Layer(n) for n in network.layers if n.neurons.fires]

    def add(self, frames: Array, outputs: list[Array]) -> None:
        """Count a recording.

        Args:
            frames: [T, I].
            outputs: what every layer gave, [S, O] each, as of ``Stream.record``.
        """
        before, x, ends = self.near, frames, self._network.ends(len(frames))
        for layer, end, s in zip(self._layers, ends, outputs, strict=False):
            above, bound = layer.distances(x[:end].astype(float), s[:end].astype(float), self._e)
            distance = np.abs(above)
            self.near += int(np.sum(distance <= bound))
            self.steps += distance.size
            self.smallest = min(self.smallest, float(distance.min()))
            self.largest_bound = max(self.largest_bound, float(bound.max()))
            x = s[:end]
        self.samples += 1
        self.proven += self.near == before

    def report(self) -> dict[str, Any]:
        """What verify.json says of it."""
        if self.reason:
            return {"meaning": self.reason}
        return {
            "smallest_distance_to_threshold": self.smallest,
            "largest_bound_of_rounding": self.largest_bound,
            "neuron_steps": self.steps,
            "neuron_steps_within_their_bound": self.near,
            "samples_proven": self.proven,
            "meaning": self._meaning(),
        }

    def _meaning(self) -> str:
        rest = self.samples - self.proven
        others = (
            f" On the other {rest:,} a membrane comes nearer to its threshold than the bound of"
            " rounding, so equal spikes are measured there, not proven."
        )
        return (
            f"On {self.proven:,} of {self.samples:,} recordings it is proven that every program"
            f" that adds up the events' weights in {self._network.arithmetic}, in any order, fires"
            f" the same spikes.{others if rest else ''} Nothing is proven of scores, of other"
            " recordings, or of sums by Fourier transforms."
        )


def _reason(network: Deployed) -> str | None:
    if network.is_integer:
        return (
            "Sums of integers are exact in any order, so every program that computes the network's"
            " integers fires the same spikes on every recording: no margin is needed."
        )
    for layer in network.layers:
        known = layer.neurons.kind in ("lif", "plif") or not layer.neurons.fires
        if not known or layer.recurrent is not None or layer.filter_leak is not None:
            return (
                "Nothing is proven: the bound of rounding is known for lif and plif neurons without"
                " recurrent connections and synaptic filters alone. Equal spikes are measured."
            )
    return None


class _Layer:
    """A layer in float64, whose spikes are known."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        weight = torch.from_numpy(layer.weight.astype(np.float64))
        delay = torch.from_numpy(layer.delay.astype(np.float64))
        self._maps = [
            Synapses(w, delay, layer.taps) for w in (weight, weight.abs(), (weight != 0).double())
        ]
        p = layer.neurons.parameters
        share = 1 / p["tau"].astype(float) if "tau" in p else p["share"].astype(float)
        self._share = np.broadcast_to(share, layer.outputs)

    def distances(self, x: Array, s: Array, e: float) -> tuple[Array, Array]:
        """``u - threshold`` and the bound of its rounding, [S, O] each.

        Args:
            x: input [T, I], with no later steps than s has.
            s: spikes [S, O].
            e: half the distance from 1 to the next number of the arithmetic.
        """
        y, moved = self._input(x, len(s), e)
        theta = np.asarray(self._layer.neurons.threshold, float)
        u, bound = np.empty_like(y), np.empty_like(y)
        r = m = np.zeros(y.shape[1])
        for t in range(len(s)):
            u[t] = r - r * self._share + y[t]
            sizes = 4 * np.abs(r) * (1 + self._share) + 2 * (np.abs(y[t]) + np.abs(u[t]))
            bound[t] = np.abs(1 - self._share) * m + moved[t] + e * sizes
            r, m = self._reset(u[t], bound[t], s[t], theta, e)
        return u - theta, SECOND_ORDER * bound

    def _reset(self, u: Array, bound: Array, s: Array, theta: Array, e: float) -> Any:
        if self._layer.neurons.reset == "hard":
            return u * (1 - s), bound * (1 - s)
        return u - theta * s, bound + e * np.abs(u - theta) * s

    def _input(self, x: Array, steps: int, e: float) -> tuple[Array, Array]:
        """y [S, O] behind BatchNorm, and how far rounding can move it."""
        layer = self._layer
        y, size, number = (
            self._sum(values, synapses, steps)
            for values, synapses in zip((x, np.abs(x), x != 0), self._maps, strict=True)
        )
        bias, alpha, beta = (
            default if values is None else values.astype(float)
            for values, default in ((layer.bias, 0.0), (layer.alpha, 1.0), (layer.beta, 0.0))
        )
        g = (number + 4) * e / (1 - (number + 4) * e)
        moved = g * (np.abs(alpha) * (size + np.abs(bias)) + np.abs(beta))
        return (y + bias) * alpha + beta, moved

    def _sum(self, x: Array, synapses: Synapses, steps: int) -> Array:
        """The delayed linear map in so many steps."""
        padded: Tensor = torch.zeros(steps, 1, x.shape[1], dtype=torch.float64)
        padded[: len(x), 0] = torch.from_numpy(x.astype(float))
        return event.delayed_linear(padded, synapses, 0)[:, 0].numpy()
