"""The fused training pass against the modules it replaces."""

from __future__ import annotations

import copy

import pytest
import torch
from spikingjelly.activation_based import monitor, neuron
from torch.nn import functional as F

from snn_delays.config import Config
from snn_delays.nn import Network, build_network
from snn_delays.ops.spectral import layer
from snn_delays.runtime import buffers, numba_jit

pytestmark = pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")


def configure(hidden=(24, 20), taps=9, channels=14, **model) -> Config:
    config = Config()
    config.data.units, config.data.units_per_channel = channels, 1
    config.model.hidden, config.model.taps, config.model.tau_ms = list(hidden), taps, 15.0
    for key, value in model.items():
        assert hasattr(config.model, key)
        setattr(config.model, key, value)
    return config


def networks(config: Config, classes=6, dtype=torch.float64) -> tuple[Network, Network]:
    """The same network fused and module by module."""
    torch.manual_seed(3)
    ours = build_network(config, classes).to(dtype)
    ours.set_sigma(1.7)
    theirs = copy.deepcopy(ours)
    ours.set_backend("numba")
    theirs.set_backend("reference")
    return ours, theirs


def spikes(T, B, channels=14, seed=0, dtype=torch.float64) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.full((T, B, channels), 0.3), generator=g).to(dtype)


def train_once(network: Network, x: torch.Tensor, seed=1) -> torch.Tensor:
    torch.manual_seed(seed)  # the same dropout masks
    scores = network.train()(x)
    F.cross_entropy(scores, torch.arange(x.shape[1]) % scores.shape[1]).backward()
    return scores


def is_fused(network: Network, x: torch.Tensor) -> bool:
    return {how.path for how in network.plan_for(x)} == {"spectra"}


def assert_near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def assert_equal_everywhere(ours: Network, theirs: Network) -> None:
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (mine.grad - other.grad).abs().max() <= 1e-9 * other.grad.abs().max() + 1e-14, name
    for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert_near(mine, other)
    for mine, other in zip(ours.modules(), theirs.modules(), strict=True):
        if isinstance(mine, neuron.BaseNode):
            for state, same in zip(mine.memories(), other.memories(), strict=True):
                assert_near(state, same)


@pytest.fixture(autouse=True)
def _unwritten_memory_is_nan(monkeypatch) -> None:
    """What a kernel forgets to write must show, and a buffer that is lent while it is in use."""
    monkeypatch.setattr(buffers, "SMALL", 64)
    allocate = buffers.Pool.empty

    def filled(self, shape, like):
        return allocate(self, shape, like).fill_(torch.nan)

    monkeypatch.setattr(buffers.Pool, "empty", filled)
    pool = buffers.Pool()
    for module in ("spectral.layer", "spectral.block", "taps"):
        monkeypatch.setattr(f"snn_delays.ops.{module}.empty", pool.empty)


@pytest.mark.parametrize("T", [1, 2, 63, 127])
@pytest.mark.parametrize("B", [1, 3, 40])
@pytest.mark.parametrize("hidden", [(1,), (7, 140), (24, 20, 17)])
def test_sizes(T, B, hidden) -> None:
    ours, theirs = networks(configure(hidden))
    x = spikes(T, B)
    assert is_fused(ours, x)
    assert not is_fused(theirs, x)
    assert_near(train_once(ours, x), train_once(theirs, x))
    assert_equal_everywhere(ours, theirs)


