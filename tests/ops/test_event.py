"""The delayed linear map driven by events, against the reference in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delays.ops.maps import Problem, delayed_linear, event, reference
from snn_delays.runtime import numba_jit
from tests.ops.synapses import synapses

pytestmark = pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")

SILENT, SPARSE, SATURATED = 0.0, 0.1, 1.0


def case(T, B, inputs, outputs, taps, count, rate=SPARSE, seed=0):
    """Real-valued events at a rate, and delays at both ends and between."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(T, B, inputs, generator=g, dtype=torch.float64)
    x = x * (torch.rand(x.shape, generator=g) < rate)
    weight = torch.randn(outputs, inputs, count, generator=g, dtype=torch.float64)
    delay = torch.rand(outputs, inputs, count, generator=g, dtype=torch.float64) * (taps - 1)
    delay.view(-1)[0], delay.view(-1)[-1] = 0, taps - 1
    return x, weight, delay


def outputs_and_gradients(backend, x, weight, delay, taps, extra_steps):
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = backend.delayed_linear(x, synapses(weight, delay, None, taps), extra_steps)
    pull = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [y.detach(), *torch.autograd.grad((y * pull.to(y.dtype)).sum(), (x, weight))]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    T=st.sampled_from([1, 2, 63, 127]),
    B=st.sampled_from([1, 3]),
    inputs=st.sampled_from([1, 7, 140, 257]),
    outputs=st.sampled_from([1, 7, 140, 257]),
    taps=st.sampled_from([1, 3, 25, 101]),
    count=st.sampled_from([1, 2]),
    extra_steps=st.sampled_from([0, 1, 12]),
    rate=st.sampled_from([SILENT, SPARSE, SATURATED]),
)
def test_equals_the_reference(T, B, inputs, outputs, taps, count, extra_steps, rate) -> None:
    arguments = (*case(T, B, inputs, outputs, taps, count, rate), taps, extra_steps)
    ours = outputs_and_gradients(event, *arguments)
    expected = outputs_and_gradients(reference, *arguments)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rate", [SILENT, SPARSE, SATURATED])
@pytest.mark.parametrize(("B", "count"), [(1, 1), (3, 2)])
def test_single_precision_stays_near_the_reference(rate, B, count) -> None:
    x, weight, delay = case(127, B, 140, 257, 25, count, rate)
    expected = outputs_and_gradients(reference, x, weight, delay, 25, 12)
    ours = outputs_and_gradients(event, x.float(), weight.float(), delay, 25, 12)
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("late", [0.0, 0.5, 1.5, 23.6, 24.0])
def test_an_impulse_arrives_when_the_delay_says(late) -> None:
    x = torch.zeros(3, 1, 1)
    x[1] = -0.5
    one = synapses(torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), late), None, 25)
    y = event.delayed_linear(x, one, 9)
    expected = torch.zeros(12, 1, 1)
    if 1 + round(late) < 12:  # Python rounds half to even too
        expected[1 + round(late)] = -1
    assert torch.equal(y, expected)


def test_a_sample_depends_neither_on_its_batch_nor_on_the_number_of_threads() -> None:
    x, weight, delay = (a.float() for a in case(40, 5, 30, 21, 9, 1))
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            y = event.delayed_linear(x, synapses(weight, delay, None, 9), 4)
            for b in range(5):
                alone = event.delayed_linear(x[:, b : b + 1], synapses(weight, delay, None, 9), 4)
                assert torch.equal(y[:, b : b + 1], alone)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("changed", ["weight", "delay", "data", "taps"])
def test_a_change_of_the_synapses_is_noticed(changed) -> None:
    x, weight, delay = case(20, 1, 7, 5, 9, 1)
    event.delayed_linear(x, synapses(weight, delay, None, 9), 0)
    taps = 9
    if changed == "weight":
        weight.mul_(2)
    elif changed == "delay":
        delay.copy_(8 - delay)
    elif changed == "data":
        weight.data = weight * 3
    else:
        taps = 11
    mine = synapses(weight, delay, None, taps)
    y = event.delayed_linear(x, mine, 0)
    torch.testing.assert_close(y, reference.delayed_linear(x, mine, 0))


def test_serves_in_inference_mode() -> None:
    with torch.inference_mode():
        x, weight, delay = case(20, 2, 7, 5, 9, 1)
        mine = synapses(weight, delay, None, 9)
        y = event.delayed_linear(x, mine, 0)
        torch.testing.assert_close(y, reference.delayed_linear(x, mine, 0))


def test_inputs_in_any_memory_order() -> None:
    x, weight, delay = case(20, 3, 7, 5, 9, 1)
    turned = x.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    turned_weight = weight.transpose(0, 1).contiguous().transpose(0, 1)
    expected = outputs_and_gradients(event, x, weight, delay, 9, 2)
    ours = outputs_and_gradients(event, turned, turned_weight, delay, 9, 2)
    for a, b in zip(ours, expected, strict=True):
        assert torch.equal(a, b)


def test_delays_get_no_gradient() -> None:
    x, weight, delay = case(4, 1, 2, 2, 5, 1)
    delay.requires_grad_()
    event.delayed_linear(x, synapses(weight.requires_grad_(), delay, None, 5), 0).sum().backward()
    assert weight.grad is not None
    assert delay.grad is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sigma": 1.0}, "needs rounded delays"),
        ({"x_TBI": torch.zeros(4, 1, 2, device="meta")}, "on the CPU only"),
        ({"x_TBI": torch.zeros(4, 1, 2, dtype=torch.float16)}, "needs float32 or float64"),
        ({"weight": torch.zeros(3, 2, 1, dtype=torch.float64)}, "make them one"),
        ({"delay": torch.full((3, 2, 1), 5.0)}, r"must lie in \[0, 4\]"),
        ({"delay": torch.full((3, 2, 1), -1.0)}, r"must lie in \[0, 4\]"),
        ({"delay": torch.full((3, 2, 1), torch.nan)}, r"must lie in \[0, 4\]"),
    ],
)
def test_what_cannot_be_served_is_named(change, words) -> None:
    arguments = {
        "x_TBI": torch.zeros(4, 1, 2),
        "weight": torch.zeros(3, 2, 1),
        "delay": torch.zeros(3, 2, 1),
        "sigma": None,
        **change,
    }
    x_TBI = arguments.pop("x_TBI")
    mine = synapses(**arguments, taps=5)
    with pytest.raises(ValueError, match=words):
        delayed_linear(x_TBI, mine, backend="event")


def test_missing_numba_is_named(monkeypatch) -> None:
    monkeypatch.setattr(numba_jit, "available", lambda: False)
    one = torch.zeros(1, 1, 1)
    problem = Problem.of(one, synapses(one, one, None, 1), 0)
    assert "numba" in event.BACKEND.why_not(problem)
