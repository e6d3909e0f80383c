"""Runs a spiking network with a delay on every synapse in NEST 3.10 (pip install nest-simulator).

A step is 1 ms of NEST. Neurons are ``iaf_psc_delta``; counts of spikes are multiplicities.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.export.programs.common import main, scores
from snn_delays.deploy.export.programs.network_file import Layer, read

os.environ.setdefault("PYNEST_QUIET", "1")  # no greeting among the answers
import nest

NEVER = 1e300  # a threshold that no membrane reaches


class Nest:
    """The network in a folder, built anew for every recording."""

    def __init__(self, folder: Path) -> None:
        self.network = read(folder)
        self.classes = self.network.classes
        nest.verbosity = nest.VerbosityLevel.ERROR

    def run(self, samples: list[NDArray[Any]]) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
        """Scores and every layer's output."""
        for frames in samples:
            outputs = self._outputs(frames.astype(int))
            yield scores(self.network.readout, outputs[-1]), outputs

    def _outputs(self, frames: NDArray[Any]) -> list[NDArray[Any]]:
        nest.ResetKernel()
        nest.resolution = 1.0
        sources = _generators(frames)
        groups, recorders = [], []
        for layer in self.network.layers:
            group = _neurons(layer)
            _connect(sources, group, *layer.synapses())
            _connect(group, group, *layer.recurrent_synapses())
            groups.append(group)
            recorders.append(_recorder(layer, group))
            sources = group
        now = 0
        for step, begins, number in self.network.changes(len(frames)):
            if step > now:
                nest.Simulate(step - now)
                now = step
            if begins:
                groups[number].I_e = _current(self.network.layers[number])
            else:
                groups[number].V_th = NEVER
        nest.Simulate(1.0)
        ends = self.network.ends(len(frames))
        return [
            _record(recorder, groups[n], n, (ends[-1], end))
            for n, (recorder, end) in enumerate(zip(recorders, ends, strict=True))
        ]


def _generators(frames: NDArray[Any]) -> Any:
    """Spike generators of the input channels; step t is sent at t + 1 ms, since 0 is not sent."""
    generators = nest.Create("spike_generator", frames.shape[1])
    for channel, counts in enumerate(frames.T):
        t = np.flatnonzero(counts)
        generators[channel].set(spike_times=t + 1.0, spike_multiplicities=counts[t])
    return generators


def _tau(layer: Layer) -> NDArray[Any]:
    """Time constants, ms, which leave 1 - share of a membrane after 1 ms."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(-1 / np.log1p(-layer.numbers["share"]), 1e-3, 1e20))


def _neurons(layer: Layer) -> Any:
    threshold = np.minimum(layer.threshold, NEVER)
    fixed = {"C_m": 1.0, "E_L": 0.0, "V_reset": 0.0, "V_m": 0.0, "t_ref": 0.0, "I_e": 0.0}
    own = {"tau_m": _tau(layer), "V_th": threshold}
    return nest.Create("iaf_psc_delta", len(threshold), params=fixed | own)


def _current(layer: Layer) -> NDArray[Any]:
    """Constant currents, pA, which add the bias to a membrane in 1 ms."""
    tau = _tau(layer)
    return np.asarray(layer.bias / (-np.expm1(-1 / tau) * tau))


def _connect(
    sources: Any,
    targets: Any,
    i: NDArray[Any],
    o: NDArray[Any],
    weight: NDArray[Any],
    delay: NDArray[Any],
) -> None:
    """Synapses, whose delay 0 is NEST's least one, 1 ms."""
    if not len(weight):
        return
    ids = np.array(sources.tolist())[i], np.array(targets.tolist())[o]
    synapse = {"synapse_model": "static_synapse", "weight": weight, "delay": delay + 1.0}
    nest.Connect(*ids, "one_to_one", synapse)


def _recorder(layer: Layer, group: Any) -> Any:
    if layer.fires:
        recorder = nest.Create("spike_recorder")
        nest.Connect(group, recorder)
    else:
        recorder = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": 1.0})
        nest.Connect(recorder, group)
    return recorder


def _record(recorder: Any, group: Any, number: int, steps: tuple[int, int]) -> NDArray[Any]:
    """Spikes or membranes [S, O] of a layer, whose step t ends at t + 2 + number ms."""
    events, (total, end) = recorder.events, steps
    made = np.zeros((total, len(group)))
    step = np.round(events["times"]).astype(int) - 2 - number
    kept = (step >= 0) & (step < end)
    values = events.get("V_m", np.ones(len(step)))
    neuron = events["senders"][kept].astype(int) - group.tolist()[0]
    made[step[kept], neuron] = values[kept]
    return made


if __name__ == "__main__":
    main(Nest)