def test_a_kept_graph_gives_its_gradients_again() -> None:
    network, _ = networks(configure((24, 20)))
    x = spikes(30, 3)
    assert is_fused(network, x)
    loss = network(x).square().sum()
    parameters = list(network.parameters())
    once = torch.autograd.grad(loss, parameters, retain_graph=True)
    for _ in range(2):
        again = torch.autograd.grad(loss, parameters, retain_graph=True)
        for a, b in zip(once, again, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("kept", [False, True])
def test_gradients_of_spectra_lie_where_the_spectra_lay(kept, monkeypatch) -> None:
    network, _ = networks(configure((24, 20)))
    loss = network(spikes(30, 3)).square().sum()
    lent, empty = [], layer.empty

    def counted(shape, like):
        lent.append(tuple(shape))
        return empty(shape, like)

    for module in ("layer", "block"):
        monkeypatch.setattr(f"snn_delays.ops.spectral.{module}.empty", counted)
    torch.autograd.grad(loss, list(network.parameters()), retain_graph=kept)
    spectra = [shape[3] for shape in lent if len(shape) == 4 and shape[0]]
    of_scores = len(network.readout.linear.weight)
    assert spectra == [of_scores, *[20, 20, 24, 24] * kept]


@pytest.mark.parametrize(
    "model",
    [
        {"taps": 25, "kernel_count": 2},
        {"taps": 101, "extra_steps": 0},
        {"taps": 3, "extra_steps": 40},
        {"delays": "fixed"},
        {"delays": "dense", "taps": 5},
        {"density": 0.3},
        {"dropout": 0.0},
        {"readout": "max"},
        {"readout": "spike_count", "readout_threshold": 0.5},
        {"v_threshold": 1e-6},  # fires at nearly every step
        {"v_threshold": 1e6},  # never fires
        {"surrogate_alpha": 2.0, "v_threshold": 0.7, "tau_ms": 80.0},
        {"neuron": "plif"},
        {"reset": "soft", "detach_reset": False, "surrogate": "triangle"},
        {"neuron": "cadlif"},  # adlif's membranes may grow without bound, and rounding errors too
        {"neuron": "se_adlif", "tau_scope": "layer"},
    ],
)
def test_settings(model) -> None:
    ours, theirs = networks(configure(**model))
    x = spikes(50, 5)
    assert is_fused(ours, x)
    assert_near(train_once(ours, x), train_once(theirs, x))
    assert_equal_everywhere(ours, theirs)


@pytest.mark.parametrize(("T", "B", "hidden"), [(1, 1, (7, 140)), (2, 3, (1,)), (63, 1, (24, 20))])
@pytest.mark.parametrize("neuron", ["cadlif", "se_adlif"])
def test_sizes_of_adaptive_neurons(T, B, hidden, neuron) -> None:
    ours, theirs = networks(configure(hidden, neuron=neuron))
    x = 4 * spikes(T, B)
    assert is_fused(ours, x)
    assert_near(train_once(ours, x), train_once(theirs, x))
    assert_equal_everywhere(ours, theirs)


@pytest.mark.parametrize("x", [torch.zeros(30, 4, 14), torch.ones(30, 4, 14)])
def test_silent_and_saturated_input(x) -> None:
    ours, theirs = networks(configure())
    assert_near(train_once(ours, x.double()), train_once(theirs, x.double()))
    assert_equal_everywhere(ours, theirs)


def test_the_gradient_reaches_the_input() -> None:
    ours, theirs = networks(configure())
    inputs = [spikes(40, 3).requires_grad_() for _ in range(2)]
    for network, x in zip((ours, theirs), inputs, strict=True):
        train_once(network, x)
    assert_near(inputs[0].grad, inputs[1].grad)


def test_two_passes_before_their_gradients_do_not_mix() -> None:
    ours, theirs = networks(configure(dropout=0.0))
    for network in (ours, theirs):
        first, second = network(spikes(60, 40, seed=1)), network(spikes(60, 40, seed=2))
        (first.square().sum() + second.cos().sum()).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (mine.grad - other.grad).abs().max() <= 1e-9 * other.grad.abs().max()


def test_a_constant_channel_far_from_zero_keeps_its_variance() -> None:
    ours, theirs = networks(configure())
    x = spikes(50, 8) * 1e-3 + 100
    assert_near(train_once(ours, x), train_once(theirs, x))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"bias": True}, "bias"),
        ({"batch_norm": False}, "BatchNorm"),
        ({"filter_tau_ms": 20.0}, "filter"),
    ],
)
def test_other_settings_run_module_by_module(model, words) -> None:
    ours, theirs = networks(configure(**model))
    x = spikes(30, 4)
    assert all(words in how.why for how in ours.plan_for(x)[:-1])
    torch.testing.assert_close(train_once(ours, x), train_once(theirs, x), rtol=1e-9, atol=1e-12)


def _freeze_norm(network):
    network.blocks[0].norm.eval()


def _freeze_dropout(network):
    network.blocks[1].dropout.eval()


def _watch_gradients(network):
    monitor.GradOutputMonitor(network, neuron.LIFNode)


