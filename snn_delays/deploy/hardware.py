"""Whether neuromorphic hardware can hold a deployed network, by the limits of ``limits.yaml``.

Nothing here ran on a chip: limits are those of its makers' software and papers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.network import Deployed, Layer
from snn_delays.deploy.quantise import largest_membrane
from snn_delays.deploy.stream import Stream
from snn_delays.documents import read_yaml

LIMITS = Path(__file__).with_name("limits.yaml")


@dataclass(frozen=True)
class Limit:
    """A limit of a chip, or of the software that maps networks to it.

    Attributes:
        what: key of ``MEASURES``.
        most: the greatest value that fits; None: it is not known.
        source: where the limit is stated.
        date: when this limit was written down; makers change their limits.
        rounds: whether the chip's roundings lower the value.
        change: what else to change where it is exceeded, before training again; "": nothing helps.
        of: kind of front end of the networks that can change this; "": any.
    """

    what: str
    most: int | None
    source: str
    date: str
    rounds: bool = False
    change: str = ""
    of: str = ""


@dataclass(frozen=True)
class Hardware:
    """A chip.

    Attributes:
        name: the chip.
        fit: arguments of ``from_run`` whose roundings the chip needs.
        limits: in the order of the file.
    """

    name: str
    fit: dict[str, Any]
    limits: tuple[Limit, ...]

    @property
    def options(self) -> str:
        """The roundings, as options of the command."""
        return " ".join(f"{name}={value}" for name, value in self.fit.items())


@dataclass(frozen=True)
class Finding:
    """A limit, and the network's value.

    Attributes:
        limit: the limit.
        value: the network's value.
        advice: what lowers the value, for this network.
    """

    limit: Limit
    value: int
    advice: str

    @property
    def excess(self) -> int:
        """By how much the value is too large; 0 or less where it fits, or no limit is known."""
        return 0 if self.limit.most is None else self.value - self.limit.most

    def __str__(self) -> str:
        limit = self.limit
        most = "unknown" if limit.most is None else f"{limit.most:,}"
        words = f"{limit.what.replace('_', ' '):20} {self.value:>11,} of {most:>11}"
        stated = f"{limit.source}; as of {limit.date}"
        if limit.most is None:
            return f"{words}  ({stated})"
        if self.excess <= 0:
            return words
        return f"{words}  {self.excess:,} too many: {self.advice} ({stated})"


def hardware(target: str) -> Hardware:
    """The chip of this name in ``limits.yaml``."""
    values = read_yaml(LIMITS)[target]
    limits = (Limit(**{**limit, "date": str(limit["date"])}) for limit in values["limits"])
    return Hardware(values["name"], values["fit"], (*limits,))


def check(
    network: Deployed,
    chip: Hardware,
    recordings: Iterable[NDArray[Any]],
    *,
    can_round: bool = True,
) -> list[Finding]:
    """Every limit of a chip with the network's value.

    Args:
        network: the deployed network.
        chip: the chip.
        recordings: frames [T, I], which are read one by one. The bound of the first layer's
            membranes holds for these; ``largest_membrane`` bounds them for all frames that there
            can be.
        can_round: whether the network can be made with the chip's roundings, which are the advice
            then.
    """
    peak = peak_of_membranes(network, recordings) if network.is_integer else 0
    return [
        Finding(
            limit,
            int(MEASURES[limit.what](network, peak)),
            _advice(limit, network, chip.options if can_round else ""),
        )
        for limit in chip.limits
    ]


def _advice(limit: Limit, network: Deployed, roundings: str) -> str:
    ways = [roundings] if limit.rounds and roundings else []
    if limit.change and limit.of in ("", network.front.kind):
        ways.append(f"{limit.change} and train again")
    return "; where that is not enough, ".join(ways) or "no option helps this network"


def peak_of_membranes(network: Deployed, recordings: Iterable[NDArray[Any]]) -> int:
    """Bound of the membranes' size in all layers, for these recordings.

    The first layer's is the size that its membranes would reach if all its weights and biases were
    negative and none fired. What the leak keeps is rounded downward, or toward zero: it is largest
    for the most negative membrane.
    """
    first, *others = network.layers
    bias = None if first.bias is None else -np.abs(first.bias)
    neurons = replace(first.neurons, threshold=None)
    lowest = replace(first, weight=-np.abs(first.weight), bias=bias, neurons=neurons, unit=None)
    alone = replace(network, layers=(lowest,), classes=("",) * first.outputs, readout="last")
    stream, peak = Stream(replace(alone, steps=1)), 0
    for frames in recordings:
        _, (membranes,) = stream.record(frames)
        peak = max(peak, -int(membranes.min()))
    return int(max([peak, *(largest_membrane(layer, 1).max() for layer in others)]))


def _bits(size: Any) -> int:
    """Bits of a whole number of this size, with its sign."""
    return int(size).bit_length() + 1


def _weight_bits(network: Deployed, peak: int) -> int:
    if not network.is_integer:
        return 8 * network.dtype.itemsize
    return max(_bits(np.abs(_significant(layer)).max()) for layer in network.layers)


def _significant(layer: Layer) -> NDArray[Any]:
    """Weights without the lowest bit that Loihi's weights of both signs do not have."""
    return layer.weight >> 1 if layer.neurons.kind == "loihi" else layer.weight


def _units(network: Deployed, peak: int) -> int:
    units = [layer.alpha if layer.unit is None else layer.unit for layer in network.layers]
    return max(1 if unit is None else len(np.unique(unit)) for unit in units)


def _threshold_bits(network: Deployed, peak: int) -> int:
    if not network.is_integer:
        return 8 * network.dtype.itemsize
    given = [(layer.neurons.threshold, layer.shift) for layer in network.layers]
    sizes = [int(np.max(theta)) >> shift for theta, shift in given if theta is not None]
    return max((size.bit_length() for size in sizes), default=0)


def _synapses(layer: Layer) -> int:
    return int(np.count_nonzero(layer.weight))


def _of_layers(measure: Callable[[Layer], int]) -> Callable[[Deployed, int], int]:
    return lambda network, peak: max(measure(layer) for layer in network.layers)


def _memory_bytes(network: Deployed, peak: int) -> int:
    """Weights, a byte for each delay, and the sums of the steps to come."""
    return sum(
        layer.weight.nbytes + layer.delay.size + layer.taps * layer.outputs * network.dtype.itemsize
        for layer in network.layers
    )


# From a network and the bound of its membranes, to the value that a limit is of.
MEASURES: dict[str, Callable[[Deployed, int], int]] = {
    "weight_bits": _weight_bits,
    "units": _units,
    "threshold_bits": _threshold_bits,
    "membrane_bits": lambda network, peak: _bits(peak) if network.is_integer else 32,
    "longest_delay": _of_layers(lambda layer: int(layer.delay.max())),
    "channels": lambda network, peak: network.layers[0].inputs,
    "classes": lambda network, peak: len(network.classes),
    "hidden_neurons": lambda network, peak: sum(layer.outputs for layer in network.layers[:-1]),
    "layer_neurons": _of_layers(lambda layer: layer.outputs),
    "layer_inputs": _of_layers(lambda layer: layer.inputs),
    "layer_synapse_bits": lambda network, peak: (
        max(map(_synapses, network.layers)) * _weight_bits(network, peak)
    ),
    "fan_out": _of_layers(lambda layer: int(np.count_nonzero(layer.weight, (0, 2)).max())),
    "memory_bytes": _memory_bytes,
}
