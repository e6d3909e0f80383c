"""Training with rounded weights and delays, whose test runs the network of integers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from snn_delays import cli
from snn_delays.config import Config, validate
from snn_delays.deploy import Stream, from_run, plain
from snn_delays.deploy.module import StreamModule, module_of
from snn_delays.errors import UserError
from snn_delays.nn import build_network
from snn_delays.nn.rounding import round_delays, round_weights
from snn_delays.training.checkpoint import load_run
from snn_delays.training.run import train
from tests.training.test_resume import assert_same_run, reference, train_for  # noqa: F401


@pytest.fixture
def rounded(small_config):
    """A configuration with weights of 4 bits and 3 delays."""

    def make(**train) -> Config:
        config = small_config(epochs=2, protocol="last", **train)
        config.model.quantise.weights, config.model.quantise.delays = "4", 3
        config.model.v_threshold = 0.3
        return config

    return make


def evaluate(monkeypatch, config: Config, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["snn-delays", "evaluate", f"run={config.out}", *words])
    cli.main()


def test_the_test_runs_the_integer_network(rounded, capsys, monkeypatch) -> None:
    config = rounded()
    result = train(config)
    network = from_run(config.out)
    assert network.is_integer
    assert result["deployed"] == {"arithmetic": "int32", "digest": network.digest}
    assert result["latency"]["accuracy"][-1] == result["accuracy"]
    for layer in network.layers:
        assert np.abs(layer.weight).max() == 7
        assert {*np.unique(layer.delay)} <= {0, 2, 4}
    capsys.readouterr()
    evaluate(monkeypatch, config)
    printed = capsys.readouterr().out
    assert f"deployed network of integers, digest {network.digest[:12]}" in printed
    assert f"{result['accuracy']:.1%}" in printed
    assert from_run(config.out, arithmetic="float64").arithmetic == "float64"
    assert from_run(config.out, weights="float32").arithmetic == "float32"


def test_training_rounds_as_the_integer_network_does(rounded) -> None:
    """The same whole numbers and the same delays."""
    config = rounded()
    train(config)
    run = load_run(config.out)
    network = from_run(config.out)
    for linear, layer in zip(run.network.delayed_layers(), network.layers, strict=True):
        shared = layer.neurons.threshold is None
        whole, step = round_weights(linear.weight.detach(), 7, shared=shared)
        sign = np.ones(layer.outputs)
        if not shared:
            sign = np.sign(run.network.blocks[0].norm.weight.detach().numpy())
        np.testing.assert_array_equal(layer.weight, whole.numpy() * sign[:, None, None])
        acting = linear.synapses()
        assert torch.equal(acting.weight, whole * step)
        assert torch.equal(acting.delay, round_delays(linear.delay.detach(), linear.taps, 3))
        np.testing.assert_array_equal(layer.delay, acting.delay.detach().numpy())


def test_a_batch_of_the_module_is_each_recording(rounded) -> None:
    config = rounded()
    train(config)
    module = module_of(load_run(config.out))
    assert isinstance(module, StreamModule)
    rng = np.random.default_rng(0)
    x = rng.poisson(0.5, (30, 5, config.data.channels)).astype(np.float32)
    scores = module(torch.from_numpy(x)).numpy()
    for n in range(5):
        network = module.network
        np.testing.assert_allclose(Stream(network).run(x[:, n]).scores, scores[n], rtol=1e-12)
        np.testing.assert_allclose(plain.run(network, x[:, n]), scores[n], rtol=1e-12)


def test_rounding_after_training(small_config, capsys, monkeypatch) -> None:
    """``evaluate`` with weights= and delays= runs the network that Python gives."""
    config = small_config(epochs=1, protocol="last")
    train(config)
    run = load_run(config.out)
    assert module_of(run) is run.network
    network = from_run(config.out, weights="8", delays=3)
    capsys.readouterr()
    evaluate(monkeypatch, config, "weights=8", "delays=3")
    assert f"of integers, digest {network.digest[:12]}" in capsys.readouterr().out
    evaluate(monkeypatch, config, "delays=5")
    said = capsys.readouterr().out
    assert "deployed network of floats" in said
    evaluate(monkeypatch, config)
    assert said.splitlines()[-2:] == capsys.readouterr().out.splitlines()[-2:]
    for words, sentence in (
        ("weights=5", "weights=5 is not one of"),
        ("delays=9", "delays=9 must be at most 5, the network's number of taps"),
        ("arithmetic=loihi", "arithmetic=loihi has weights of 8 bits: give weights=8, not float32"),
        ("weights=8 backend=dense", "backend=dense has no use for rounded numbers"),
    ):
        with pytest.raises(SystemExit) as stop:
            evaluate(monkeypatch, config, *words.split())
        assert stop.value.code == 2
        assert sentence in capsys.readouterr().err


def test_it_goes_on_from_any_batch(reference, monkeypatch) -> None:  # noqa: F811
    whole, config = reference(), reference(name="stopped")
    for each in (whole, config):
        each.model.quantise.weights, each.model.quantise.delays = "ternary", 3
    train(whole)
    config.resume = "auto"
    for batches in (3, 7):
        train_for(batches, config, monkeypatch)
    train(config)
    assert_same_run(whole.out, config.out)


@pytest.mark.parametrize("backend", ["numba", "dense", "fft", "matmul"])
@pytest.mark.parametrize("gradient", ["smooth", "straight_through"])
def test_every_path_trains_on_rounded_numbers(backend, gradient) -> None:
    """Scores and gradients are those of rounded parameters by the reference."""
    config = Config()
    config.data.units, config.data.units_per_channel = 14, 1
    config.model.hidden, config.model.taps, config.model.tau_ms = [9, 8], 9, 15.0
    config.model.density, config.model.dropout = 0.8, 0.0
    config.train.delay_gradient = gradient
    torch.manual_seed(0)
    plain_network = build_network(config, 4).double()
    config.model.quantise.weights, config.model.quantise.delays = "4", 5
    network = build_network(config, 4).double()
    network.load_state_dict(plain_network.state_dict())
    for mine, other in zip(network.delayed_layers(), plain_network.delayed_layers(), strict=True):
        weight, delay = mine.rounding.apply(other.weight.detach(), other.delay.detach(), 9)
        other.weight.data.copy_(weight)
        other.delay.data.copy_(delay)
    plain_network.set_backend("reference")
    network.set_backend(backend)
    x = torch.poisson(torch.full((20, 6, 14), 0.3, dtype=torch.float64))
    for each in (network, plain_network):
        each.set_sigma(1.3)
        F.cross_entropy(each.train()(x), torch.arange(6) % 4).backward()
    for (name, mine), other in zip(
        network.named_parameters(), plain_network.parameters(), strict=True
    ):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-8, atol=1e-11, msg=name)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"neuron": "adlif"}, "Layer 1 has neurons of the kind adaptive: no integer form is known"),
        ({"recurrent": "learned"}, "Layer 1 has recurrent connections"),
        ({"filter_tau_ms": 30.0}, "Layer 1 has a synaptic filter"),
        ({"readout": "tests.own:Attention"}, "model.readout=.* is a user's own"),
    ],
)
def test_what_has_no_integer_form_is_refused_before_training(change, sentence, rounded) -> None:
    config = rounded()
    for key, value in change.items():
        setattr(config.model, key, value)
    with pytest.raises(UserError, match=sentence):
        train(config)
    assert not Path(str(config.out)).exists()


@pytest.mark.parametrize(
    ("delays", "values", "sentence"),
    [
        ("learned", 26, r"model\.quantise\.delays=26 must be at most model\.taps=25"),
        ("none", 5, r"model\.quantise\.delays=5 has no use with model\.delays=none"),
        ("dense", 5, r"has no use with model\.delays=dense"),
    ],
)
def test_numbers_of_delays_that_cannot_be(delays, values, sentence) -> None:
    config = Config()
    config.model.delays, config.model.quantise.delays = delays, values
    with pytest.raises(UserError, match=sentence):
        validate(config)


def test_delays_alone_are_rounded_in_training(small_config) -> None:
    config = small_config(epochs=1, protocol="last")
    config.model.quantise.delays = 3
    result = train(config)
    assert "deployed" not in result
    assert {*np.unique(from_run(config.out).layers[0].delay)} <= {0, 2, 4}
    kept = json.loads(Path(config.out, "result.json").read_text("utf-8"))["delay_buffer_bytes"]
    layers = from_run(config.out).layers
    assert kept == sum(int((1 + layer.delays.max((0, 2))).sum()) for layer in layers)
