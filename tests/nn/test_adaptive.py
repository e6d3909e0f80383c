"""Nodes of adaptive neurons: draws, bounds, what they learn, state and tools."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from spikingjelly.activation_based import functional, monitor, neuron
from torch.nn import functional as F

from snn_delays.config import ModelConfig
from snn_delays.nn import build_network, count_parameters
from snn_delays.nn.neurons import ADAPTIVE_NODES, LeakyReadoutNode, build_neuron
from snn_delays.ops.scan import plain
from tests.nn.test_fused import configure, spikes

KINDS = pytest.mark.parametrize("kind", ADAPTIVE_NODES)


def build(kind, size=7, **settings):
    torch.manual_seed(0)
    asked = {"tau": 0.5, "v_threshold": 1.0, "surrogate_alpha": 5.0, "store_membrane": False}
    return build_neuron(kind, size=size, step_ms=4.0, **{**asked, **settings}).double()


def current(T=40, B=3, N=7):
    g = torch.Generator().manual_seed(1)
    return 1 + 3 * torch.randn(T, B, N, generator=g, dtype=torch.float64)


BOUNDS = {  # of al and be
    "adlif": ((math.exp(-1 / 5), math.exp(-1 / 25)), (math.exp(-1 / 30), math.exp(-1 / 120))),
    "cadlif": ((0.36, 0.96), (0.96, 0.99)),
    "silif": ((math.exp(-1), math.exp(-0.04)), (math.exp(-0.04), math.exp(-0.01))),
    "se_adlif": ((math.exp(-1 / 5), math.exp(-1 / 25)), (math.exp(-1 / 60), math.exp(-1 / 300))),
}


@KINDS
def test_draws_fill_the_published_bounds(kind) -> None:
    al, be, a, b = build(kind, 2000).own()
    for decay, (low, high) in zip((al, be), BOUNDS[kind], strict=True):
        assert low - 1e-6 <= decay.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < decay.max() <= high + 1e-6
    factor = 120 * (1 - be) if kind == "se_adlif" else 1
    lowest = -1 if kind == "adlif" else 0
    assert lowest <= (a / factor).min() < lowest + 0.05
    assert 0.95 < (a / factor).max() <= 1
    assert 0 <= (b / factor).min() < 0.05
    assert 1.95 < (b / factor).max() <= 2


def test_times_in_ms_are_steps_of_any_length() -> None:
    slow, fast = (build("se_adlif"), build("se_adlif", tau_scope="neuron"))
    fast.step_ms = 8.0
    (al, *_), (two, *_) = slow.own(), fast.own()
    torch.testing.assert_close(al.square(), two)


@KINDS
def test_presets(kind) -> None:
    node = build(kind)
    sparch = kind != "se_adlif"
    assert node.v_reset is None if sparch else node.v_reset == 0
    assert node.detach_reset != sparch
    assert node.cell().surrogate.name == ("boxcar" if sparch else "exponential")
    other = build(kind, reset="hard", detach_reset=False, surrogate="triangle")
    assert other.cell().reset.name == "hard_attached"
    assert other.cell().surrogate.name == "triangle"


@KINDS
def test_a_parameter_out_of_bounds_comes_back_and_learns_on(kind) -> None:
    node = build(kind).train()
    name = next(iter(node.BOUNDS))
    low, high = node.BOUNDS[name]
    parameter = getattr(node, name)
    with torch.no_grad():
        parameter[0], parameter[1] = low - 1, high + 1
    node.eval()
    before = parameter.detach().clone()
    evaluated = node(current())
    assert torch.equal(parameter, before)  # evaluation changes nothing
    functional.reset_net(node.train())
    out = node(current())
    assert torch.equal(out, evaluated)
    assert parameter[0] == low
    assert parameter[1] == high
    (out * current()).sum().backward()
    assert (parameter.grad[:2] != 0).all()


@KINDS
def test_a_time_constant_may_be_the_layers(kind) -> None:
    node = build(kind, tau_scope="layer")
    shapes = {name: tuple(p.shape) for name, p in node.named_parameters()}
    assert all(shapes[name] == () for name in node.TIMES)
    assert shapes["a"] == (7,)
    assert node(current()).any()


@KINDS
def test_plain_steps_and_the_scan_agree(kind, monkeypatch) -> None:
    node = build(kind)
    expected = node(current())
    states = list(node.memories())
    assert all(state.any() for state in states)
    functional.reset_net(node)
    assert list(node.memories()) == [0.0, 0.0]
    node.step_mode = "s"
    assert torch.equal(torch.stack([node(x) for x in current()]), expected)
    assert all(map(torch.equal, node.memories(), states))
    node(current(B=5)[0])  # another batch starts anew
    assert node.w.shape == (5, 7)


def test_monitors_and_stored_membranes_see_the_node() -> None:
    node = build("adlif", store_membrane=True)
    net = torch.nn.Sequential(node)
    watch = monitor.OutputMonitor(net, neuron.BaseNode)
    out = net(current())
    assert torch.equal(watch.records[0], out)
    assert node.v_seq.shape == out.shape
    assert torch.equal(node.v_seq[-1], node.v)
    _, (_, w) = plain.scan(node.cell(), current(), (torch.zeros(3, 7),) * 2, node.own())
    torch.testing.assert_close(node.w, w, rtol=1e-12, atol=1e-12)


def test_the_readout_learns_a_decay_of_every_class() -> None:
    node = build("silif", v_threshold=math.inf, store_membrane=True)
    assert isinstance(node, LeakyReadoutNode)
    x = current()
    assert not node(x).any()
    v = torch.zeros_like(x[0])
    for current_step, membrane in zip(x, node.v_seq, strict=True):
        v = node.al * v + (1 - node.al) * current_step
        torch.testing.assert_close(membrane, v)


def test_plif_may_learn_a_tau_of_every_neuron() -> None:
    node = build("plif", tau=1.5, tau_scope="neuron")
    assert node.w.shape == (7,)
    alone = build("plif", tau=1.5)
    assert torch.equal(node(current()), alone(current()))


@pytest.mark.parametrize(("kind", "each"), [("adlif", 4), ("silif", 5)])
def test_parameters_are_counted(kind, each) -> None:
    plain_one, adaptive = (build_network(configure(neuron=k), 6) for k in ("lif", kind))
    assert count_parameters(adaptive) == count_parameters(plain_one) + each * (24 + 20) + 6


@KINDS
def test_training_moves_every_parameter_and_stays_in_bounds(kind) -> None:
    network = build_network(configure(neuron=kind), 6)
    optimizer = torch.optim.SGD(network.parameters(), 1e3)
    before = copy.deepcopy(network.state_dict())
    x = spikes(30, 5, dtype=torch.float32)
    F.cross_entropy(network.train()(x), torch.arange(5)).backward()
    optimizer.step()
    network.constrain()
    for name, parameter in network.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    for block in network.blocks:
        for name, (low, high) in block.neuron.BOUNDS.items():
            parameter = getattr(block.neuron, name)
            assert torch.tensor(low) <= parameter.min()
            assert parameter.max() <= torch.tensor(high)


@pytest.mark.parametrize(
    ("kind", "bound"),
    [("cadlif", (6 / (14 + 24)) ** 0.5), ("silif", (6 / (14 + 24)) ** 0.5), ("se_adlif", 14**-0.5)],
)
def test_weights_are_drawn_as_published(kind, bound) -> None:
    weight = build_network(configure(neuron=kind), 6).blocks[0].linear.weight
    assert 0.97 * bound < weight.abs().max() <= bound


def test_a_neuron_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="neuron=adlif with parameters of every neuron needs size"):
        build("adlif", None)
    assert ModelConfig().neuron == "lif"
