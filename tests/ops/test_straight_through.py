"""Straight-through delays: forward the deployed map, and of the smooth one the delays' gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from snn_delays.ops.maps import BACKENDS, delayed_linear
from snn_delays.ops.taps import SHAPES, delay_taps
from tests.ops.synapses import synapses
from tests.ops.test_delay import case
from tests.ops.test_triton import device, place  # noqa: F401  fixtures

DELAYS = {"synaptic": slice(None), "axonal": (slice(1),), "dendritic": (slice(None), slice(1))}
TAPS = 9


def parts(kind, T=17, B=2, count=2):
    x, weight, delay = case(T, B, 6, 5, TAPS, count)
    return x, weight, delay[DELAYS[kind]].contiguous()


def results(backend, x, weight, delay, sigma, shape="gauss", *, straight_through=False):
    """y, and the gradients of x, weight and delay by a loss linear in y."""
    leaves = [a.clone().requires_grad_() for a in (x, weight, delay)]
    mine = replace(
        synapses(leaves[1], leaves[2], sigma, TAPS, shape), straight_through=straight_through
    )
    y = delayed_linear(leaves[0], mine, extra_steps=4, backend=backend)
    pull = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return y, *torch.autograd.grad(y, leaves, pull, allow_unused=True)


@pytest.mark.parametrize("kind", DELAYS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "event"])
def test_each_backend_computes_what_is_defined(kind, shape, backend) -> None:
    for T, B in ((1, 1), (2, 1), (17, 2)):
        mine = parts(kind, T, B)
        if backend == "depthwise" and kind == "synaptic":
            with pytest.raises(ValueError, match="inputs or outputs share"):
                results(backend, *mine, 2.0, shape, straight_through=True)
            return
        y, g_x, g_weight, g_delay = results(backend, *mine, 2.0, shape, straight_through=True)
        deployed = results("reference", *mine, None)
        smooth = results("reference", *mine, 2.0, shape)
        for ours, expected in zip((y, g_x, g_weight), deployed, strict=False):
            torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(g_delay, smooth[3], rtol=1e-9, atol=1e-9)


def test_events_refuse_them() -> None:
    with pytest.raises(ValueError, match="it needs rounded delays: evaluation, or fixed delays"):
        results("event", *parts("synaptic"), 2.0, straight_through=True)


@pytest.mark.parametrize("kind", DELAYS)
def test_taps_on_a_gpu(kind, device) -> None:  # noqa: F811
    _, weight, delay = parts(kind)
    found = []
    for where, make in ((device, lambda s: delay_taps(s, 7)), ("cpu", lambda s: s.kernel()[:7])):
        leaves = [a.detach().to(where).requires_grad_() for a in (weight, delay)]
        mine = replace(synapses(*leaves, 2.0, TAPS), straight_through=True)
        taps = make(mine)
        pull = torch.randn(taps.shape, generator=torch.Generator().manual_seed(1)).double()
        found.append([taps, *torch.autograd.grad(taps, leaves, pull.to(taps))])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours.cpu(), expected, rtol=1e-10, atol=1e-10)
