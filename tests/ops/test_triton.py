"""Kernels for GPUs, in Triton's interpreter where there is none: against the plain versions."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import where
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from snn_delays.nn.neurons import build_neuron
from snn_delays.ops import scan, taps
from snn_delays.ops.maps import delayed_linear
from snn_delays.ops.neurons import LIF, Cell, Neuron
from snn_delays.ops.norm_neuron import norm_neuron, plain
from snn_delays.ops.surrogates import through
from snn_delays.ops.sync_batch_norm import PooledNorm
from snn_delays.runtime import distributed, triton_jit
from tests.ops.scan.neurons import (
    NEURONS,
    VARIANTS,
    by_autograd,
    by_loops,
    by_steps,
    current,
    draw,
    fire,
    gradients,
    integrate,
    some_cell,
    spikingjelly,
)
from tests.ops.synapses import synapses

ROOT = Path(__file__).parents[2]
SIZES = [(1, 3, 257), (2, 1, 140), (63, 3, 7), (9, 1, 1)]
AND_LONG = [*SIZES, pytest.param(127, 1, 140, marks=pytest.mark.slow)]
DEVICES = [
    pytest.param(
        "cpu",
        marks=pytest.mark.skipif(
            triton_jit.why_not(torch.ones(1)) is not None,
            reason="Triton is not installed, or does not interpret where there is a GPU",
        ),
    ),
    pytest.param("cuda", marks=pytest.mark.gpu(kernels=False)),  # the fixture "device" wants them
]
SINGLE_AND_DOUBLE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SETTINGS = {"eps": 1e-5, "cell": Cell(LIF, (1.005,))}


@pytest.fixture(params=DEVICES)
def place(request, monkeypatch):
    """Where kernels may run; they are taken on the CPU, too. Unwritten memory is NaN."""
    monkeypatch.setattr(triton_jit, "serves", lambda x: triton_jit.why_not(x) is None)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield request.param
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def device(place, launches):
    """Where kernels run; a test in which none did has failed."""
    yield place
    assert launches, "no Triton kernel ran"


def assert_as_near(ours, theirs, true) -> None:
    """At most twice the error of torch's own version in the same precision."""
    true = true.double().cpu()
    floor = 1e-7 if true.ndim else 1e-6  # the error of one number may be small by chance
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
        spikes, last = fire(x.to(device), v.to(device), **on)
        assert torch.equal(spikes.cpu(), expected)
        assert torch.equal(last.cpu(), node.v)
        slow, end = fire(x, v, compute=by_steps, **leak)
        assert torch.equal(slow, expected)
        assert torch.equal(last.cpu(), end)


@SINGLE_AND_DOUBLE
@pytest.mark.parametrize("kind", ["lif", "plif"])
def test_membranes_equal_spikingjellys(device, dtype, kind) -> None:
    for seed, (T, B, N) in enumerate(SIZES):
        x, v = current(T, B, N, dtype, seed)
        node, leak = spikingjelly(kind, 1.5, dtype)
        node.v_threshold, node.store_v_seq, node.v = math.inf, True, v.clone()
        node(x)
        on = {name: a.to(device) if name == "share" else a for name, a in leak.items()}
        assert torch.equal(integrate(x.to(device), v.to(device), **on).cpu(), node.v_seq)


