"""Recurrent layers: their draw, their bounds, their modes, and what the network does with them."""

from __future__ import annotations

import copy

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from snn_delays.analysis.activity import record
from snn_delays.config import Config, validate
from snn_delays.errors import UserError
from snn_delays.nn import build_network, count_parameters
from snn_delays.nn.neurons import build_neuron
from snn_delays.nn.recurrence import Recurrence
from snn_delays.runtime import numba_jit
from snn_delays.training.optim import build_optimizers
from snn_delays.training.schedules import recurrent_sigma_at
from tests.nn.test_network import small, spikes


def recurrent(kind: str = "learned", **model):
    """A network in float64 whose neurons fire often enough."""
    torch.manual_seed(0)
    settings = {"v_threshold": 0.5, "dropout": 0.0, "recurrent_delay_spread": 3.0, **model}
    network = build_network(small(recurrent=kind, **settings), 4).double()
    network.set_sigma(1.0)
    network.set_recurrent_sigma(2.0)
    return network


def test_initial_values_are_the_papers() -> None:
    torch.manual_seed(0)
    half = Recurrence(400)
    torch.testing.assert_close(half.weight @ half.weight.T, torch.eye(400), rtol=0, atol=1e-4)
    assert half.delay.min() >= 0
    assert half.delay.square().mean().sqrt().item() == pytest.approx(12, rel=0.1)
    uniform = Recurrence(400, delay_init="uniform", delay_low=10, delay_spread=20)
    assert 10 <= uniform.delay.min() < 11
    assert 29 < uniform.delay.max() <= 30
    fixed = Recurrence(400, delays="fixed")
    assert torch.equal(fixed.delay, fixed.delay.round())
    assert not isinstance(fixed.delay, nn.Parameter)
    assert not Recurrence(400, delays="undelayed").delay.any()


def test_all_layers_or_the_last_are_recurrent() -> None:
    for layers, expected in (("all", [True, True]), ("last", [False, True])):
        network = recurrent(recurrent_layers=layers)
        assert [block.recurrence is not None for block in network.blocks] == expected
    assert not list(build_network(small(), 4).recurrences())


@pytest.mark.parametrize(("kind", "own"), [("undelayed", 0), ("fixed", 0), ("learned", 1)])
def test_parameters_are_counted(kind, own) -> None:
    plain, network = build_network(small(), 4), recurrent(kind)
    squares = 8 * 8 + 6 * 6
    assert count_parameters(network) - count_parameters(plain) == squares + own * (8 + 6)


def test_each_neuron_learns_a_width_between_one_and_twice_sigma() -> None:
    layer = Recurrence(6, width_scope="neuron").double()
    layer.sigma = 4.0
    assert torch.equal(layer.lines().width, torch.full((6,), 5.0).double())
    with torch.no_grad():
        layer.p.copy_(torch.tensor([-100, 100, 0, 0, 0, 0]))
    assert layer.lines().width[:3].tolist() == [1, 9, 5]


def test_training_brings_delays_in_bounds_and_evaluation_leaves_them() -> None:
    network, x = recurrent(), spikes().double()
    with torch.no_grad():
        for layer in network.recurrences():
            layer.delay.sub_(2.3)
    clamped = copy.deepcopy(network)
    for layer in clamped.recurrences():
        layer.constrain()
    before = [layer.delay.clone() for layer in network.recurrences()]
    scores = network.eval()(x)
    for was, layer in zip(before, network.recurrences(), strict=True):
        assert torch.equal(layer.delay, was)
    assert torch.equal(scores, clamped.eval()(x))
    network.train()(x)
    for mine, theirs in zip(network.recurrences(), clamped.recurrences(), strict=True):
        assert torch.equal(mine.delay, theirs.delay)


def test_the_deployed_network_has_rounded_delays() -> None:
    network, x = recurrent(), spikes().double()
    rounded = copy.deepcopy(network)
    with torch.no_grad():
        for layer in rounded.recurrences():
            layer.delay.round_()
    scores = network.eval()(x)
    assert torch.equal(scores, rounded.eval()(x))
    network.set_recurrent_sigma(9.0)
    assert torch.equal(scores, network(x))
    with torch.no_grad():
        next(network.recurrences()).delay.add_(3)
    assert not torch.equal(scores, network(x))


