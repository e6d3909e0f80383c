"""The network in a file ``network.h5``, as simulators take it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


@dataclass
class Layer:
    """A layer of O neurons; I inputs, C kernels.

    Attributes:
        weight: [O, I, C].
        delay: in steps, [O, I, C].
        bias: [O], added in every step.
        kind: "plif": ``u = r - r share + y``; "adaptive", "adaptive_after": see ``numbers``;
            "loihi": integers, ``u = sign(r) ((|r| keep) >> 16) + y``, where y is 64 times the sum
            of the weights, and the bias.
        numbers: of the neurons, [O] each: share; keep; or al, be, a, b with
            ``u = al r + (1 - al) (y - w)``, then ``w = be w + (a u + b spike)``, where
            adaptive_after takes r after the reset for u in the second equation.
        threshold: they fire where ``u >= threshold``, [O]; infinity: never.
        soft: whether a spike subtracts the threshold from u, in place of setting it to 0.
        extra_steps: the layer ends so many steps after the layer before it.
        recurrent: weight [O, O], from the second to the first, and delay [O]: a spike arrives
            ``1 + delay`` steps later; None: none.
        unit: what a 1 of an integer membrane stands for, [O]; 1 for floats.
    """

    weight: NDArray[Any]
    delay: NDArray[Any]
    bias: NDArray[Any]
    kind: str
    numbers: dict[str, NDArray[Any]]
    threshold: NDArray[Any]
    soft: bool
    extra_steps: int
    recurrent: tuple[NDArray[Any], NDArray[Any]] | None
    unit: NDArray[Any]

    @property
    def fires(self) -> bool:
        """Whether the neurons have a threshold."""
        return bool(np.isfinite(self.threshold).all())

    def synapses(self) -> tuple[NDArray[Any], ...]:
        """Input, neuron, weight and delay of every synapse, [N] each."""
        o, i, c = np.nonzero(self.weight)
        return i, o, self.weight[o, i, c], self.delay[o, i, c]

    def recurrent_synapses(self) -> tuple[NDArray[Any], ...]:
        """From, to, weight and delay, [N] each; a spike arrives ``1 + delay`` steps later."""
        weight, delay = self.recurrent or (np.zeros((0, 0)), np.zeros(0, int))
        o, i = np.nonzero(weight)
        return i, o, weight[o, i], delay[i]


@dataclass
class Network:
    """Layers, and how their last one's outputs become scores."""

    layers: list[Layer]
    readout: str
    steps: int
    classes: list[str]

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return int(self.layers[0].weight.shape[1])

    def ends(self, frames: int) -> list[int]:
        """Number of steps of each layer, for so many frames."""
        extra = itertools.accumulate(layer.extra_steps for layer in self.layers)
        return [max(frames, self.steps) + more for more in extra]

    def changes(self, frames: int) -> list[tuple[int, bool, int]]:
        """When layers begin and end: step, whether it begins, number of the layer.

        A simulator hands a spike over at the end of a step, so that layer l runs l + 1 steps late.
        """
        begin = [(number + 1, True, number) for number in range(len(self.layers))]
        end = [(end + n + 1, False, n) for n, end in enumerate(self.ends(frames))]
        return sorted(begin + end)


def read(folder: Path) -> Network:
    """The network in a folder."""
    with h5py.File(folder / "network.h5", "r") as file:
        told = json.loads(file.attrs["network"])
        layers = [_layer(file[f"layers/{n}"], rest) for n, rest in enumerate(told["layers"])]
    return Network(layers, told["readout"], told["steps"], told["classes"])


def _layer(group: Any, told: dict[str, Any]) -> Layer:
    arrays: dict[str, NDArray[Any]] = {}
    group.visititems(lambda n, d: arrays.update({n: d[()]} if isinstance(d, h5py.Dataset) else {}))
    weight, numbers = arrays["weight"], group["neurons/parameters"]
    recurrent = arrays.get("recurrent/weight"), arrays.get("recurrent/delay")
    return Layer(
        weight,
        np.broadcast_to(arrays["delay"], weight.shape),
        arrays["bias"],
        told["neurons"]["kind"],
        {name: numbers[name][()] for name in numbers},
        arrays.get("neurons/threshold", np.full(len(weight), np.inf)),
        told["neurons"]["reset"] == "soft",
        told["extra_steps"],
        None if recurrent[0] is None or recurrent[1] is None else recurrent,  # type: ignore[arg-type]
        arrays.get("unit", np.ones(len(weight))),
    )
