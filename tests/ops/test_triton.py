"""Kernels for GPUs, in Triton's interpreter where there is none: against the plain versions."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch.nn import functional as F

from snn_delays.nn.neurons import build_neuron
from snn_delays.ops import gpu, lif, norm_lif_triton, sums, taps
from snn_delays.ops.delay import delay_kernel_OID
from snn_delays.ops.norm_lif import NormLifSettings, norm_lif, plain
from tests.ops.test_lif import current, gradients, spikingjelly

ROOT = Path(__file__).parents[2]
SIZES = [(1, 3, 257), (2, 1, 140), (63, 3, 7), (127, 1, 1), (127, 1, 140)]
NO_GPU = "there is no GPU"
DEVICES = [
    pytest.param(
        "cpu",
        marks=pytest.mark.skipif(
            gpu.why_not(torch.ones(1)) is not None,
            reason="Triton is not installed, or does not interpret",
        ),
    ),
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
        ],
    ),
]
SINGLE_AND_DOUBLE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SETTINGS = NormLifSettings(eps=1e-5, tau=1.005, v_threshold=1.0, alpha=5.0)


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    """Where kernels run; they are taken on the CPU, too. Unwritten memory is NaN."""
    monkeypatch.setattr(gpu, "serves", lambda x: gpu.why_not(x) is None)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield request.param
    torch.use_deterministic_algorithms(before)


def assert_as_near(ours, theirs, true, floor=1e-6) -> None:
    """At most twice the error of torch's own version in the same precision."""
    true = true.double().cpu()
    error, of_torch = ((a.double().cpu() - true).norm() for a in (ours, theirs))
    assert error <= 2 * of_torch + floor * true.norm()


def assert_near(ours, true, tolerance=1e-11) -> None:
    torch.testing.assert_close(ours.cpu(), true.cpu(), rtol=tolerance, atol=tolerance)


# ---- LIF ---------------------------------------------------------------------------------------


@SINGLE_AND_DOUBLE
@pytest.mark.parametrize(("kind", "tau"), [("lif", 1.005), ("lif", 5.56), ("plif", 3.0)])
def test_spikes_equal_spikingjellys_and_the_plain_recurrences(device, dtype, kind, tau) -> None:
    for seed, (T, B, N) in enumerate(SIZES):
        x, v = current(T, B, N, dtype, seed)
        node, leak = spikingjelly(kind, tau, dtype)
        node.v = v.clone()
        expected = node(x)
        on = {name: a.to(device) if name == "share" else a for name, a in leak.items()}
        spikes, last = lif.fire(x.to(device), v.to(device), **on)
        assert torch.equal(spikes.cpu(), expected)
        assert torch.equal(last.cpu(), node.v)
        share = leak.get("share", torch.ones((), dtype=dtype))
        slow, v_seq = lif.plain(x, v, share, leak.get("tau", 1.0), 1.0, 5.0)
        assert torch.equal(slow, expected)
        assert torch.equal(last.cpu(), v_seq[-1])


@SINGLE_AND_DOUBLE
@pytest.mark.parametrize("kind", ["lif", "plif"])
def test_membranes_equal_spikingjellys(device, dtype, kind) -> None:
    for seed, (T, B, N) in enumerate(SIZES):
        x, v = current(T, B, N, dtype, seed)
        node, leak = spikingjelly(kind, 1.5, dtype)
        node.v_threshold, node.store_v_seq, node.v = math.inf, True, v.clone()
        node(x)
        on = {name: a.to(device) if name == "share" else a for name, a in leak.items()}
        assert torch.equal(lif.integrate(x.to(device), v.to(device), **on).cpu(), node.v_seq)


