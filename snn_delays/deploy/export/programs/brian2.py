"""Runs a spiking network with a delay on every synapse in Brian2 2.9 (pip install brian2 h5py).

Brian2 2.9 needs ``numpy<2.4``. A step is 1 ms of Brian2, by its update rule, not its solvers.
A count of spikes enters by its binary digits, a source for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import brian2
import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.export.programs.common import main, scores
from snn_delays.deploy.export.programs.network_file import Layer, read

STEP = 1 * brian2.ms
CHARGE = {
    "plif": "v = v - v * share + y",
    "adaptive": "v = al * v + (1 - al) * (y - w)",
    "adaptive_after": "v = al * v + (1 - al) * (y - w)",
}
# after the reset, when v holds r, and u what it was before
ADAPT = {
    "adaptive": "w = be * w + (a * u + b * fired)",
    "adaptive_after": "w = be * w + (a * v + b * fired)",
}


class Brian2:
    """The network in a folder."""

    def __init__(self, folder: Path) -> None:
        self.network = read(folder)
        self.classes = self.network.classes
        brian2.prefs.codegen.target = "numpy"
        brian2.defaultclock.dt = STEP

    def run(self, samples: list[NDArray[Any]]) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
        """Scores and every layer's output."""
        counts = [frames.astype(int) for frames in samples]
        self._build(max(1, int(max(frames.max() for frames in counts)).bit_length()))
        for frames in counts:
            outputs = self._outputs(frames)
            yield scores(self.network.readout, outputs[-1]), outputs

    def _build(self, digits: int) -> None:
        first = self.network.layers[0]
        self.digits = digits
        self.input = brian2.SpikeGeneratorGroup(
            first.weight.shape[1] * digits, [], [] * brian2.ms, name="frames"
        )
        self.groups, self.monitors, parts = [], [], [self.input]
        source = self.input
        for number, layer in enumerate(self.network.layers):
            group = _neurons(layer, number)
            i, o, weight, delay = layer.synapses()
            if number == 0:
                i, o, weight, delay = _by_digit(i, o, weight, delay, digits)
            parts += _connect(source, group, i, o, weight, delay)
            parts += _connect(group, group, *layer.recurrent_synapses())
            self.groups.append(group)
            self.monitors.append(_monitor(layer, group))
            source = group
        self.simulation = brian2.Network(*parts, *self.groups, *self.monitors)
        self.simulation.store()

    def _outputs(self, frames: NDArray[Any]) -> list[NDArray[Any]]:
        self.simulation.restore()
        t, channel, digit = np.nonzero((frames[:, :, None] >> np.arange(self.digits)) & 1)
        self.input.set_spikes(channel * self.digits + digit, t * STEP)
        now = 0
        for step, begins, number in self.network.changes(len(frames)):
            if step > now:
                self.simulation.run((step - now) * STEP, namespace={})
                now = step
            if begins:
                self.groups[number].bias = self.network.layers[number].bias
            else:
                self.groups[number].theta = np.inf
        ends = self.network.ends(len(frames))
        return [self._record(n, ends[-1], end) for n, end in enumerate(ends)]

    def _record(self, number: int, total: int, end: int) -> NDArray[Any]:
        """Spikes or membranes [S, O] of a layer, whose step t is Brian2's t + 1 + number."""
        monitor, group = self.monitors[number], self.groups[number]
        made = np.zeros((total, len(group)))
        if not self.network.layers[number].fires:
            made[:end] = np.array(monitor.v).T[number + 1 :][:end]
            return made
        step = np.round(np.array(monitor.t / STEP)).astype(int) - 1 - number
        kept = (step >= 0) & (step < end)
        made[step[kept], np.array(monitor.i)[kept]] = 1
        return made


def _neurons(layer: Layer, number: int) -> Any:
    """Neurons whose ``y`` gathers weights of spikes until the next step."""
    names = ["v", "u", "w", "y", "bias", "theta", "fired", *layer.numbers]
    group = brian2.NeuronGroup(
        len(layer.bias),
        "\n".join(f"{name} : 1" for name in names),
        threshold="v >= theta",
        reset="v = v - theta\nfired = 1" if layer.soft else "v = 0\nfired = 1",
        name=f"layer{number}",
    )
    charge = f"y = y + bias\n{CHARGE[layer.kind]}\nu = v\nfired = 0\ny = 0"
    group.run_regularly(charge, when="groups", name=f"charge{number}")
    if layer.kind in ADAPT:
        group.run_regularly(ADAPT[layer.kind], when="after_resets", name=f"adapt{number}")
    for name, values in layer.numbers.items():
        setattr(group, name, values)
    group.theta = layer.threshold
    return group


def _by_digit(
    i: NDArray[Any], o: NDArray[Any], weight: NDArray[Any], delay: NDArray[Any], digits: int
) -> tuple[NDArray[Any], ...]:
    """The synapses of the input, for each binary digit of its counts."""
    digit = np.tile(np.arange(digits), len(i))
    source = np.repeat(i, digits) * digits + digit
    return (
        source,
        np.repeat(o, digits),
        np.repeat(weight, digits) * 2.0**digit,
        np.repeat(delay, digits),
    )


def _connect(
    source: Any,
    target: Any,
    i: NDArray[Any],
    o: NDArray[Any],
    weight: NDArray[Any],
    delay: NDArray[Any],
) -> list[Any]:
    """Synapses: a spike with delay 0 counts in the next step of Brian2."""
    if not len(weight):
        return []
    synapses = brian2.Synapses(source, target, "weight : 1", on_pre="y_post += weight")
    synapses.connect(i=i, j=o)
    synapses.weight, synapses.delay = weight, delay * STEP
    return [synapses]


def _monitor(layer: Layer, group: Any) -> Any:
    if layer.fires:
        return brian2.SpikeMonitor(group)
    return brian2.StateMonitor(group, "v", record=True, when="end")


if __name__ == "__main__":
    main(Brian2)
