"""The integer network: what it computes, and that no number of it overflows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from snn_delays.deploy import Stream, plain
from snn_delays.deploy.network import Deployed
from snn_delays.deploy.quantise import INT32, largest_membrane, largest_sum, quantise
from snn_delays.errors import UserError
from tests.deploy.networks import deployed, name_of, recording

FORMS: list[dict[str, Any]] = [
    {},
    {"neuron": "plif", "tau_scope": "neuron", "reset": "soft"},
    {"batch_norm": False, "bias": True, "v_threshold": 0.7},
    {"density": 0.4, "kernel_count": 2},
    {"delays": "none"},
    {"delay_type": "axonal", "bias": True},
    {"readout": "max"},
    {"readout": "spike_count", "readout_threshold": 0.3},
    {"hidden": []},
]


def run(network: Deployed, frames: Any) -> tuple[Any, list[Any]]:
    """Scores, and every layer's membranes [S, O] before the reset."""
    seen: list[Any] = [[] for _ in network.layers]
    scores = plain.run(network, frames, lambda n, t, state: seen[n].append(state.membrane.copy()))
    return scores, [np.stack(of_layer) for of_layer in seen]


@pytest.mark.parametrize(
    ("weights", "arithmetic"), [("16", "plain"), ("ternary", "plain"), ("8", "loihi")]
)
@pytest.mark.parametrize("options", [FORMS[0], *FORMS[2:]], ids=name_of)
def test_stream_equals_plain(options, weights, arithmetic) -> None:
    _, floats = deployed(options)
    network = quantise(floats, weights, 3 if floats.layers[0].taps > 1 else None, arithmetic)
    assert network.is_integer
    for seed in (1, 2):
        frames = recording(seed)
        scores, _ = run(network, frames)
        stream = Stream(network)
        np.testing.assert_allclose(stream.run(frames).scores, scores, rtol=1e-12)
        assert [output.dtype for output in stream.outputs] == [np.int32] * len(network.layers)


def test_soft_resets_and_own_time_constants_equal_plain() -> None:
    network = quantise(deployed(FORMS[1])[1], "8")
    frames = recording(1)
    np.testing.assert_allclose(Stream(network).run(frames).scores, run(network, frames)[0])


@pytest.mark.parametrize("options", FORMS, ids=name_of)
@pytest.mark.parametrize("weights", ["16", "8"])
def test_first_layer_is_that_of_the_floats(options, weights) -> None:
    """Its membranes stay near as long as the same neurons fire; thresholds are the same number."""
    _, floats = deployed(options, dtype=torch.float64)
    network = quantise(floats, weights)
    layer, integer = floats.layers[0], network.layers[0]
    _, (want, *_) = run(floats, recording(3))
    _, (got, *_) = run(network, recording(3))
    got = got * integer.unit
    theta = np.inf if layer.neurons.threshold is None else layer.neurons.threshold
    fires, also = want >= theta, got >= theta - 1e-12
    same = np.logical_and.accumulate((fires == also).all(1))
    largest = np.abs(want).max()
    np.testing.assert_allclose(got[same], want[same], atol=(1e-3, 3e-2)[weights == "8"] * largest)
    assert same.sum() > 3
    if integer.neurons.threshold is not None:
        np.testing.assert_array_equal(integer.neurons.threshold, np.ceil(theta / integer.unit))


def test_one_step_by_hand() -> None:
    """Weights 1, -1/2 of 8 bits, BatchNorm 2 y + 0.5, threshold 1."""
    _, floats = deployed({"hidden": [1], "readout": "last"}, dtype=torch.float64)
    first = floats.layers[0]
    weight = np.zeros_like(first.weight)
    weight[0, 0], weight[0, 1] = 1, -0.5
    alpha, beta = np.array([2.0]), np.array([0.5])
    floats = replace(
        floats,
        layers=(replace(first, weight=weight, alpha=alpha, beta=beta), floats.layers[1]),
    )
    layer = quantise(floats, "8").layers[0]
    assert layer.weight[0, :2, 0].tolist() == [127, -64]
    step = (127 + 0.5 * 64) / (127**2 + 64**2)  # of least squares
    assert layer.unit == pytest.approx([2 * step / 2**6], rel=1e-12)
    assert layer.bias.tolist() == [round(0.5 * 64 / (2 * step))]
    assert layer.neurons.threshold.tolist() == [np.ceil(64 / (2 * step))]
    assert layer.neurons.parameters["keep"] == 1 << 15


def worst_input(network: Deployed, count: int, sign: int) -> Any:
    """Frames in which everything that moves the first neuron of the first layer arrives at once."""
    layer = network.layers[0]
    frames = np.zeros((200, layer.inputs), np.int64)
    frames[:, (sign * layer.weight[0]).sum(1) > 0] = count
    return frames


