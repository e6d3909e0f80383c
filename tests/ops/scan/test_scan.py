"""Scans: spikes equal to SpikingJelly's, gradients near the plain recurrence."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from snn_delays.ops import scan
from snn_delays.ops.neurons import BLOCK_LIF, LIF
from snn_delays.runtime import numba_jit
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

SCANNED = [neuron for neuron in NEURONS if neuron != BLOCK_LIF]  # each takes seconds to compile
needs_numba = pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
SIZES = list(itertools.product([1, 2, 63, 127], [1, 3], [1, 7, 140, 257]))
SINGLE_AND_DOUBLE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


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
        spikes, last = fire(x, v, **leak)
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
        assert torch.equal(integrate(x, v, **leak), node.v_seq)


@needs_numba
@pytest.mark.parametrize("level", [0.0, 50.0, -50.0])
def test_silent_and_saturated_input(level) -> None:
    x = torch.full((63, 3, 140), level)
    spikes, last = fire(x, 0.0, tau=1.5)
    assert torch.equal(spikes, (x >= 1).float())
    node, _ = spikingjelly("lif", 1.5, torch.float32)
    assert torch.equal(node(x), spikes)
    assert torch.equal(node.v, last)


@needs_numba
@pytest.mark.parametrize(("T", "B", "N"), SIZES)
@pytest.mark.parametrize(("tau", "share"), [(1.5, None), (None, 0.3)])
def test_gradients_equal_autograds_through_the_recurrence(T, B, N, tau, share) -> None:
    x, v = current(T, B, N)
    leak = {"tau": tau} if tau else {"share": torch.tensor(share, dtype=torch.float64)}
    ours, expected = (gradients(x, v, compute=how, **leak) for how in (scan.scan, by_steps))
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


CELLS = [*((some_cell(neuron), False) for neuron in SCANNED), (some_cell(LIF), True)]
CELLS += [(some_cell(LIF, *variant), False) for variant in VARIANTS[1:]]


@needs_numba
@pytest.mark.parametrize(
    ("kind", "dressed"), CELLS, ids=lambda part: "-".join(p.name for p in getattr(part, "kind", ()))
)
@pytest.mark.parametrize(("T", "B", "N"), [(1, 3, 7), (2, 1, 257), (63, 3, 257)])
def test_loops_are_the_plain_ones_of_every_neuron(kind, dressed, T, B, N) -> None:
    x, states, own, dress, *grads = draw(kind.neuron, T, B, N)
    parts = x, states, own, dress if dressed else (), *grads
    ours, expected = by_loops(scan.NUMBA, kind, *parts), by_autograd(kind, *parts)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert torch.equal(ours[0], expected[0])


@needs_numba
@pytest.mark.parametrize("level", [-8.0, 0.0, 8.0])
def test_gradients_in_single_precision_stay_near_double(level) -> None:
    x, v = current(127, 3, 140, torch.float32)
    x = x + level  # silent, usual, saturated
    share = torch.tensor(0.7)
    expected = gradients(x.double(), v.double(), compute=by_steps, share=share.double())
    ours = gradients(x, v, share=share)
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@needs_numba
def test_memory_order_of_the_input_does_not_matter() -> None:
    x, v = current(20, 3, 7)
    turned = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    turned_v = v.t().contiguous().t()
    share = torch.tensor(0.3, dtype=torch.float64)
    expected = gradients(x, v, share=share)
    for a, b in zip(gradients(turned, turned_v, share=share), expected, strict=True):
        assert torch.equal(a, b)


@SINGLE_AND_DOUBLE
@pytest.mark.parametrize("tau", [1.005, 3.0])
def test_the_plain_recurrence_serves_without_numba(monkeypatch, dtype, tau) -> None:
    x, v = current(63, 3, 140, dtype)
    share = torch.tensor(0.3, dtype=dtype)
    fast = [*fire(x, v, tau=tau), integrate(x, v, share=share)]
    monkeypatch.setattr(numba_jit, "available", lambda: False)
    slow = [*fire(x, v, tau=tau), integrate(x, v, share=share)]
    for a, b in zip(fast, slow, strict=True):
        assert torch.equal(a, b)
    assert 0.05 < slow[0].mean() < 0.5


def test_other_precisions_take_the_plain_recurrence() -> None:
    x = torch.full((3, 1, 1), 1.0, dtype=torch.bfloat16)
    assert scan.why_not(x) == "it needs float32 or float64"
    assert "GPUs" in scan.why_not(x.float().to("meta"))
    assert fire(x, 0.0, tau=2.0)[0].sum() == 3
