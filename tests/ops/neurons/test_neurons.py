"""The way back of every neuron is the adjoint of its step."""

from __future__ import annotations

import pytest
import torch

from snn_delays.ops.neurons import atan
from tests.ops.scan.neurons import NEURONS, by_autograd, draw, some_cell


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda neuron: neuron.name)
def test_back_is_what_autograd_makes_of_the_step(neuron) -> None:
    cell = some_cell(neuron)
    x, states, own, _, g_out, g_last = draw(neuron, 1, 40, 5)
    expected = by_autograd(cell, x, states, own, (), g_out, g_last)
    mine = (*states, *own, *cell.numbers)
    u = neuron.charge(x[0], *mine)
    s = (u >= cell.v_threshold).double() if neuron.fires else u
    assert not neuron.fires or 0.1 < s.mean() < 0.9
    spike = u - cell.v_threshold, *cell.surrogate
    g_x, g_states, g_own = neuron.back(g_out[0], spike, x[0], u, s, *mine, *g_last)
    ours = [s[None], *neuron.reset(u, s, *mine), g_x[None], *g_states, *(g.sum(0) for g in g_own)]
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_surrogate_is_spikingjellys() -> None:
    from spikingjelly.activation_based import surrogate

    u = torch.linspace(-3, 3, 41, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(surrogate.ATan(alpha=5.0)(u).sum(), u)
    ours = atan.back(1.0, u.detach(), *atan.numbers(5.0))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    (soft,) = torch.autograd.grad(atan.soft(u, *atan.numbers(5.0)).sum(), u)
    torch.testing.assert_close(ours, soft, rtol=1e-12, atol=1e-12)