@pytest.mark.parametrize("weights", ["16", "4"])
@pytest.mark.parametrize("tau_ms", [10.05, 200.0])
def test_bound_holds_and_is_nearly_reached(weights, tau_ms) -> None:
    """Under the worst input, membranes without a reset stay in it, and come near."""
    network = quantise(deployed({"tau_ms": tau_ms})[1], weights)
    never = replace(network.layers[0].neurons, threshold=np.array(INT32, np.int32))
    layer = replace(network.layers[0], neurons=never)
    network = replace(network, layers=(layer, *network.layers[1:]))
    bound = largest_membrane(layer, 255)
    keep = layer.neurons.parameters["keep"] / 2**16
    assert bound.max() <= INT32
    assert bound.max() > INT32 / 2 or layer.shift == 6
    assert (largest_membrane(replace(layer, shift=layer.shift + 1), 255).max() > INT32) or (
        layer.shift == 6
    )
    reached = 0
    for sign in (1, -1):
        frames = worst_input(network, 255, sign)
        _, (membranes, *_) = run(network, frames)
        assert np.all(np.abs(membranes.astype(np.int64)) <= bound)
        reached += sign * int(membranes[len(frames) - 1, 0])
    assert reached > 0.8 * (bound[0] - abs(layer.bias[0]) / (1 - keep))
    np.testing.assert_array_equal(
        largest_sum(layer, 2), 2 * np.abs(layer.weight.astype(int)).sum((1, 2))
    )


def test_neuron_whose_input_does_not_matter() -> None:
    """BatchNorm may all but silence a sum: its threshold is then no number without end."""
    _, floats = deployed()
    first = floats.layers[0]
    alpha = first.alpha.copy()
    alpha[:3] = 0, 1e-20, -1e-9
    network = quantise(
        replace(floats, layers=(replace(first, alpha=alpha), *floats.layers[1:])), "8"
    )
    layer = network.layers[0]
    assert not layer.weight[:2].any()
    np.testing.assert_allclose((layer.bias * layer.unit)[:3], first.beta[:3], rtol=1e-6)
    np.testing.assert_allclose((layer.neurons.threshold * layer.unit)[:3], 1, rtol=1e-6)


def test_negative_factor_of_batch_norm_turns_the_weights() -> None:
    _, floats = deployed()
    first = floats.layers[0]
    turned = replace(first, alpha=-first.alpha, weight=-first.weight)
    mine, theirs = (
        quantise(replace(floats, layers=(layer, *floats.layers[1:])), "4").layers[0]
        for layer in (first, turned)
    )
    np.testing.assert_array_equal(mine.weight, theirs.weight)


def test_delays_alone() -> None:
    _, floats = deployed()
    network = quantise(floats, delays=3)
    assert network.arithmetic == "float32"
    assert {*np.unique(network.layers[0].delay)} == {0, 2, 4}
    assert quantise(floats).digest == floats.digest


@pytest.mark.parametrize(
    ("options", "arguments", "sentence"),
    [
        ({"neuron": "adlif"}, ("8",), "Layer 1 has neurons of the kind adaptive: no integer form"),
        ({"recurrent": "undelayed"}, ("8",), "Layer 1 has recurrent connections"),
        ({"filter_tau_ms": 30.0}, ("8",), "Layer 1 has a synaptic filter"),
        ({"readout": "linear_sum"}, ("8",), "The readout has a sum over all steps"),
        ({}, ("float32", 9), r"delays=9 must be at most 5, the network's number of taps"),
        ({}, ("float32", 1), r"delays=1 must be from 2 to 5, the number of taps\."),
        ({"taps": 1}, ("float32", 2), "The network has one tap, and its delays one value: leave"),
        ({}, ("4", None, "loihi"), "arithmetic=loihi has weights of 8 bits: give weights=8, not 4"),
        ({"reset": "soft"}, ("8", None, "loihi"), "Layer 1 has a time constant of its own .* soft"),
        ({"tau_ms": 1e8}, ("16",), r"Layer 1 may overflow 32 bits: it adds up 12 inputs of up to"),
    ],
)
def test_refusals(options, arguments, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        quantise(deployed(options)[1], *arguments)


def test_other_refusals() -> None:
    _, floats = deployed()
    network = quantise(floats, "8")
    with pytest.raises(UserError, match="one of integers already"):
        quantise(network, "8")
    audio = replace(floats, front=replace(floats.front, kind="log_mel"))
    with pytest.raises(UserError, match="takes counts of spikes, and this one takes energies"):
        quantise(audio, "8")
    frames = recording(1)
    frames[3, 4] = 256
    with pytest.raises(UserError, match=r"counts 256 spikes in a step; .* takes at most 255"):
        Stream(network).run(frames)


def test_file_keeps_an_integer_network(tmp_path) -> None:
    from snn_delays.deploy import load

    network = quantise(deployed()[1], "8", 3, "loihi")
    network.save(tmp_path / "network.h5")
    assert load(tmp_path / "network.h5").digest == network.digest
