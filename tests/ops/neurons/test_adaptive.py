"""The adaptive neuron against its sources, a linear filter, LIF and finite differences."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from scipy import signal

from snn_delays.ops.neurons import ADAPTIVE, ADAPTIVE_AFTER, LIF, Cell
from snn_delays.ops.resets import RESETS
from snn_delays.ops.scan import plain
from snn_delays.ops.surrogates import ATAN, SURROGATES
from snn_delays.runtime.specialise import specialise
from tests.ops.scan.neurons import some_cell

KINDS = pytest.mark.parametrize("kind", [ADAPTIVE, ADAPTIVE_AFTER], ids=lambda kind: kind.name)
SOFT, HARD = RESETS["soft", False], RESETS["hard", True]


def draw(T=63, B=2, N=5, seed=0):
    """Input that makes some steps fire; al, be, a and b within the published bounds."""
    g = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(T, B, N, generator=g, dtype=torch.float64) + 1
    share = torch.rand(4, N, generator=g, dtype=torch.float64)
    return x, (0.4 + 0.5 * share[0], 0.96 + 0.03 * share[1], 2 * share[2] - 1, 2 * share[3])


def zeros(x, states=2):
    return (torch.zeros_like(x[0]),) * states


def as_sparch(x, al, be, a, b):
    """W moves first, by the membrane and the spike of the step before."""
    u, w, s = (torch.zeros_like(x[0]) for _ in "uws")
    out = []
    for current in x:
        w = be * w + a * u + b * s
        u = al * (u - s) + (1 - al) * (current - w)
        s = (u >= 1).double()
        out.append(s)
    return torch.stack(out)


def as_se_adlif(x, al, be, a, b):
    """The membrane is set to 0 before w moves."""
    u, w = zeros(x)
    out = []
    for current in x:
        u = al * u + (1 - al) * (current - w)
        s = (u >= 1).double()
        u = u * (1 - s)
        w = be * w + a * u + b * s
        out.append(s)
    return torch.stack(out)


@pytest.mark.parametrize(
    ("cell", "published"),
    [(Cell(ADAPTIVE, reset=SOFT), as_sparch), (Cell(ADAPTIVE_AFTER, reset=HARD), as_se_adlif)],
)
def test_spikes_equal_those_of_the_sources(cell, published) -> None:
    x, own = draw()
    spikes, _ = plain.scan(cell, x, zeros(x), own)
    assert 0.05 < spikes.mean() < 0.5
    assert torch.equal(spikes, published(x, *own))


@KINDS
def test_without_a_threshold_it_is_a_linear_filter(kind) -> None:
    """``u[t] = (al + be - (1 - al) a) u[t-1] - al be u[t-2] + (1 - al) (x[t] - be x[t-1])``."""
    x, own = draw(N=1)
    (al, be, a, _) = (p.item() for p in own)
    _, (u, _) = plain.scan(Cell(kind, v_threshold=math.inf, reset=HARD), x, zeros(x), own)
    c = 1 - al
    poles = [1, -(al + be) + c * a, al * be]
    expected = signal.lfilter([c, -c * be], poles, x.numpy(), axis=0)[-1]
    np.testing.assert_allclose(u.numpy(), expected, rtol=1e-12, atol=1e-12)


@KINDS
@pytest.mark.parametrize("reset", RESETS.values(), ids=lambda reset: reset.name)
def test_without_adaptation_it_is_lif(kind, reset) -> None:
    lif = some_cell(LIF, reset)
    (tau,) = lif.numbers
    x, own = draw()
    al, none = torch.full_like(own[0], 1 - 1 / tau), torch.zeros_like(own[0])
    cell = Cell(kind, (), lif.v_threshold, reset=reset)
    spikes, (v, w) = plain.scan(cell, x / (1 - al), zeros(x), (al, own[1], none, none))
    expected, (last,) = plain.scan(lif, x, zeros(x, 1))
    assert torch.equal(spikes, expected)
    assert not w.any()
    torch.testing.assert_close(v, last, rtol=1e-12, atol=1e-12)


def _sigmoid_back(g, u, height):
    s = torch.sigmoid(u)
    return g * height * s * (1.0 - s)


class _Smooth(torch.autograd.Function):
    """The scan with a sigmoid for a spike, and the neuron's own way back."""

    @staticmethod
    def forward(ctx, kind, x, r, w, *own):
        states, kept, out = (r, w), [], []
        reset = specialise(kind.reset, __name__, rest=SOFT.rest)
        for current in x:
            kept.append(states)
            u = kind.charge(current, *states, *own)
            s = torch.sigmoid(u - 1.0)
            states = reset(u, s, 1.0, *states, *own)
            out.append(s)
        ctx.kind, ctx.kept = kind, kept
        ctx.save_for_backward(x, *own)
        return torch.stack(out), *states

    @staticmethod
    def backward(ctx, g_out, *g_states):
        x, *own = ctx.saved_tensors
        through = functools.partial(lambda g, spike: _sigmoid_back(g, *spike))
        names = {"rest": SOFT.rest, "rest_back": SOFT.rest_back, "through": through}
        back = specialise(ctx.kind.back, __name__, **names)
        g_x, g_own = torch.empty_like(x), [torch.zeros_like(p) for p in own]
        for t in range(len(x) - 1, -1, -1):
            u = ctx.kind.charge(x[t], *ctx.kept[t], *own)
            s = torch.sigmoid(u - 1.0)
            mine = (*ctx.kept[t], *own, *g_states)
            g_x[t], g_states, of_own = back(g_out[t], (u - 1.0, 1.0), x[t], u, s, 1.0, *mine)
            g_own = [g + of.sum(0) for g, of in zip(g_own, of_own, strict=True)]
        return None, g_x, *g_states, *g_own


@KINDS
def test_gradients_are_finite_differences_where_a_sigmoid_fires(kind) -> None:
    x, own = draw(T=5, B=2, N=3)
    leaves = [a.clone().requires_grad_() for a in (x, *zeros(x), *own)]
    assert torch.autograd.gradcheck(functools.partial(_Smooth.apply, kind), leaves)


@KINDS
@pytest.mark.parametrize("reset", [SOFT, HARD], ids=lambda reset: reset.name)
@pytest.mark.parametrize("surrogate", [SURROGATES["boxcar"], ATAN], ids=lambda kind: kind.name)
def test_all_states_pass_gradients_on(kind, reset, surrogate) -> None:
    """The last states' gradients reach the first step's input and the first states."""
    x, own = draw(T=3)
    leaves = [a.clone().requires_grad_() for a in (x, *zeros(x), *own)]
    cell = Cell(kind, reset=reset, surrogate=surrogate)
    _, (_, w) = plain.scan(cell, leaves[0], leaves[1:3], leaves[3:])
    grads = torch.autograd.grad(w.sum(), leaves)
    assert all(g.any() for g in grads)
