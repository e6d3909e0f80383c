"""Axonal and dendritic networks: the oracle is the synaptic one whose delays are equal."""

from __future__ import annotations

import copy

import pytest
import torch
from spikingjelly.activation_based import monitor, neuron

from snn_delays.config import Config, validate
from snn_delays.errors import UserError
from snn_delays.nn import DelayedLinear, Network, build_network, count_parameters
from snn_delays.runtime import numba_jit
from tests.nn.test_fused import configure, spikes, train_once

TYPES = ("axonal", "dendritic")


def networks(kind: str, **model) -> tuple[Network, Network]:
    """A network, and the synaptic one with its parameters and delays."""
    config = configure(hidden=(8, 7), taps=9, delay_type=kind, **model)
    torch.manual_seed(3)
    ours = build_network(config, 5).double()
    config.model.delay_type = "synaptic"
    theirs = build_network(config, 5).double()
    state = ours.state_dict()
    for name, other in theirs.state_dict().items():
        if name.endswith(".delay"):
            state[name] = state[name].expand_as(other).clone()
    theirs.load_state_dict(state)
    for network in (ours, theirs):
        network.set_sigma(1.7)
    theirs.set_backend("reference")
    return ours, theirs


def seen_spikes(network: Network, x: torch.Tensor) -> list[torch.Tensor]:
    watched = monitor.OutputMonitor(network, neuron.LIFNode)
    network(x)
    watched.remove_hooks()
    return watched.records[:2]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("T", "B"), [(1, 1), (2, 1), (63, 1), (12, 4)])
