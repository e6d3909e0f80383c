"""The way back of every neuron is the adjoint of its step."""

from __future__ import annotations

import pytest
import torch

from snn_delays.ops.resets import HARD
from snn_delays.ops.surrogates import ATAN, through
from snn_delays.runtime.specialise import specialise
from tests.ops.scan.neurons import NEURONS, VARIANTS, by_autograd, draw, some_cell

FIRING = [neuron for neuron in NEURONS if neuron.fires]
CELLS = [*((neuron, HARD, ATAN) for neuron in NEURONS if not neuron.fires)] + [
    (neuron, reset, surrogate) for neuron in FIRING for reset, surrogate in VARIANTS
]


@pytest.mark.parametrize(
    ("neuron", "reset", "surrogate"), CELLS, ids=lambda part: getattr(part, "name", None)
)
def test_back_is_what_autograd_makes_of_the_step(neuron, reset, surrogate) -> None:
    cell = some_cell(neuron, reset, surrogate)
    x, states, own, _, g_out, g_last = draw(neuron, 1, 40, 5)
    expected = by_autograd(cell, x, states, own, (), g_out, g_last)
    mine, theta = (*states, *own, *cell.numbers), cell.v_threshold
    u = neuron.charge(x[0], *mine)
    s = (u >= theta).double() if neuron.fires else u
    assert not neuron.fires or 0.1 < s.mean() < 0.9
    by_surrogate = specialise(through, __name__, back=surrogate.back)
    names = {"rest": reset.rest, "rest_back": reset.rest_back, "through": by_surrogate}
    back = specialise(neuron.back, __name__, **names)
    after = specialise(neuron.reset, __name__, rest=reset.rest)
    g_x, g_states, g_own = back(
        g_out[0], (u - theta, *cell.slope), x[0], u, s, theta, *mine, *g_last
    )
    ours = [s[None], *after(u, s, theta, *mine), g_x[None], *g_states, *(g.sum(0) for g in g_own)]
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
