"""Surrogates: each way back is the derivative of its soft function, and has the field's shape."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import surrogate as theirs

from snn_delays.ops.surrogates import SURROGATES

U = torch.linspace(-3, 3, 49, dtype=torch.float64)  # with the edges and the tips of all


@pytest.mark.parametrize("kind", SURROGATES.values(), ids=SURROGATES)
@pytest.mark.parametrize("alpha", [5.0, 0.7])
def test_back_is_the_derivative_of_soft(kind, alpha) -> None:
    u = U.clone().requires_grad_()
    (expected,) = torch.autograd.grad(kind.soft(u, *kind.numbers(alpha)).sum(), u)
    ours = kind.back(torch.ones_like(U), U, *kind.numbers(alpha))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", SURROGATES.values(), ids=SURROGATES)
def test_the_first_number_is_a_factor(kind) -> None:
    height, *others = kind.numbers(5.0)
    once, thrice = (kind.back(torch.ones_like(U), U, h, *others) for h in (height, 3 * height))
    torch.testing.assert_close(3 * once, thrice, rtol=1e-12, atol=0)
    assert once.any()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("triangle", lambda u: (1 - u.abs()).clamp(min=0)),
        ("boxcar", lambda u: ((u > -0.5) & (u <= 0.5)).double()),
        ("exponential", lambda u: 0.4 * 5 / 2 * (-5 * u.abs()).exp()),
    ],
)
def test_shapes(name, expected) -> None:
    kind = SURROGATES[name]
    ours = kind.back(torch.ones_like(U), U, *kind.numbers(5.0))
    torch.testing.assert_close(ours, expected(U), rtol=1e-12, atol=1e-12)


def test_atan_is_spikingjellys() -> None:
    u, kind = U.clone().requires_grad_(), SURROGATES["atan"]
    (expected,) = torch.autograd.grad(theirs.ATan(alpha=5.0)(u).sum(), u)
    ours = kind.back(1.0, U, *kind.numbers(5.0))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