@pytest.mark.parametrize(("T", "B", "N"), AND_LONG)
@pytest.mark.parametrize(("tau", "share"), [(1.5, None), (None, 0.3)])
def test_gradients_of_lif(device, T, B, N, tau, share) -> None:
    x, v = current(T, B, N)
    leak = {"tau": tau} if tau else {"share": torch.tensor(share, dtype=torch.float64)}
    expected = gradients(x, v, compute=by_steps, **leak)
    on = {name: a if name == "tau" else a.to(device) for name, a in leak.items()}
    ours = gradients(x.to(device), v.to(device), **on)
    for a, b in zip(ours, expected, strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("level", [-8.0, 0.0, 8.0])
def test_gradients_of_lif_in_single_precision(device, level) -> None:
    """Silent, usual, saturated."""
    x, v = current(63, 3, 7, torch.float32)
    x, share = x + level, torch.tensor(0.7)
    true = gradients(x.double(), v.double(), compute=by_steps, share=share.double())
    theirs = gradients(x, v, compute=by_steps, share=share)
    ours = gradients(x.to(device), v.to(device), share=share.to(device))
    for triple in zip(ours, theirs, true, strict=True):
        assert_as_near(*triple)


@pytest.mark.parametrize("level", [0.0, 50.0, -50.0])
def test_silent_and_saturated_lif(device, level) -> None:
    x = torch.full((5, 3, 140), level)
    spikes, last = fire(x.to(device), torch.zeros_like(x[0], device=device), tau=1.5)
    node, _ = spikingjelly("lif", 1.5, torch.float32)
    assert torch.equal(spikes.cpu(), node(x))
    assert torch.equal(last.cpu(), node.v)


CELLS = [*map(some_cell, NEURONS), *(some_cell(LIF, *variant) for variant in VARIANTS[1:])]


@pytest.mark.parametrize("dressed", [False, True])
@pytest.mark.parametrize("kind", CELLS, ids=lambda cell: "-".join(p.name for p in cell.kind))
@pytest.mark.parametrize(("T", "B", "N"), [(1, 3, 257), (7, 3, 7)])
def test_loops_are_the_plain_ones_of_every_neuron(device, kind, dressed, T, B, N) -> None:
    x, states, own, dress, *grads = draw(kind.neuron, T, B, N)
    parts = x, states, own, dress if dressed else (), *grads
    on = [[a.to(device) for a in p] if isinstance(p, list | tuple) else p.to(device) for p in parts]
    ours, expected = by_loops(scan.TRITON, kind, *on), by_autograd(kind, *parts)
    for a, b in zip(ours, expected, strict=True):
        assert_near(a, b)
    assert torch.equal(ours[0].cpu(), expected[0])


def _charge(x, v, share, gain):
    return v - v * share + x * gain


def _reset(u, s, theta, v, share, gain):
    return (where(s > 0.0, 0.0, u),)


def _back(g_s, spike, x, u, s, theta, v, share, gain, g_v):
    g = through(g_s, spike) + where(s > 0.0, 0.0, g_v)
    return g * gain, (g * (1.0 - share),), (-(g * v), g * x)


def test_one_parameter_may_be_a_number_and_another_one_of_each_neuron(device) -> None:
    kind = Neuron("two_parameters", _charge, _reset, _back, parameters=2)
    x, states, (share, gain), _, *grads = draw(kind, 7, 3, 7)
    expected = by_autograd(Cell(kind), x, states, [share[:1].expand(7), gain], (), *grads)
    own = [share[0].to(device), gain.to(device)]
    x, states, *grads = (part.to(device) for part in (x, states, *grads))
    ours = by_loops(scan.TRITON, Cell(kind), x, states, own, (), *grads)
    for a, b in zip(ours, expected, strict=True):
        assert_near(a, b)


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


def a_pull(T, B, C):
    """The gradient of the spikes."""
    g = torch.Generator().manual_seed(1)
    return torch.randn(T, B, C, generator=g, dtype=torch.float64)


def results(compute, y, gamma, beta, mask, pull=None):
    """All outputs and the gradients of y, gamma and beta."""
    leaves = [a.detach().clone().requires_grad_() for a in (y, gamma, beta)]
    out, mean, var, v = compute(*leaves, mask)
    pull = a_pull(*out.shape) if pull is None else pull
    grads = torch.autograd.grad(out, leaves, pull.to(out))
    assert not any(a.requires_grad for a in (mean, var, v))
    assert [a.dtype for a in grads] == [a.dtype for a in leaves]
    return [out.detach(), mean, var, v, *grads]


def by_kernels(y, *others):
    return norm_neuron(y, *others, **SETTINGS)


def by_torch(y, *others):
    return plain(y, *others, **SETTINGS)


def by_modules(y, gamma, beta, mask):
    """What torch's own BatchNorm and the plain recurrence make of it."""
    flat, stats = y.flatten(0, 1), (torch.zeros_like(gamma), torch.ones_like(gamma))
    x = F.batch_norm(flat, *stats, gamma, beta, training=True, momentum=1.0, eps=1e-5)
    x = x.view_as(y)
    spikes, v = fire(x, torch.zeros_like(x[0]), compute=by_steps, tau=1.005)
    var = y.detach().var((0, 1), unbiased=False)
    return spikes * mask, y.detach().mean((0, 1)), var, v.detach()[None]


@pytest.mark.parametrize(("T", "B", "C"), [*AND_LONG, (63, 3, 140)])
def test_the_plain_norm_neuron_is_what_modules_compute(T, B, C) -> None:
    if T * B < 2:
        pytest.skip("torch's BatchNorm wants two numbers")
    parts = layer(T, B, C)
    for a, b in zip(results(by_torch, *parts), results(by_modules, *parts), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize(("T", "B", "C"), AND_LONG)
def test_norm_neuron(device, T, B, C) -> None:
    parts = layer(T, B, C)
    ours = results(by_kernels, *(a.to(device) for a in parts))
    for a, b in zip(ours, results(by_torch, *parts), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("T", "B", "C"),
    [(63, 3, 7), (2, 3, 257), pytest.param(127, 1, 140, marks=pytest.mark.slow)],
)
def test_norm_neuron_in_lower_precision(device, dtype, T, B, C) -> None:
    parts = layer(T, B, C, dtype)
    true = results(by_torch, *(a.double() for a in parts))
    theirs = results(by_torch, *parts)
    ours = results(by_kernels, *(a.to(device) for a in parts))
    assert [a.dtype for a in ours] == [a.dtype for a in theirs]
    assert torch.equal(ours[0].cpu(), true[0].to(dtype))
    for triple in zip(ours, theirs, true, strict=True):
        assert_as_near(*triple)


@SINGLE_AND_DOUBLE
def test_norm_neuron_rounds_as_spikingjelly(device, dtype) -> None:
    """With a norm that rounds nothing, the spikes are the node's bit by bit."""
    x, _ = current(63, 3, 7, dtype)
    norm = torch.stack((torch.zeros(7), torch.ones(7), torch.zeros(7))).to(dtype)
    mask = torch.ones(3, 7, dtype=dtype)
    for tau in (1.005, 1.5, 17.3):
        node, _ = spikingjelly("lif", tau, dtype)
        s, v = torch.empty_like(x, device=device), torch.empty_like(mask, device=device)
        y, *dress = (a.to(device) for a in (x, norm, mask))
        cell = Cell(LIF, (tau,))
        scan.TRITON.scan(cell, y, v[None], (), dress, s, at_rest=True)
        assert torch.equal(s.cpu(), node(x))
        assert torch.equal(v.cpu(), node.v)


@pytest.mark.parametrize("level", [-50.0, 0.0, 50.0])
def test_silent_and_saturated_norm_neuron(device, level) -> None:
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
    single = [a[..., varies] for a in single]
    ours = results(by_kernels, *(a.to(device) for a in single))
    for a, b in zip(ours, results(by_torch, *(a.double() for a in single)), strict=True):
        assert (a.cpu() - b).norm() <= 1e-6 * b.norm()


def pooled(y, gamma, beta, mask):
    return PooledNorm.apply(y, gamma, beta, 1e-5)


@pytest.mark.parametrize("compute", [by_kernels, pooled])
def test_no_gradients_are_made_for_outputs_that_have_none(place, compute) -> None:
    out, *_ = compute(*(a.to(place).requires_grad_() for a in layer(5, 3, 7)))
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        out.backward(torch.ones_like(out))
    assert "aten::zeros" not in {event.name for event in seen.events()}


def test_memory_order_does_not_matter(device) -> None:
    parts = [a.to(device) for a in layer(20, 3, 7)]
    turned = [parts[0].permute(1, 2, 0).contiguous().permute(2, 0, 1), *parts[1:3]]
    turned.append(parts[3].t().contiguous().t())
    for a, b in zip(results(by_kernels, *turned), results(by_kernels, *parts), strict=True):
        assert torch.equal(a, b)


# ---- several processes -------------------------------------------------------------------------


def in_two_processes(device, compute, parts) -> list[list[torch.Tensor]]:
    """What each of two processes computes that have parts of the batch and sum over both.

    They take turns in one: each sum over processes is found by running both again with the sums
    that are known so far, until none is missing.
    """
    known: list[torch.Tensor] = []
    whole = sum(part[0].shape[1] for part in parts)

    def run(part):
        mine = []

        def all_reduce(local):
            mine.append(local.clone())
            at = len(mine) - 1
            return local.copy_(known[at]) if at < len(known) else local

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(distributed, "all_reduce", all_reduce)
            with distributed.sharing(distributed.Part(slice(0, part[0].shape[1]), whole)):
                return results(compute, *(a.to(device) for a in part)), mine

    while True:
        (one, ones), (two, twos) = (run(part) for part in parts)
        assert len(ones) == len(twos)
        if len(known) == len(ones):
            return [one, two]
        at = len(known)
        known.append(ones[at] + twos[at])


@pytest.mark.parametrize("compute", [by_kernels, by_torch])
def test_two_processes_norm_as_one(place, compute, launches) -> None:
    y, gamma, beta, mask = layer(20, 5, 7)
    pull = a_pull(20, 5, 7)
    parts = slice(0, 2), slice(2, 5)
    halves = [(y[:, part], gamma, beta, mask[part], pull[:, part]) for part in parts]
    one, two = in_two_processes(place, compute, halves)
    assert bool(launches) == (compute is by_kernels)
    ours = [torch.cat((one[0], two[0]), 1), one[1], one[2], torch.cat((one[3], two[3]), 1)]
    ours += [torch.cat((one[4], two[4]), 1), one[5] + two[5], one[6] + two[6]]
    whole = results(by_torch, y, gamma, beta, mask, pull)
    for a, b in zip(ours, whole, strict=True):
        assert_near(a, b)
    assert torch.equal(one[1], two[1])


# ---- taps --------------------------------------------------------------------------------------


def parameters(shape, taps, dtype=torch.float64):
    """Weights and delays [O, I, C], the first and the last delay among them."""
    g = torch.Generator().manual_seed(sum(shape))
    weight = torch.randn(shape, generator=g, dtype=torch.float64)
    delay = torch.rand(shape, generator=g, dtype=torch.float64) * (taps - 1)
    delay[0, 0, 0] = 0
    delay[-1, -1, -1] = taps - 1
    return weight.to(dtype), delay.to(dtype)


def taps_and_gradients(compute, weight, delay, sigma, taps, reach, shape="gauss"):
    leaves = [a.detach().clone().requires_grad_() for a in (weight, delay)]
    out = compute(synapses(*leaves, sigma, taps, shape), reach)
    g = torch.Generator().manual_seed(1)
    pull = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out)
    return out.detach(), *torch.autograd.grad(out, leaves, pull, allow_unused=True)


def defined(synapses, reach):
    return synapses.kernel()[:reach]


KERNELS = [("gauss", None), ("gauss", 0.5), ("gauss", 12.27), ("triangle", 1.0), ("triangle", 7.3)]


TAPS = [
    *[((1, 1, 1), 1, 1), ((7, 20, 1), 25, 25), ((13, 30, 2), 9, 9), ((2, 3, 3), 31, 5)],
    *[((5, 9, 17), 5, 5), ((1, 2, 300), 3, 3)],  # more than a program of all lanes can hold
]


@pytest.mark.parametrize(("shape", "count", "reach"), TAPS)
@pytest.mark.parametrize(("kernel", "sigma"), KERNELS)
def test_taps(place, shape, count, reach, kernel, sigma, launches) -> None:
    parts = parameters(shape, count)
    expected = taps_and_gradients(defined, *parts, sigma, count, reach, kernel)
    on = [a.to(place) for a in parts]
    ours = taps_and_gradients(taps.delay_taps, *on, sigma, count, reach, kernel)
    for a, b in zip(ours, expected, strict=True):
        assert a is b is None or torch.allclose(a.cpu(), b, rtol=1e-10, atol=1e-12)
    assert bool(launches) == (sigma is not None)


@pytest.mark.parametrize(("shape", "count", "reach"), TAPS)
@pytest.mark.parametrize(("kernel", "sigma"), KERNELS[1:])
def test_taps_in_single_precision(device, shape, count, reach, kernel, sigma) -> None:
    parts, how = parameters(shape, count, torch.float32), (sigma, count, reach, kernel)
    true = taps_and_gradients(defined, *(a.double() for a in parts), *how)
    theirs = taps_and_gradients(defined, *parts, *how)
    on = [a.to(device) for a in parts]
    ours = taps_and_gradients(taps.delay_taps, *on, *how)
    for triple in zip(ours, theirs, true, strict=True):
        assert_as_near(*triple)


@pytest.mark.parametrize("shared", [(7, 20, 2), (1, 20, 2), (7, 1, 1)], ids=str)
def test_parameters_are_read_and_gradients_written_where_they_lie(device, shared) -> None:
    """Inputs and outputs exchanged, delays shared: nothing is copied on the way."""
    weight, delay = parameters((7, 20, 2), 9)
    delay = delay[tuple(map(slice, shared))]
    expected = taps_and_gradients(defined, weight, delay, 2.0, 9, 7)
    mine = synapses(weight.to(device), delay.to(device), 2.0, 9).transposed()
    out = taps.weighted_taps(mine, 7)
    assert_near(out.transpose(1, 2), expected[0])
    g = torch.Generator().manual_seed(1)
    pull = torch.randn((7, 7, 20), generator=g, dtype=torch.float64).to(device)
    found = taps.gradients(mine, pull.transpose(1, 2).contiguous())
    for a, b in zip(found, expected[1:], strict=True):
        assert a.transpose(0, 1).is_contiguous()
        assert_near(a.transpose(0, 1), b)


@pytest.mark.parametrize("backend", ["dense", "fft", "matmul"])
def test_every_backend_makes_its_taps_by_the_kernels(device, backend, launches) -> None:
    weight, delay = parameters((7, 20, 2), 9)
    x = torch.rand(11, 3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for place, name in ((device, backend), ("cpu", "reference")):
        leaves = [a.detach().to(place).requires_grad_() for a in (x, weight, delay)]
        mine = synapses(leaves[1], leaves[2], 2.0, 9)
        y = delayed_linear(leaves[0], mine, extra_steps=2, backend=name)
        found.append([y.detach(), *torch.autograd.grad(y, leaves, torch.ones_like(y))])
        assert launches == ["_weighted", "_gradient"]
    for a, b in zip(*found, strict=True):
        assert_near(a, b)


@SINGLE_AND_DOUBLE
@pytest.mark.parametrize(("kernel", "sigma"), KERNELS)
@pytest.mark.parametrize("shared", [(13, 30, 2), (1, 30, 2), (13, 1, 1)], ids=str)
def test_taps_where_kernels_for_gpus_do_not_serve(dtype, kernel, sigma, shared) -> None:
    weight, delay = parameters((13, 30, 2), 9, dtype)
    parts = weight, delay[tuple(map(slice, shared))]
    true = taps_and_gradients(defined, *(a.double() for a in parts), sigma, 9, 7, kernel)
    ours = taps_and_gradients(taps.delay_taps, *parts, sigma, 9, 7, kernel)
    for a, b in zip(ours, true, strict=True):
        assert a is b is None or (a - b).norm() <= 1e-5 * b.norm()


# ---- where kernels run -------------------------------------------------------------------------


def test_tensors_of_the_cpu_are_left_to_its_own_kernels() -> None:
    assert not triton_jit.serves(torch.ones(1))
    assert scan.loops(torch.ones(1)) is scan.NUMBA


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
def test_what_cannot_be_served_says_why(place, name, monkeypatch) -> None:
    x = torch.ones(1, dtype=getattr(torch, name), device=place)
    assert triton_jit.why_not(x) is None
    assert triton_jit.why_not(x.half()) == "it needs float32, float64 or bfloat16"
    assert "GPUs" in triton_jit.why_not(x.to("meta"))
    monkeypatch.setattr(triton_jit, "triton", None)
    assert triton_jit.why_not(x) == triton_jit.MISSING


def test_why_triton_cannot_compile_is_said(monkeypatch) -> None:
    class CompilationError(Exception):
        """As Triton's."""

        error_message = "NameError: no such global\nin a kernel"

    def launch(*arguments, **options):
        raise RuntimeError("no kernel") from CompilationError("at 1:13:\ndef _fill(x: Any")

    monkeypatch.setattr(triton_jit, "launch", launch)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    said = triton_jit._why_not_there.__wrapped__(torch.device("cpu"))
    assert said == "Triton cannot compile here (CompilationError: NameError: no such global)"


def run(code: str, *arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_everything_works_without_triton() -> None:
    run("""
import sys
sys.modules["triton"] = None
import torch
from snn_delays.ops import norm_neuron, taps
from snn_delays.ops.neurons import LIF, Cell, Neuron
from snn_delays.ops.surrogates import through
from snn_delays.ops.scan import scan
from snn_delays.runtime import triton_jit
assert triton_jit.why_not(torch.ones(1)).startswith("triton is not installed")
y = torch.randn(5, 2, 3, requires_grad=True)
channel, mask = torch.ones(3), torch.ones(2, 3)
settings = dict(eps=1e-5, cell=Cell(LIF, (1.5,)))
norm_neuron.norm_neuron(y, channel, channel, mask, **settings)[0].sum().backward()
assert y.grad.isfinite().all() and y.grad.any()
scan(y, Cell(LIF, (1.5,)))
from tests.ops.synapses import synapses
one = torch.ones(2, 3, 1)
assert taps.delay_taps(synapses(one, one, 0.5, 9), 9).shape == (9, 2, 3)
""")


@pytest.mark.slow
@pytest.mark.skipif(triton_jit.triton is None, reason="Triton is not installed")
def test_kernels_compile_for_an_h100(tmp_path) -> None:
    """The code made for it, without one: what steps read comes ahead, and no product is fused."""
    code = (ROOT / "tests" / "ops" / "compile_kernels.py").read_text("utf-8")
    printed = run(code, "90", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))
    found = [(name, of, *map(int, n)) for name, of, _, *n in map(str.split, printed.splitlines())]
    assert {name for name, *_ in found} == {
        *("_fill", "_scan", "_scan_gradient"),
        *("_sums", "_statistics", "_factors", "_norm_gradient", "_weighted", "_gradient"),
        *("_convolve", "_correlate"),
    }
    for name, of, _, stack, barriers, fused, ahead, rounded in found:
        # of fused products an exponential in double precision is made, and filters sum by them
        scans = name not in ("_weighted", "_gradient", "_convolve", "_correlate")
        assert (stack, fused * scans, rounded) == (0, 0, 0), (name, of)
        if of == "112,256,256" or not scans:
            assert (ahead > 0) == scans, (name, of)
        assert barriers < 30, (name, of)  # 58 where a second loop's addresses are the first one's
