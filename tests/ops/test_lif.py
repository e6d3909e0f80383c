"""Scans of LIF neurons: spikes equal to SpikingJelly's, gradients near the plain recurrence."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate

from snn_delays.ops import lif
from snn_delays.runtime import numba_jit

needs_numba = pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
SIZES = list(itertools.product([1, 2, 63, 127], [1, 3], [1, 7, 140, 257]))
SINGLE_AND_DOUBLE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def current(T, B, N, dtype=torch.float64, seed=0):
    """Input that makes about a fifth of the steps fire, and a membrane to start from."""
    g = torch.Generator().manual_seed(seed)
    x = 0.3 + 1.5 * torch.randn(T, B, N, generator=g, dtype=torch.float64)
    return x.to(dtype), torch.randn(B, N, generator=g, dtype=torch.float64).to(dtype)


def spikingjelly(kind, tau, dtype):
    settings = {
        "decay_input": False,
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "surrogate_function": surrogate.ATan(alpha=5.0),
        "detach_reset": True,
        "step_mode": "m",
    }
    if kind == "lif":
        return neuron.LIFNode(tau=tau, **settings), {"tau": tau}
    node = neuron.ParametricLIFNode(init_tau=tau, **settings).to(dtype)
    return node, {"share": node.w.detach().sigmoid()}


@needs_numba
@SINGLE_AND_DOUBLE
@pytest.mark.parametrize("kind", ["lif", "plif"])
@pytest.mark.parametrize("tau", [1.005, 1.5, 3.0, 5.56, 17.3])
def test_spikes_equal_spikingjellys(dtype, kind, tau) -> None:
    for seed, (T, B, N) in enumerate(SIZES):
        x, v = current(T, B, N, dtype, seed)
        node, leak = spikingjelly(kind, tau, dtype)
        node.v = v.clone()
        expected = node(x)
        spikes, last = lif.fire(x, v, v_threshold=1.0, alpha=5.0, **leak)
        assert torch.equal(spikes, expected)
        assert torch.equal(last, node.v)


@needs_numba
@SINGLE_AND_DOUBLE
@pytest.mark.parametrize("kind", ["lif", "plif"])
def test_membranes_equal_spikingjellys(dtype, kind) -> None:
    for seed, (T, B, N) in enumerate(SIZES):
        x, v = current(T, B, N, dtype, seed)
        node, leak = spikingjelly(kind, 1.5, dtype)
        node.v_threshold, node.store_v_seq, node.v = math.inf, True, v.clone()
        node(x)
        assert torch.equal(lif.integrate(x, v, **leak), node.v_seq)


@needs_numba
@pytest.mark.parametrize("level", [0.0, 50.0, -50.0])
def test_silent_and_saturated_input(level) -> None:
    x = torch.full((63, 3, 140), level)
    spikes, last = lif.fire(x, 0.0, tau=1.5)
    assert torch.equal(spikes, (x >= 1).float())
    node, _ = spikingjelly("lif", 1.5, torch.float32)
    assert torch.equal(node(x), spikes)
    assert torch.equal(node.v, last)


def gradients(x, v, share, tau, *, plain):
    """Of x, v and share, from spikes, last membrane and the membrane of every step."""
    leaves = [a.detach().clone().requires_grad_() for a in (x, v, share)]
    x, v, share = leaves
    g = torch.Generator().manual_seed(1)
    pull, pull_v = (torch.randn(x.shape, generator=g, dtype=torch.float64).to(x) for _ in "12")
    if plain:
        spikes, membranes = lif.plain(x, v, share, tau, 1.0, 5.0)
        last, v_seq = membranes[-1], lif.plain(x, v, share, tau, math.inf, 1.0)[1]
    else:
        spikes, last = lif.fire(x, v, tau=tau, share=share, v_threshold=1.0, alpha=5.0)
        v_seq = lif.integrate(x, v, tau=tau, share=share)
    fired = (spikes * pull).sum() + (last * pull_v[0]).sum()
    held = (v_seq * pull_v).sum()
    return [*torch.autograd.grad(fired, leaves), *torch.autograd.grad(held, leaves)]


@needs_numba
@pytest.mark.parametrize(("T", "B", "N"), SIZES)
@pytest.mark.parametrize(("tau", "share"), [(1.5, 1.0), (1.0, 0.3)])
def test_gradients_equal_autograds_through_the_recurrence(T, B, N, tau, share) -> None:
    x, v = current(T, B, N)
    share = torch.tensor(share, dtype=torch.float64)
    ours, expected = (gradients(x, v, share, tau, plain=plain) for plain in (False, True))
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@needs_numba
@pytest.mark.parametrize("level", [-8.0, 0.0, 8.0])
def test_gradients_in_single_precision_stay_near_double(level) -> None:
    x, v = current(127, 3, 140, torch.float32)
    x = x + level  # silent, usual, saturated
    share = torch.tensor(0.7)
    expected = gradients(x.double(), v.double(), share.double(), 1.0, plain=True)
    ours = gradients(x, v, share, 1.0, plain=False)
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@needs_numba
def test_memory_order_of_the_input_does_not_matter() -> None:
    x, v = current(20, 3, 7)
    turned = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    turned_v = v.t().contiguous().t()
    share = torch.tensor(0.3, dtype=torch.float64)
    expected = gradients(x, v, share, 1.0, plain=False)
    for a, b in zip(gradients(turned, turned_v, share, 1.0, plain=False), expected, strict=True):
        assert torch.equal(a, b)


@SINGLE_AND_DOUBLE
@pytest.mark.parametrize("tau", [1.005, 3.0])
def test_the_plain_recurrence_serves_without_numba(monkeypatch, dtype, tau) -> None:
    x, v = current(63, 3, 140, dtype)
    share = torch.tensor(0.3, dtype=dtype)
    fast = [*lif.fire(x, v, tau=tau), lif.integrate(x, v, tau=tau, share=share)]
    monkeypatch.setattr(numba_jit, "available", lambda: False)
    slow = [*lif.fire(x, v, tau=tau), lif.integrate(x, v, tau=tau, share=share)]
    for a, b in zip(fast, slow, strict=True):
        assert torch.equal(a, b)
    assert 0.05 < slow[0].mean() < 0.5


def test_other_precisions_take_the_plain_recurrence() -> None:
    x = torch.full((3, 1, 1), 1.0, dtype=torch.bfloat16)
    assert lif.why_not(x) == "it needs float32 or float64"
    assert "GPUs" in lif.why_not(x.float().to("meta"))
    assert lif.fire(x, 0.0, tau=2.0)[0].sum() == 3