def test_straight_through_is_deployed_forward_and_smooth_on_the_way_back() -> None:
    network, x = recurrent(delays="fixed"), spikes().double()
    smooth = network.train()(x)
    for layer in network.recurrences():
        layer.delay_gradient = "straight_through"
    scores = network(x)
    fixed = copy.deepcopy(network)
    for layer in fixed.recurrences():
        layer.frozen = True
    assert torch.equal(scores, fixed(x))
    assert not torch.equal(scores, smooth)
    scores.sum().backward()
    assert all(layer.delay.grad.any() for layer in network.recurrences())


def test_frozen_delays_are_rounded_and_have_no_gradient() -> None:
    network = recurrent().train()
    network.freeze_delays()
    assert network.frozen
    network(spikes().double()).sum().backward()
    for layer in network.recurrences():
        assert torch.equal(layer.delay, layer.delay.round())
        assert layer.delay.grad is None or not layer.delay.grad.any()
        assert layer.weight.grad.any()


def test_no_call_remembers_the_one_before() -> None:
    network, x = recurrent(), spikes().double()
    for mode in (network.train(), network.eval()):
        first = mode(x)
        mode(spikes(seed=5).double())
        assert torch.equal(mode(x), first)


def test_dropout_is_one_mask_over_time_of_the_recurrent_current() -> None:
    """A neuron either hears the others in all steps, or never."""
    layer = Recurrence(200, delays="undelayed", dropout=0.4).double().train()
    node = build_neuron("lif", tau=1.5, v_threshold=1.0, surrogate_alpha=5.0, store_membrane=True)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(200) / 2)
    x = torch.zeros(5, 3, 200).double()
    x[0] = 1.0  # every neuron fires once, and hears itself in the next step
    node(x, recurrence=layer)
    heard = node.v_seq[1]
    assert set(heard.unique().tolist()) == {0.0, 0.5 / 0.6}
    assert (heard == 0).double().mean().item() == pytest.approx(0.4, abs=0.1)
    layer.eval()
    node.reset()
    node(x, recurrence=layer)
    assert (node.v_seq[1] == 0.5).all()


