"""Runs a spiking network with a delay on every synapse in Lava 0.10 (pip install lava-nc h5py).

Lava 0.10 needs Python 3.10. Its processes run in floating point.
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


class Lava:
    """The network in a folder, built anew for every recording."""

    def __init__(self, folder: Path) -> None:
        self.network = read(folder)
        self.classes = self.network.classes

    def run(self, samples: list[NDArray[Any]]) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
        """Scores and every layer's output."""
        for frames in samples:
            outputs = self._outputs(frames.astype(int))
            yield scores(self.network.readout, outputs[-1]), outputs

    def _outputs(self, frames: NDArray[Any]) -> list[NDArray[Any]]:
        layers, ends = self.network.layers, self.network.ends(len(frames))
        steps = ends[-1] + len(layers) + 1
        padded = np.zeros((frames.shape[1], steps), int)
        padded[:, : len(frames)] = frames.T
        out, groups, recorders = Source(data=padded).s_out, [], []
        for number, layer in enumerate(layers):
            group = _neurons(layer)
            _connect(out, group, layer, graded=number == 0)
            groups.append(group)
            recorders.append(_recorder(layer, group, steps))
            out = group.s_out
        try:
            self._simulate(groups, len(frames), steps)
            return [
                _record(layers[n], recorders[n], n, (ends[-1], end)) for n, end in enumerate(ends)
            ]
        finally:
            groups[0].stop()  # its processes would wait for ever

    def _simulate(self, groups: list[Any], frames: int, steps: int) -> None:
        """All steps; a layer begins with its bias, and ends with one below every threshold."""
        now = 0
        for step, begins, number in [*self.network.changes(frames), (steps, False, -1)]:
            if step > now:
                groups[0].run(
                    condition=RunSteps(num_steps=step - now),
                    run_cfg=Loihi2SimCfg(select_tag="floating_pt"),
                )
                now = step
            if step < steps:
                bias = self.network.layers[number].bias
                groups[number].bias_mant.set(bias if begins else np.full_like(bias, -NEVER))


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


def _connect(out: Any, group: Any, layer: Layer, *, graded: bool) -> None:
    """Synapses: a spike with delay 0 counts in the next step of Lava."""
    bits = 8 if graded else 0  # 0: spikes are 0 or 1
    for kernel in range(layer.weight.shape[2]):
        delay = layer.delay[:, :, kernel].astype(int)
        dense = DelayDense(weights=layer.weight[:, :, kernel], delays=delay, num_message_bits=bits)
        out.connect(dense.s_in)
        dense.a_out.connect(group.a_in)
    if layer.recurrent is not None:
        weight, delay = layer.recurrent
        back = DelayDense(weights=weight, delays=np.tile(delay.astype(int), (len(delay), 1)))
        group.s_out.connect(back.s_in)
        back.a_out.connect(group.a_in)


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