@pytest.mark.parametrize(
    "model", [{}, {"delays": "fixed"}, {"density": 0.5, "bias": True}], ids=str
)
def test_it_is_the_synaptic_network_with_equal_delays(kind, count, T, B, model) -> None:
    ours, theirs = networks(kind, kernel_count=count, **model)
    x = [spikes(T, B).requires_grad_() for _ in range(2)]
    scores = [train_once(n, each) for n, each in zip((ours, theirs), x, strict=True)]
    torch.testing.assert_close(*scores, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(x[0].grad, x[1].grad, rtol=1e-9, atol=1e-9)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        expected = other.grad.sum_to_size(mine.shape)
        torch.testing.assert_close(mine.grad, expected, rtol=1e-9, atol=1e-9, msg=name)
    if numba_jit.available():  # the fused blocks sum the gradients of shared delays, too
        fused = copy.deepcopy(ours)
        fused.zero_grad()
        fused.set_backend("numba")
        torch.testing.assert_close(train_once(fused, x[0]), scores[0], rtol=1e-10, atol=1e-10)
        for mine, other in zip(fused.parameters(), ours.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        y = [n.eval()(each) for n, each in zip((ours, theirs), x, strict=True)]
        torch.testing.assert_close(*y, rtol=1e-10, atol=1e-10)
        for mine, other in zip(seen_spikes(ours, x[0]), seen_spikes(theirs, x[0]), strict=True):
            assert torch.equal(mine, other)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("backend", ["reference", "dense", "fft", "matmul", "numba", "event"])
@torch.no_grad()
def test_every_backend_evaluates_it_alike(kind, backend) -> None:
    ours, theirs = networks(kind)
    x = spikes(20, 3)
    expected = theirs.eval()(x)
    for name in ("depthwise", backend):
        ours.set_backend(name)
        if ours.eval().why_not(name, x) is None:
            torch.testing.assert_close(ours(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("kind", "delays"), [("synaptic", 613_888), ("axonal", 1_676), ("dendritic", 1_571)]
)
def test_parameters_are_those_of_the_papers(kind, delays) -> None:
    config = Config()
    config.model.hidden, config.model.taps, config.model.delay_type = [512] * 3, 31, kind
    assert count_parameters(build_network(config, 35)) == 613_888 + delays + 3_072


@pytest.mark.parametrize("kind", TYPES)
def test_delays_without_a_synapse_do_not_count(kind) -> None:
    ours, _ = networks(kind, density=0.5, kernel_count=2)
    linear = ours.blocks[0].linear
    linear.mask[:2] = False
    linear.mask[:, :3] = False
    exists = linear.delay_exists
    assert exists.shape == linear.delay.shape == {
        "axonal": (1, 14, 2), "dendritic": (8, 1, 2)
    }[kind]  # fmt: skip
    for o, i, c in torch.cartesian_prod(*map(torch.arange, exists.shape)).tolist():
        column = linear.mask[:, i] if kind == "axonal" else linear.mask[o]
        assert exists[o, i, c] == column.any()
    missing = sum(
        int((~m.mask).sum()) * 2 + int((~m.delay_exists).sum()) for m in ours.delayed_layers()
    )
    assert count_parameters(ours) == sum(p.numel() for p in ours.parameters()) - missing


@pytest.mark.parametrize("kind", TYPES)
def test_initial_values(kind) -> None:
    torch.manual_seed(0)
    layer = DelayedLinear(300, 200, taps=31, delay_type=kind, delay_init="uniform_clamped")
    bound = (6 / 300) ** 0.5  # Kaiming uniform, as for synaptic delays
    assert 0.999 * bound < layer.weight.abs().max() <= bound
    assert 0 <= layer.delay.min() < 1
    assert layer.delay.max() == 30  # 1 in 31 is clamped there
    assert DelayedLinear(3, 2, taps=31, delay_type=kind, delays="fixed").delay.frac().eq(0).all()


@pytest.mark.parametrize("kind", TYPES)
def test_without_delays_it_is_a_linear_map(kind) -> None:
    layer = DelayedLinear(6, 4, taps=1, delay_type=kind, delays="none").double()
    x = torch.rand(5, 3, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ layer.weight[:, :, 0].T)


@pytest.mark.parametrize("kind", TYPES)
def test_a_dense_convolution_shares_no_delays(kind) -> None:
    with pytest.raises(ValueError, match=f"delay_type={kind} has no use with delays=dense"):
        DelayedLinear(6, 4, taps=5, delay_type=kind, delays="dense", kernel_count=5)
    config = Config()
    config.model.delay_type, config.model.delays = kind, "dense"
    with pytest.raises(UserError, match=f"model.delay_type={kind} has no use with model.delays=de"):
        validate(config)


@pytest.mark.parametrize("kind", ["synaptic", *TYPES])
def test_frozen_delays_act_as_deployed_and_get_no_gradient(kind) -> None:
    ours, _ = networks(kind)
    x = spikes(20, 3)
    rounded = [m.delay.detach().round() for m in ours.delayed_layers()]
    fixed = copy.deepcopy(ours)
    for linear in fixed.delayed_layers():
        linear.delays = "fixed"
    assert not ours.frozen
    ours.freeze_delays()
    assert ours.frozen
    torch.testing.assert_close(train_once(ours, x), train_once(fixed, x), rtol=1e-12, atol=1e-12)
    for linear, other, delay in zip(
        ours.delayed_layers(), fixed.delayed_layers(), rounded, strict=True
    ):
        assert torch.equal(linear.delay, delay)
        assert linear.delay.grad is None
        torch.testing.assert_close(linear.weight.grad, other.weight.grad)
    assert not fixed.frozen
    fixed.freeze_delays()  # of which there is nothing to freeze
    assert not fixed.frozen


@pytest.mark.parametrize("kind", ["synaptic", *TYPES])
def test_straight_through_training_sees_the_deployed_network(kind) -> None:
    ours, _ = networks(kind)
    x = spikes(20, 3)
    for linear in ours.delayed_layers():
        linear.delay_gradient = "straight_through"
    deployed = copy.deepcopy(ours)
    deployed.freeze_delays()
    if kind == "synaptic" and numba_jit.available():
        ours.set_backend("numba")  # with fused blocks
    scores = train_once(ours, x), train_once(deployed, x)
    torch.testing.assert_close(*scores, rtol=1e-10, atol=1e-10)
    for linear, other in zip(ours.delayed_layers(), deployed.delayed_layers(), strict=True):
        torch.testing.assert_close(linear.weight.grad, other.weight.grad, rtol=1e-9, atol=1e-12)
        assert linear.delay.grad.count_nonzero() > 0
        assert other.delay.grad is None