@pytest.mark.parametrize(
    ("kind", "neuron"),
    [("undelayed", "lif"), ("fixed", "lif"), ("learned", "lif"), ("learned", "adlif")],
)
@pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
def test_a_network_computes_what_torch_alone_does(kind, neuron, monkeypatch) -> None:
    network, x = recurrent(kind, neuron=neuron), spikes(21, 5).double()
    numbers = []
    for compiled in (True, False):
        ours = copy.deepcopy(network).train()
        if not compiled:
            monkeypatch.setattr(numba_jit, "available", lambda: False)
        scores = ours(x)
        scores.square().sum().backward()
        numbers.append([scores.detach(), *(p.grad for p in ours.parameters())])
    for a, b in zip(*numbers, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_recurrent_block_takes_the_spectrum_of_a_fused_one() -> None:
    if not numba_jit.available():
        pytest.skip("numba is not installed")
    network = recurrent(recurrent_layers="last").train()
    network.set_backend("numba")
    network(spikes().double())
    first, second, _ = network.plan
    assert (first.path, second.path, second.why) == ("spectra", "modules", "it is recurrent")
    assert second.takes_spectra


def test_what_neurons_do_can_be_recorded() -> None:
    network, x = recurrent().eval(), spikes().double()
    activity = record(network, x)
    torch.testing.assert_close(activity.scores, network(x), rtol=1e-12, atol=1e-12)
    assert [part.shape[2] for part in activity.membranes] == [8, 6]
    assert activity.spikes[1].any()


def test_neurons_that_would_ignore_their_connections_are_refused() -> None:
    others = neuron.IFNode(step_mode="m"), recurrent().blocks[0].neuron
    others[1].decay_input = True
    for node in others:
        network = recurrent()
        network.blocks[1].neuron = node
        with pytest.raises(ValueError, match="must be as build_neuron builds them"):
            network(spikes().double())


def test_state_dict_holds_sigma_and_delays() -> None:
    one, two = recurrent(), recurrent()
    one.set_recurrent_sigma(0.7)
    with torch.no_grad():
        next(one.recurrences()).delay.add_(1)
    two.load_state_dict(one.state_dict())
    assert [layer.sigma for layer in two.recurrences()] == [0.7, 0.7]
    assert torch.equal(two.train()(spikes().double()), one.train()(spikes().double()))


def test_delays_and_widths_have_the_optimiser_of_delays() -> None:
    network = recurrent(recurrent_width_scope="neuron")
    optimizers = build_optimizers(network, Config().train).optimizers
    moved = {id(p) for group in optimizers["delay"].param_groups for p in group["params"]}
    for layer in network.recurrences():
        assert {id(layer.delay), id(layer.p)} <= moved
        assert id(layer.weight) not in moved


def test_sigma_shrinks_by_its_factor_every_hundredth_of_the_epochs() -> None:
    config = Config()
    config.train.epochs = 50
    widths = [recurrent_sigma_at(epoch, config) for epoch in (0, 1, 25)]
    assert widths == pytest.approx([10, 10 * 0.95**2, 10 * 0.95**50])


def test_the_linear_readout_sums_its_input_over_time() -> None:
    network, x = recurrent(readout="linear_sum").eval(), spikes().double()
    heard = []
    network.readout.linear.register_forward_hook(lambda *call: heard.append(call[2]))
    torch.testing.assert_close(network(x), heard[0].sum(0), rtol=1e-12, atol=1e-12)


def test_dropout_before_the_neurons_silences_their_feedforward_current() -> None:
    torch.manual_seed(0)
    network = build_network(small(dropout=0.5, dropout_place="before", batch_norm=False), 4)
    block = network.blocks[0].train()
    currents, spiked = [], []
    block.linear.register_forward_hook(lambda *call: currents.append(call[2]))
    block.neuron.register_forward_pre_hook(lambda module, inputs: spiked.append(inputs[0]))
    out = block(spikes(T=20, B=16))
    (current,), (given,) = currents, spiked
    whole = torch.isclose(given, 2 * current).all(0)
    silent = (given == 0).all(0)
    assert (whole | silent).all()
    assert silent.float().mean().item() == pytest.approx(0.5, abs=0.15)
    assert set(out.unique().tolist()) == {0.0, 1.0}  # spikes themselves are left alone


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"recurrent_dropout": 0.2}, "has no use with model.recurrent=none"),
        ({"recurrent_width_scope": "neuron"}, "needs model.recurrent=learned"),
        ({"recurrent": "fixed", "recurrent_width_scope": "neuron"}, "model.recurrent=learned"),
        ({"recurrent": "learned", "neuron": "mine:Neuron"}, "needs one of this package's neurons"),
        ({"recurrent": "sometimes"}, "is not one of none, undelayed, fixed, learned"),
        ({"recurrent": "learned", "recurrent_delay_spread": -1.0}, "must be at least 0"),
    ],
)
def test_options_without_use_are_refused(model, words) -> None:
    with pytest.raises(UserError, match=words):
        validate(small(**model))


def test_the_delay_buffer_keeps_inputs_and_spikes() -> None:
    network = recurrent(delays="none", hidden=[3, 2])
    inputs = sum(linear.weight.shape[1] for linear in network.delayed_layers())
    first, second = network.recurrences()
    first.delay.data.copy_(torch.tensor([0.4, 2.6, -1.0]))  # kept for 1, 4 and 1 steps
    second.delay.data.zero_()
    assert network.delay_buffer_bytes == 6 + 2 + inputs
    delayed = recurrent("none", hidden=[3, 2], taps=5, delays="learned")
    for linear in delayed.delayed_layers():
        linear.delay.data.fill_(2.4)
    assert delayed.delay_buffer_bytes == 3 * inputs


@torch.no_grad()
def test_ring_buffers_of_these_steps_delay_the_spikes() -> None:
    torch.manual_seed(0)
    layer = Recurrence(5, delay_spread=4.0).eval()
    spikes_TN = (torch.rand(20, 5) < 0.4).float()
    taps_TN = layer.lines().taps(torch.arange(1, 20)[:, None])  # of j = 1, 2, ...
    rings = [torch.zeros(rows) for rows in layer.buffer_steps]
    for t in range(20):
        for i, ring in enumerate(rings):
            arriving = sum(taps_TN[j - 1, i] * spikes_TN[t - j, i] for j in range(1, t + 1))
            assert ring[t % len(ring)] == arriving  # read, then written
            ring[t % len(ring)] = spikes_TN[t, i]
