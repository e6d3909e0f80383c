"""The engine in numpy equals the network in torch, every bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from snn_delays.deploy import plain
from tests.deploy.networks import OPTIONS, STEPS, deployed, evaluated, name_of, recording


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_equals_evaluation_to_the_bit(options, dtype) -> None:
    torch_network, network = deployed(options, dtype=dtype)
    for seed, real in ((1, False), (2, True)):
        frames = recording(seed, real=real).astype(network.dtype)
        want, outputs = evaluated(torch_network, frames)
        seen: list[list[Any]] = [[] for _ in outputs]
        scores = plain.run(network, frames, lambda n, t, s, to=seen: to[n].append(s.output))
        for mine, output in zip(seen, outputs, strict=True):
            np.testing.assert_array_equal(np.stack(mine), output)
        np.testing.assert_allclose(scores, want, rtol=0, atol=1e-5)
        assert any(output.any() for output in outputs[:-1]) or not outputs[:-1]


@pytest.mark.parametrize("options", [{}, {"bias": True}, {"kernel_count": 2, "density": 0.5}])
def test_currents_equal_those_of_evaluation_to_the_bit(options) -> None:
    torch_network, network = deployed(options)
    frames = recording(4, steps=STEPS)
    want: list[Any] = []
    for block in torch_network.blocks:
        block.norm.register_forward_hook(lambda m, i, o: want.append(o[:, 0].numpy()))
    evaluated(torch_network, frames)
    currents: list[list[Any]] = [[] for _ in network.layers]
    plain.run(network, frames, lambda n, t, s: currents[n].append(s.current))
    for mine, theirs in zip(currents, want, strict=False):
        np.testing.assert_array_equal(np.stack(mine), theirs)


def test_integer_network_adds_exactly() -> None:
    """The equation of ``Neurons``, on two neurons by hand."""
    from snn_delays.deploy.network import Deployed, FrontEnd, Layer, Neurons

    weight = np.array([[[3]], [[-2]]], np.int8)
    neurons = Neurons(
        "integer",
        {"keep": np.array(1 << 15, np.int32)},
        np.array([20, 5], np.int32),
    )
    delay, bias = np.array([[[1]], [[0]]], np.int32), np.array([1, 0], np.int32)
    layer = Layer(weight, delay, 2, 1, neurons, bias, shift=2)
    front = FrontEnd("spikes", 10.0, 1)
    network = Deployed((layer,), "spike_count", 3, front, ("a", "b"), "int32")
    membranes: list[Any] = []
    scores = plain.run(
        network, np.array([[1], [2], [0]]), lambda n, t, s: membranes.append(s.membrane.tolist())
    )
    # (v >> 1) + 4 sum + bias; the first neuron fires in the third step
    assert membranes == [[1, -8], [13, -20], [31, -10], [1, -5]]
    assert scores.tolist() == [1, 0]