@pytest.mark.parametrize(("T", "B", "N"), SIZES)
@pytest.mark.parametrize(("tau", "share"), [(1.5, 1.0), (1.0, 0.3)])
def test_gradients_of_lif(device, T, B, N, tau, share) -> None:
    x, v = current(T, B, N)
    share = torch.tensor(share, dtype=torch.float64)
    expected = gradients(x, v, share, tau, plain=True)
    ours = gradients(*(a.to(device) for a in (x, v, share)), tau, plain=False)
    for a, b in zip(ours, expected, strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("level", [-8.0, 0.0, 8.0])
def test_gradients_of_lif_in_single_precision(device, level) -> None:
    """Silent, usual, saturated."""
    x, v = current(63, 3, 7, torch.float32)
    x, share = x + level, torch.tensor(0.7)
    true = gradients(x.double(), v.double(), share.double(), 1.0, plain=True)
    theirs = gradients(x, v, share, 1.0, plain=True)
    ours = gradients(*(a.to(device) for a in (x, v, share)), 1.0, plain=False)
    for triple in zip(ours, theirs, true, strict=True):
        assert_as_near(*triple)


@pytest.mark.parametrize("level", [0.0, 50.0, -50.0])
def test_silent_and_saturated_lif(device, level) -> None:
    x = torch.full((5, 3, 140), level)
    spikes, last = lif.fire(x.to(device), 0.0, tau=1.5)
    node, _ = spikingjelly("lif", 1.5, torch.float32)
    assert torch.equal(spikes.cpu(), node(x))
    assert torch.equal(last.cpu(), node.v)


@pytest.mark.parametrize("kind", ["lif", "plif"])
def test_nodes_take_the_kernels(device, kind, monkeypatch) -> None:
    asked = {"tau": 3.0, "v_threshold": 1.0, "surrogate_alpha": 5.0, "store_membrane": False}
    ours = build_neuron(kind, **asked).to(device)
    theirs, _ = spikingjelly(kind, 3.0, torch.float32)
    x, _ = current(20, 2, 9, torch.float32)
    monkeypatch.setattr(neuron.BaseNode, "multi_step_forward", None)
    spikes = ours(x.to(device))
    monkeypatch.undo()
    assert torch.equal(spikes.cpu(), theirs(x))


# ---- BatchNorm, LIF, dropout -------------------------------------------------------------------


def layer(T, B, C, dtype=torch.float64, seed=0):
    """y, gamma, beta, mask: about a third of the steps fire."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randn(T, B, C, generator=g, dtype=torch.float64) * 3 + 2
    gamma, beta = (torch.rand(C, generator=g, dtype=torch.float64) + 0.5 for _ in "12")
    mask = (torch.rand(B, C, generator=g, dtype=torch.float64) > 0.4) / 0.6
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    return y.to(dtype), gamma.to(wide), beta.to(wide), mask.to(wide)


def results(compute, y, gamma, beta, mask):
    """All outputs and the gradients of y, gamma and beta."""
    leaves = [a.detach().clone().requires_grad_() for a in (y, gamma, beta)]
    out, mean, var, v = compute(*leaves, mask)
    g = torch.Generator().manual_seed(1)
    pull = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.device, out.dtype)
    grads = torch.autograd.grad(out, leaves, pull)
    assert not any(a.requires_grad for a in (mean, var, v))
    assert [a.dtype for a in grads] == [a.dtype for a in leaves]
    return [out.detach(), mean, var, v, *grads]


def by_kernels(y, *others):
    return norm_lif(y, *others, **vars(SETTINGS))


def by_torch(y, *others):
    return plain(y, *others, SETTINGS)


def by_modules(y, gamma, beta, mask):
    """What torch's own BatchNorm and the plain recurrence make of it."""
    flat, stats = y.flatten(0, 1), (torch.zeros_like(gamma), torch.ones_like(gamma))
    x = F.batch_norm(flat, *stats, gamma, beta, training=True, momentum=1.0, eps=SETTINGS.eps)
    x = x.view_as(y)
    one = x.new_ones(())
    spikes, v_seq = lif.plain(x, torch.zeros_like(x[0]), one, SETTINGS.tau, 1.0, SETTINGS.alpha)
    var = y.detach().var((0, 1), unbiased=False)
    return spikes * mask, y.detach().mean((0, 1)), var, v_seq[-1].detach()


@pytest.mark.parametrize(("T", "B", "C"), [*SIZES, (63, 3, 140)])
def test_the_plain_norm_lif_is_what_modules_compute(T, B, C) -> None:
    if T * B < 2:
        pytest.skip("torch's BatchNorm wants two numbers")
    parts = layer(T, B, C)
    for a, b in zip(results(by_torch, *parts), results(by_modules, *parts), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize(("T", "B", "C"), SIZES)
def test_norm_lif(device, T, B, C) -> None:
    parts = layer(T, B, C)
    ours = results(by_kernels, *(a.to(device) for a in parts))
    for a, b in zip(ours, results(by_torch, *parts), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("T", "B", "C"), [(63, 3, 7), (127, 1, 140), (2, 3, 257)])
def test_norm_lif_in_lower_precision(device, dtype, T, B, C) -> None:
    parts = layer(T, B, C, dtype)
    true = results(by_torch, *(a.double() for a in parts))
    theirs = results(by_torch, *parts)
    ours = results(by_kernels, *(a.to(device) for a in parts))
    assert [a.dtype for a in ours] == [a.dtype for a in theirs]
    assert torch.equal(ours[0].cpu(), true[0].to(dtype))
    for triple in zip(ours, theirs, true, strict=True):
        assert_as_near(*triple)


@SINGLE_AND_DOUBLE
def test_norm_lif_rounds_as_spikingjelly(device, dtype) -> None:
    """With a norm that rounds nothing, the spikes are the node's bit by bit."""
    x, _ = current(63, 3, 7, dtype)
    norm = torch.stack((torch.zeros(7), torch.ones(7), torch.zeros(7))).to(dtype)
    mask = torch.ones(3, 7, dtype=dtype)
    for tau in (1.005, 1.5, 17.3):
        node, _ = spikingjelly("lif", tau, dtype)
        s, v = torch.empty_like(x, device=device), torch.empty_like(mask, device=device)
        norm_lif_triton.fire(*(a.to(device) for a in (x, norm, mask)), tau, 1.0, s, v)
        assert torch.equal(s.cpu(), node(x))
        assert torch.equal(v.cpu(), node.v)


@pytest.mark.parametrize("level", [-50.0, 0.0, 50.0])
def test_silent_and_saturated_norm_lif(device, level) -> None:
    y, gamma, beta, mask = layer(20, 3, 7)
    parts = y, gamma, torch.full_like(beta, level), mask
    ours = results(by_kernels, *(a.to(device) for a in parts))
    for a, b in zip(ours, results(by_torch, *parts), strict=True):
        assert_near(a, b)


def test_a_constant_channel_and_one_far_from_zero(device) -> None:
    y, *others = layer(63, 3, 7)
    y = y * 1e-3 + 100
    y[:, :, 3] = 5.0
    true = results(by_torch, y, *others)
    ours = results(by_kernels, *(a.to(device) for a in (y, *others)))
    for a, b in zip(ours, true, strict=True):
        assert_near(a, b, 1e-8)
    single = [a.float() for a in (y, *others)]
    varies = torch.arange(7) != 3
    _, mean, var, *_ = by_kernels(*(a.to(device) for a in single))
    wide = single[0].double()
    assert_near(mean, wide.mean((0, 1)), 1e-8)
    assert ((var.cpu() / wide.var((0, 1), unbiased=False) - 1).abs() <= 1e-5)[varies].all()


def test_memory_order_does_not_matter(device) -> None:
    parts = [a.to(device) for a in layer(20, 3, 7)]
    turned = [parts[0].permute(1, 2, 0).contiguous().permute(2, 0, 1), *parts[1:3]]
    turned.append(parts[3].t().contiguous().t())
    for a, b in zip(results(by_kernels, *turned), results(by_kernels, *parts), strict=True):
        assert torch.equal(a, b)
