"""Runs a spiking network with a delay on every synapse in Lava 0.10 (pip install lava-nc h5py).

Lava 0.10 needs Python 3.10. Its processes run in floating point, or for a network of integers in
fixed point, with Lava's bit-accurate model of Intel's Loihi 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import DelayDense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF
from lava.proc.monitor.process import Monitor
from numpy.typing import NDArray

from snn_delays.deploy.export.programs.common import main, scores
from snn_delays.deploy.export.programs.network_file import Layer, read

NEVER = 1e30  # a threshold that no membrane reaches
LARGEST = 2**17 - 1  # threshold in fixed point


class Lava:
    """The network in a folder, built anew for every recording."""

    def __init__(self, folder: Path) -> None:
        self.network = read(folder)
        self.classes, self.channels = self.network.classes, self.network.channels

    def run(self, samples: list[NDArray[Any]]) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
        """Scores and every layer's output."""
        for frames in samples:
            outputs = self._outputs(frames.astype(int))
            last = self.network.layers[-1]
            unit = 1 if last.fires else last.unit
            yield scores(self.network.readout, outputs[-1] * unit), outputs

    def _outputs(self, frames: NDArray[Any]) -> list[NDArray[Any]]:
        layers, ends = self.network.layers, self.network.ends(len(frames))
        steps = ends[-1] + len(layers) + 1
        padded = np.zeros((frames.shape[1], steps), int)
        padded[:, : len(frames)] = frames.T
        out, recorders = Source(data=padded).s_out, []
        parts: list[Floating] = []
        for number, layer in enumerate(layers):
            kind = Fixed if layer.kind == "loihi" else Floating
            parts.append(kind(layer, out, graded=number == 0))
            out = parts[-1].group.s_out
            recorders.append(_recorder(layer, parts[-1].group, steps))
        try:
            self._simulate(parts, len(frames), steps)
            return [
                _record(layers[n], recorders[n], n, (ends[-1], end)) for n, end in enumerate(ends)
            ]
        finally:
            parts[0].group.stop()  # its processes would wait for ever

    def _simulate(self, parts: list[Floating], frames: int, steps: int) -> None:
        """All steps; each layer begins and ends at its own."""
        now = 0
        for step, begins, number in [*self.network.changes(frames), (steps, False, -1)]:
            if step > now:
                parts[0].group.run(
                    condition=RunSteps(num_steps=step - now),
                    run_cfg=Loihi2SimCfg(select_tag=parts[0].tag),
                )
                now = step
            if step < steps:
                following = parts[number + 1].connections if number + 1 < len(parts) else []
                (parts[number].begin if begins else parts[number].end)(following)


class Floating:
    """The processes of a layer in floating point, which receives what a port sends."""

    tag = "floating_pt"

    def __init__(self, layer: Layer, out: Any, *, graded: bool) -> None:
        self.layer, self.group = layer, self.neurons(layer)
        self.connections = _connect(out, self.group, layer, graded=graded)

    def neurons(self, layer: Layer) -> Any:
        """The layer's neurons."""
        return _neurons(layer)

    def begin(self, following: list[Any]) -> None:
        """Begin with the bias."""
        self.group.bias_mant.set(self.layer.bias)

    def end(self, following: list[Any]) -> None:
        """End with a bias below every threshold."""
        self.group.bias_mant.set(np.full_like(self.layer.bias, -NEVER))


class Fixed(Floating):
    """The processes of a layer in fixed point, which read their bias in the first step alone."""

    tag = "fixed_pt"

    def neurons(self, layer: Layer) -> Any:
        """The layer's neurons."""
        return _loihi_neurons(layer)

    def begin(self, following: list[Any]) -> None:
        """Forget what the bias has done before, and the spikes that came of it."""
        self.group.v.set(np.zeros(self.layer.bias.shape, int))
        for connection in following:
            connection.a_buff.set(np.zeros(connection.a_buff.shape, int))

    def end(self, following: list[Any]) -> None:
        """Let no more spikes of this layer count in the following one."""
        for connection in following:
            connection.weights.set(np.zeros(connection.weights.shape, int))


def _loihi_neurons(layer: Layer) -> Any:
    """They fire above ``vth << 6``; the bias is ``bias_mant << bias_exp``."""
    powers = [int(bias & -bias).bit_length() - 1 for bias in layer.bias.tolist() if bias]
    exponent = min(powers, default=0)
    return LIF(
        shape=layer.bias.shape,
        vth=(int(layer.threshold[0]) - 1) >> 6 if layer.fires else LARGEST,
        du=4095,
        dv=4096 - (int(layer.numbers["keep"].flat[0]) >> 4),
        bias_mant=layer.bias.astype(int) >> exponent,
        bias_exp=exponent,
    )


def _neurons(layer: Layer) -> Any:
    """They fire above ``vth``: the number below the threshold."""
    threshold = min(float(layer.threshold[0]), NEVER)
    return LIF(
        shape=layer.bias.shape,
        vth=float(np.nextafter(threshold, -np.inf)),
        du=1.0,
        dv=float(layer.numbers["share"][0]),
        bias_mant=np.zeros(layer.bias.shape),
    )


def _connect(out: Any, group: Any, layer: Layer, *, graded: bool) -> list[Any]:
    """Synapses: a spike with delay 0 counts in the next step of Lava."""
    bits = 8 if graded else 0  # 0: spikes are 0 or 1
    made = []
    for kernel in range(layer.weight.shape[2]):
        delay, weight = layer.delay[:, :, kernel].astype(int), layer.weight[:, :, kernel]
        weight = weight.astype(int if layer.kind == "loihi" else float)
        dense = DelayDense(weights=weight, delays=delay, num_message_bits=bits)
        out.connect(dense.s_in)
        dense.a_out.connect(group.a_in)
        made.append(dense)
    if layer.recurrent is not None:
        weight, delay = layer.recurrent
        back = DelayDense(weights=weight, delays=np.tile(delay.astype(int), (len(delay), 1)))
        group.s_out.connect(back.s_in)
        back.a_out.connect(group.a_in)
    return made


def _recorder(layer: Layer, group: Any, steps: int) -> Any:
    if layer.fires:
        sink = Sink(shape=layer.bias.shape, buffer=steps)
        group.s_out.connect(sink.a_in)
        return sink
    monitor = Monitor()
    monitor.probe(group.v, steps)
    return monitor


def _record(layer: Layer, recorder: Any, number: int, steps: tuple[int, int]) -> NDArray[Any]:
    """Spikes or membranes [S, O] of a layer, whose step t is Lava's t + 1 + number, from 0."""
    total, end = steps
    if layer.fires:
        seen = recorder.data.get().T
    else:
        (variables,) = recorder.get_data().values()
        (seen,) = variables.values()
    made = np.zeros((total, len(layer.bias)))
    made[:end] = seen[number + 1 :][:end]
    return made


if __name__ == "__main__":
    main(Lava)
