"""Axonal and dendritic delays: the synaptic map with equal delays is the oracle."""

from __future__ import annotations

import math

import pytest
import torch

from snn_delays.ops.maps import BACKENDS, Problem, choose_backend, delayed_linear, depthwise
from snn_delays.ops.maps.depthwise import delayed_linears, plain_filter
from snn_delays.ops.taps import SHAPES
from snn_delays.runtime import numba_jit, triton_jit
from tests.ops.synapses import synapses
from tests.ops.test_delay import case, outputs_and_gradients
from tests.ops.test_triton import device, place  # noqa: F401  fixtures

SHARED = {"axonal": 0, "dendritic": 1}  # the dimension of the weights whose synapses share
WIDTH = 133  # more channels than a block of the compiled filter has


def shared_case(kind, T, B, inputs, outputs, taps, count):
    x, weight, delay = case(T, B, inputs, outputs, taps, count)
    return x, weight, delay.narrow(SHARED[kind], 0, 1).contiguous()


@pytest.fixture(params=["compiled", "torch"])
def loops(request, monkeypatch):
    """The filter by numba's loops, and by torch where numba is missing."""
    if request.param == "torch":
        monkeypatch.setattr(numba_jit, "available", lambda: False)
    elif not numba_jit.available():
        pytest.skip("numba is not installed")


def assert_equals_the_synaptic_map(x, weight, delay, sigma, taps, extra, *, where="cpu", **how):
    arguments = (x, weight, delay, sigma, taps, extra)
    ours = outputs_and_gradients("depthwise", torch.float64, *arguments, where, **how)
    every = delay.expand_as(weight).contiguous()
    theirs = outputs_and_gradients(
        "reference", torch.float64, x, weight, every, sigma, taps, extra, **how
    )
    if sigma is not None:
        theirs[3] = theirs[3].sum_to_size(delay.shape)
    for number, (mine, expected) in enumerate(zip(ours, theirs, strict=True)):
        tolerance = 1e-9 if number else 1e-10
        torch.testing.assert_close(mine, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("sigma", [None, 0.5, 12.27])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("T", "B", "width", "taps", "extra"),
    [(1, 1, 3, 1, 0), (1, 2, 2, 25, 12), (2, 1, WIDTH, 25, 0), (63, 1, 7, 31, 15), (63, 3, 5, 9, 1),
     (2, 3, 2, 101, 0)],
)  # fmt: skip
def test_it_equals_the_synaptic_map_with_equal_delays(
    kind, sigma, count, T, B, width, taps, extra, loops
) -> None:
    parts = shared_case(kind, T, B, width, 4, taps, count)
    if kind == "dendritic":
        parts = shared_case(kind, T, B, 4, width, taps, count)
    assert_equals_the_synaptic_map(*parts, sigma, taps, extra)


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("sigma", [None, 2.0])
@pytest.mark.parametrize(("T", "B", "taps"), [(1, 1, 5), (21, 3, 11)])
def test_it_does_on_a_gpu(kind, sigma, T, B, taps, device, launches) -> None:  # noqa: F811
    parts = shared_case(kind, T, B, 5, 4, taps, 2)
    assert_equals_the_synaptic_map(*parts, sigma, taps, 3, where=device)
    assert launches.count("_convolve") == 2
    assert launches.count("_correlate") == (sigma is not None)


@pytest.mark.parametrize("kind", SHARED)
def test_other_shapes_of_taps(kind) -> None:
    parts = shared_case(kind, 20, 2, 5, 4, 9, 1)
    for shape in SHAPES:
        assert_equals_the_synaptic_map(*parts, 3.0, 9, 4, shape=shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_deployed_it_is_a_shift_with_zeros(dtype, loops) -> None:
    spikes = (torch.rand(20, 3, 6, generator=torch.Generator().manual_seed(0)) < 0.3).to(dtype)
    delay = torch.tensor([0.4, 8.0, 2.5, 3.4, 1.0, 7.0], dtype=dtype).view(1, 6, 1)
    mine = synapses(torch.eye(6, dtype=dtype).unsqueeze(2), delay, None, 9)
    expected = torch.zeros(24, 3, 6, dtype=dtype)
    for channel, late in enumerate([0, 8, 2, 3, 1, 7]):
        moved = torch.cat([spikes.new_zeros(late, 3), spikes[:, :, channel]])
        expected[: len(moved), :, channel] = moved[:24]
    shifted = delayed_linear(spikes, mine, extra_steps=4, backend="depthwise")
    assert torch.equal(shifted, expected)


def test_sums_do_not_depend_on_threads() -> None:
    if not numba_jit.available():
        pytest.skip("numba is not installed")
    x, taps = torch.randn(30, 19, WIDTH), torch.zeros(9, WIDTH)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(depthwise._taps_gradient(x, x, 9))
    torch.set_num_threads(before)
    assert torch.equal(*found)
    leaf = taps.requires_grad_()
    (exact,) = torch.autograd.grad(plain_filter(x.double(), leaf, 0), leaf, x.double())
    torch.testing.assert_close(found[0], exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("sigma", [None, 2.0])
def test_several_networks_at_once(kind, sigma) -> None:
    parts = [shared_case(kind, 12, 3, 5, 4, 9, 2) for _ in range(3)]
    for number, (x, weight, delay) in enumerate(parts):
        x.mul_(number + 1)
        weight.add_(number)
        delay.div_(number + 1)
    every = [synapses(weight, delay, sigma, 9) for _, weight, delay in parts]
    together = delayed_linears(torch.stack([x for x, *_ in parts], 2), every, 4)
    for number, (x, *_) in enumerate(parts):
        alone = delayed_linear(x, every[number], extra_steps=4, backend="reference")
        torch.testing.assert_close(together[:, :, number], alone)


@pytest.mark.parametrize("kind", SHARED)
def test_products_alone_are_rounded_inside_autocast(kind, loops) -> None:
    x, weight, delay = (a.float() for a in shared_case(kind, 13, 3, 8, 16, 5, 2))
    leaves = [a.requires_grad_() for a in (x, weight, delay)]
    mine = synapses(weight, delay, 2.0, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y = delayed_linear(x, mine, extra_steps=2, backend="depthwise")
    exact = delayed_linear(x, mine, extra_steps=2, backend="depthwise")
    for ours, theirs in zip(
        (y, *torch.autograd.grad(y.sum(), leaves)),
        (exact, *torch.autograd.grad(exact.sum(), leaves)),
        strict=True,
    ):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, theirs)
        assert (ours - theirs).norm() <= 0.02 * theirs.norm()


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize("sigma", [None, 2.0])
def test_auto_takes_it_for_shared_delays_alone(kind, where, sigma) -> None:
    shape = [256, 256, 1]
    every = Problem(
        100, 256, tuple(shape), tuple(shape), 25, 12, torch.float32, torch.device(where),
        sigma is None, True,
    )  # fmt: skip
    shape[SHARED[kind]] = 1
    assert choose_backend(every._replace(delay=tuple(shape))) == "depthwise"
    assert choose_backend(every) != "depthwise"
    assert BACKENDS["depthwise"].cost(every._replace(delay=tuple(shape))) < math.inf


def test_no_triton_kernel_runs_on_the_cpu(launches) -> None:
    parts = shared_case("axonal", 5, 2, 3, 4, 5, 1)
    assert_equals_the_synaptic_map(*parts, 2.0, 5, 1)
    assert not launches
    assert not triton_jit.serves(parts[0])
