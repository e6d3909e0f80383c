"""The roundings of weights and delays."""

from __future__ import annotations

import pytest
import torch

from snn_delays.nn.rounding import LEVELS, Rounding, round_delays, round_weights


@pytest.mark.parametrize("levels", [1, 7, 127, 32767])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_numbers_and_steps(levels, shared, dtype) -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 7, 3, dtype=dtype)
    weight[1] = 0
    weight[2, :, 1] = 0
    whole, step = round_weights(weight, levels, shared=shared)
    assert step.shape == ((1, 1, 1) if shared else (5, 1, 1))
    assert torch.equal(whole, whole.round())
    assert whole.abs().max() == levels
    assert not whole[1].any()
    assert not whole[2, :, 1].any()
    error = (whole * step - weight).square().sum()
    largest = weight.abs().amax(None if shared else (1, 2), keepdim=True).clamp_min(1e-30)
    usual = (weight / largest * levels).round() / levels * largest
    assert error <= (usual - weight).square().sum()
    again, same = round_weights(whole * step, levels, shared=shared)
    assert torch.equal(again, whole)
    torch.testing.assert_close(same, step)
    mirrored, _ = round_weights(-weight, levels, shared=shared)
    assert torch.equal(mirrored, -whole)


def test_ternary_by_hand() -> None:
    """The weights above a threshold have one size, their mean."""
    whole, step = round_weights(torch.tensor([[[0.1], [-2.0], [3.0], [0.2]]]), LEVELS["ternary"])
    assert whole.flatten().tolist() == [0, -1, 1, 0]
    assert step.item() == 2.5


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (25, list(range(25))),
        (13, list(range(0, 25, 2))),
        (7, [0, 4, 8, 12, 16, 20, 24]),
        (8, [0, 3, 7, 10, 14, 17, 21, 24]),
        (2, [0, 24]),
    ],
)
def test_values_of_delays(values, want) -> None:
    delay = torch.linspace(0, 24, 999)
    rounded = round_delays(delay, 25, values)
    assert rounded.unique().tolist() == want
    even = torch.linspace(0, 24, values)
    nearest = (delay[:, None] - even).abs().argmin(1)
    assert (rounded == torch.tensor(want)[nearest]).float().mean() > 0.98  # but for ties


def test_gradients_pass_as_if_nothing_was_rounded() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 4, 1, requires_grad=True)
    delay = (torch.rand(3, 4, 1) * 8).requires_grad_()
    w, d = Rounding(levels=7, delays=3).apply(weight, delay, 9)
    whole, step = round_weights(weight, 7)
    assert torch.equal(w, whole * step)
    assert torch.equal(d, round_delays(delay, 9, 3))
    (2 * w.sum() + 3 * d.sum()).backward()
    assert weight.grad.eq(2).all()
    assert delay.grad.eq(3).all()
    same, also = Rounding().apply(weight, delay, 9)
    assert same is weight
    assert also is delay
