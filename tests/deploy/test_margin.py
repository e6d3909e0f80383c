"""The certificate: its bound holds, is not far too wide, and says no where it must."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snn_delays.deploy import Deployed, Stream, plain
from snn_delays.deploy.margin import Margin
from snn_delays.deploy.quantise import quantise
from tests.deploy.networks import deployed, name_of, recording

OPTIONS: list[dict[str, Any]] = [
    {},
    {"neuron": "plif", "tau_scope": "neuron", "reset": "soft", "bias": True, "kernel_count": 2},
    {"batch_norm": False, "readout": "spike_count", "delay_type": "axonal"},
]


def counted(network: Deployed, frames: list[Any]) -> Margin:
    margin, stream = Margin(network), Stream(network)
    for recorded in frames:
        margin.add(recorded, stream.record(recorded)[1])
    return margin


@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_bound_holds_for_float32(options) -> None:
    """Membranes of the numpy engine against exact ones: within the bound, which is not idle."""
    network = deployed(options)[1]
    margin, used = Margin(network), 0.0
    for seed, real in ((1, False), (2, True)):
        frames = recording(seed, real=real).astype(np.float32)
        seen: list[list[Any]] = [[] for _ in network.layers]
        plain.run(network, frames, lambda n, t, s, to=seen: to[n].append((s.membrane, s.spikes)))
        x = frames
        for layer, steps in zip(margin._layers, seen, strict=False):
            membranes, spikes = map(np.stack, zip(*steps, strict=True))
            above, bound = layer.distances(x.astype(float), spikes.astype(float), 2.0**-24)
            error = np.abs(above + layer._layer.neurons.threshold - membranes.astype(float))
            assert (error <= bound).all()
            assert ((above >= 0) == (spikes > 0))[np.abs(above) > bound].all()
            used, x = max(used, float((error / np.maximum(bound, 1e-30)).max())), spikes
    assert used > 0.02


def test_a_membrane_on_its_threshold_is_not_proven() -> None:
    network, frames = deployed()[1], [recording(seed) for seed in range(3)]
    wide = counted(network, frames)
    assert (wide.proven, wide.near) == (3, 0)
    assert "On 3 of 3 recordings it is proven" in wide.report()["meaning"]
    assert "other" not in wide.report()["meaning"].replace("other recordings", "")
    membranes: list[Any] = []
    plain.run(network, frames[1], lambda n, t, s: membranes.append(s.membrane) if n == 1 else None)
    near = np.stack(membranes).max(0)
    near = np.where(near > 0.5, near, 1).astype(np.float32)  # the highest are now at the threshold
    second = network.layers[1]
    changed = replace(second, neurons=replace(second.neurons, threshold=near))
    tight = counted(
        replace(network, layers=(network.layers[0], changed, network.layers[2])), frames
    )
    assert tight.proven < 3
    assert tight.near > 0
    assert tight.smallest <= tight.largest_bound
    assert "so equal spikes are measured there, not proven" in tight.report()["meaning"]


def test_other_networks_have_a_sentence() -> None:
    integers = quantise(deployed({"tau_ms": 12.0})[1], weights="8")
    assert "exact in any order" in counted(integers, [recording(1)]).report()["meaning"]
    for options in ({"recurrent": "fixed"}, {"neuron": "adlif"}, {"filter_tau_ms": 30.0}):
        report = counted(deployed(options)[1], [recording(1)]).report()
        assert report["meaning"].startswith("Nothing is proven")
