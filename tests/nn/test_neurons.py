"""Our neurons are SpikingJelly's nodes: same spikes, state and tools, whichever way they run."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from spikingjelly.activation_based import functional, monitor, neuron, op_counter, surrogate

from snn_delays.nn.neurons import build_neuron
from snn_delays.nn.neurons import node as nodes
from snn_delays.runtime import numba_jit

KINDS = pytest.mark.parametrize("kind", ["lif", "plif"])
THEIRS = {"lif": neuron.LIFNode, "plif": neuron.ParametricLIFNode}


def pair(kind, *, v_threshold=1.0, store=False, **change):
    """Our node and SpikingJelly's, set alike."""
    ours = build_neuron(
        kind, tau=1.5, v_threshold=v_threshold, surrogate_alpha=5.0, store_membrane=store
    )
    theirs = THEIRS[kind](
        **{"tau" if kind == "lif" else "init_tau": 1.5},
        decay_input=False,
        v_threshold=v_threshold,
        v_reset=0.0,
        surrogate_function=surrogate.ATan(alpha=5.0),
        detach_reset=True,
        step_mode="m",
        store_v_seq=store,
    )
    for node in (ours, theirs):
        for name, value in change.items():
            setattr(node, name, value)
    return ours, theirs


def current(T=40, B=3, N=17, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return (0.3 + 1.5 * torch.randn(T, B, N, generator=g, dtype=torch.float64)).to(dtype)


def assert_alike(ours, theirs, x) -> None:
    """Outputs, state and gradients of two calls, the second from where the first ended."""
    results = []
    for node in (ours, theirs):
        node.zero_grad()
        leaf = x.clone().requires_grad_()
        out = torch.cat([node(leaf), node(leaf)])
        membrane = node.v if node.v_seq is None else node.v_seq
        (out.square().sum() + (membrane * membrane.detach()).sum()).backward()
        grads = [leaf.grad, *(p.grad for p in node.parameters())]
        results.append(([out.detach(), node.v.detach(), membrane.detach()], grads))
    (values, grads), (expected, expected_grads) = results
    assert all(map(torch.equal, values, expected))
    for a, b in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("v_threshold", "store"), [(1.0, False), (math.inf, True), (1.0, True)])
def test_nodes_are_spikingjellys(kind, dtype, v_threshold, store) -> None:
    ours, theirs = (node.to(dtype) for node in pair(kind, v_threshold=v_threshold, store=store))
    assert isinstance(ours, THEIRS[kind])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_alike(ours, theirs, current(dtype=dtype))


@KINDS
def test_spikes_are_the_same_without_numba(kind, monkeypatch) -> None:
    fast, slow = pair(kind)[0], pair(kind)[0]
    expected = fast(current())
    monkeypatch.setattr(numba_jit, "available", lambda: False)
    assert torch.equal(slow(current()), expected)
    assert torch.equal(slow.v, fast.v)


@pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
@KINDS
def test_the_compiled_scan_runs_where_it_can(kind, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(nodes, "scan", lambda x, *a: (calls.append(1), (x, (x[-1],)))[1])
    pair(kind)[0](current())
    assert calls


@KINDS
@pytest.mark.parametrize(
    "change",
    [
        {"decay_input": True},
        {"v_reset": -0.25},
        {"surrogate_function": surrogate.Sigmoid()},
        {"surrogate_function": surrogate.ATan(alpha=2.0, spiking=False)},
        {"store_v_seq": True},
        {"step_mode": "s"},
    ],
)
def test_other_settings_are_left_to_spikingjelly(kind, change, monkeypatch) -> None:
    monkeypatch.setattr(nodes, "scan", None)
    ours, theirs = pair(kind, **change)
    assert_alike(ours, theirs, current())


@KINDS
@pytest.mark.parametrize(
    "change", [{"v_reset": None}, {"detach_reset": False}, {"v_reset": None, "detach_reset": False}]
)
def test_soft_and_attached_resets_are_spikingjellys(kind, change) -> None:
    ours, theirs = (node.double() for node in pair(kind, **change))
    assert ours.is_plain()
    assert_alike(ours, theirs, current(dtype=torch.float64))


@KINDS
def test_a_subclass_that_overrides_the_step_is_left_to_spikingjelly(kind, monkeypatch) -> None:
    monkeypatch.setattr(nodes, "scan", None)
    ours = pair(kind)[0]

    class Silent(type(ours)):
        def single_step_functional_forward(self, inputs, states, **settings):
            (spikes,), states = super().single_step_functional_forward(inputs, states, **settings)
            return (0 * spikes,), states

    ours.__class__ = Silent
    x = current()
    assert torch.equal(ours(x), torch.zeros_like(x))


@KINDS
@pytest.mark.parametrize("name", ["neuronal_charge", "neuronal_fire", "neuronal_reset"])
def test_methods_that_nothing_calls_are_refused(kind, name) -> None:
    with pytest.raises(TypeError, match=rf"Loud\.{name} would never be called: override single"):
        type("Loud", (type(pair(kind)[0]),), {name: lambda self, x: None})


def test_half_precision_is_left_to_spikingjelly() -> None:
    ours, theirs = pair("lif")
    x = current().bfloat16()
    assert torch.equal(ours(x), theirs(x))


@KINDS
def test_state_is_reset_detached_and_drawn_anew_for_another_batch(kind) -> None:
    ours, theirs = pair(kind)
    for node in (ours, theirs):
        node(current(B=3).requires_grad_())
        functional.detach_net(node)
        assert not node.v.requires_grad
        node(current(B=5))
    assert torch.equal(ours.v, theirs.v)
    functional.reset_net(ours)
    assert ours.v == 0.0
    assert ours.v_seq is None


def test_membrane_of_the_readout_can_be_detached() -> None:
    ours, _ = pair("lif", v_threshold=math.inf, store=True)
    assert ours(current().requires_grad_()).sum() == 0
    functional.detach_net(ours)
    assert torch.equal(ours.v, ours.v_seq[-1])
    assert not ours.v_seq.requires_grad


@KINDS
def test_monitors_see_the_same(kind) -> None:
    seen = []
    for node in pair(kind):
        net = torch.nn.Sequential(node)
        spikes = monitor.OutputMonitor(net, neuron.BaseNode)
        membranes = monitor.AttributeMonitor("v", False, net, neuron.BaseNode)
        net(current())
        seen.append((spikes.records[0], membranes.records[0]))
    assert all(map(torch.equal, *seen))


@KINDS
@pytest.mark.parametrize("counter", [op_counter.ACCounter, op_counter.NeuronStateCounter])
def test_operation_counters_see_the_same(kind, counter) -> None:
    totals = []
    for node in pair(kind):
        count = counter()
        with op_counter.DispatchCounterMode([count]), torch.no_grad():
            node(current())
        totals.append(count.get_total())
    assert totals[0] == totals[1] > 0


@KINDS
def test_nodes_are_copied_and_saved(kind) -> None:
    ours, _ = pair(kind)
    with torch.no_grad():
        ours(current())
    assert torch.equal(copy.deepcopy(ours).v, ours.v)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(current()), ours(current()))