def _watch_readout(network):
    network.readout.linear.register_forward_hook(lambda *_: None)


@pytest.mark.parametrize(
    ("change", "layers", "words"),
    [
        (_freeze_norm, [0], "BatchNorm"),
        (_freeze_dropout, [1], "dropout"),
        (_watch_gradients, [0, 1], "monitor"),
        (_watch_readout, [2], "hook"),
        (Network.eval, [0, 1], "not training"),
        (Network.float, [0, 1], "precision"),
    ],
)
def test_what_the_fused_pass_would_ignore_runs_module_by_module(change, layers, words) -> None:
    ours, _ = networks(configure())
    assert is_fused(ours, spikes(30, 4))
    change(ours)
    plan = ours.plan_for(spikes(30, 4))
    assert [n for n, how in enumerate(plan) if how.why] == layers
    assert all(words in plan[n].why for n in layers)


def test_an_empty_batch_is_not_fused() -> None:
    ours, _ = networks(configure())
    assert all("too few" in how.why for how in ours.plan_for(spikes(30, 0))[:-1])


PARTS = {
    "block": lambda network: network.blocks[1],
    "linear": lambda network: network.blocks[0].linear,
    "norm": lambda network: network.blocks[1].norm,
    "neuron": lambda network: network.blocks[0].neuron,
    "dropout": lambda network: network.blocks[1].dropout,
    "filter": lambda network: network.blocks[0].filter,
    "surrogate": lambda network: network.blocks[1].neuron.surrogate_function,
    "readout": lambda network: network.readout,
    "its linear": lambda network: network.readout.linear,
    "its neuron": lambda network: network.readout.neuron,
}


@pytest.mark.parametrize("on_instance", [True, False])
@pytest.mark.parametrize("part", PARTS)
def test_an_overridden_method_is_called_in_training(part, on_instance) -> None:
    network, _ = networks(configure())
    module, calls = PARTS[part](network), []
    forward = module.forward

    def loud(*arguments):
        calls.append(1)
        return forward(*arguments[not on_instance :])

    if on_instance:
        module.forward = loud
    else:
        module.__class__ = type("Loud", (type(module),), {"forward": loud})
    for training in (True, False):
        network.train(training)(spikes(30, 3))
        assert calls, training
        calls.clear()


def test_a_block_of_another_kind_takes_part() -> None:
    network, _ = networks(configure())
    network.blocks.insert(1, torch.nn.Identity())
    network.train()(spikes(30, 3)).sum().backward()
    assert network.readout.linear.delay.grad is not None
    assert len(list(network.delayed_layers())) == 3


def test_a_monitor_sees_the_modules() -> None:
    ours, _ = networks(configure())
    x = spikes(30, 4)
    watch = monitor.OutputMonitor(ours, neuron.LIFNode)
    train_once(ours, x)
    assert len(watch.records) == 3
    watch.remove_hooks()
    assert is_fused(ours, x)


def test_evaluation_runs_module_by_module_and_changes_nothing() -> None:
    ours, theirs = networks(configure())
    x = spikes(30, 40)
    before = copy.deepcopy(ours.state_dict())
    assert_near(ours.eval()(x), theirs.eval()(x))
    for name, value in ours.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("B", [3, 40])
def test_single_precision_stays_as_near_as_the_modules_do(B) -> None:
    """With thresholds that membranes are far from, so that rounding cannot move a spike."""
    ours, plain = networks(configure((33, 140), taps=25, v_threshold=6.0), dtype=torch.float32)
    for network in (ours, plain):
        torch.nn.init.constant_(network.blocks[0].norm.bias, 0.3)
        torch.nn.init.constant_(network.blocks[1].norm.bias, 7.0)
    exact = copy.deepcopy(plain).double()
    x = spikes(100, B)
    results = []
    for network, spiking in ((ours, x.float()), (plain, x.float()), (exact, x)):
        scores = train_once(network, spiking)
        results.append([scores.detach(), *(p.grad for p in network.parameters())])
    for mine, theirs, true in zip(*results, strict=True):
        error, of_modules = (mine - true).norm(), (theirs - true).norm()
        assert error <= max(1e-5 * true.norm() + 1e-9, 2 * of_modules)
