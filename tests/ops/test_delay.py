"""The delayed linear map: its definition, DCLS as the oracle of the kernel, every backend."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from DCLS.construct.modules import Dcls1d
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from snn_delays.config import SIGMA_OFFSETS
from snn_delays.config.schema import BACKENDS as CHOICES
from snn_delays.ops.maps import BACKENDS, Problem, choose_backend, delayed_linear
from snn_delays.ops.taps import SHAPES, Synapses, tap_values
from snn_delays.runtime import numba_jit, tracing, weight_cache
from snn_delays.runtime.device import tensor_cores
from tests.ops.synapses import synapses


def case(T, B, inputs, outputs, taps, count, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(T, B, inputs, generator=g, dtype=dtype)
    weight = torch.randn(outputs, inputs, count, generator=g, dtype=dtype)
    delay = torch.rand(outputs, inputs, count, generator=g, dtype=dtype) * (taps - 1)
    delay.view(-1)[0], delay.view(-1)[-1] = 0, taps - 1  # both ends
    return x, weight, delay


def problem(sigma, T=1, B=1, width=1, taps=1, device="cpu", dtype=torch.float64) -> Problem:
    shape = (width, width, 1)
    return Problem(
        T, B, shape, shape, taps, 0, dtype, torch.device(device), sigma is None,
        torch.is_grad_enabled(),
    )  # fmt: skip


def skip_if_unable(backend, sigma, dtype=torch.float64) -> None:
    reason = BACKENDS[backend].why_not(problem(sigma, dtype=dtype))
    if reason:
        pytest.skip(reason)


ANY = [name for name in BACKENDS if name != "depthwise"]  # which test_depthwise.py holds to these


def by_definition(x, weight, delay, sigma, taps, extra_steps):
    """Plain loops over every index, in float64."""
    T, B, inputs = x.shape
    outputs, _, count = weight.shape
    y = np.zeros((T + extra_steps, B, outputs))
    for o, i, c in itertools.product(range(outputs), range(inputs), range(count)):
        d = float(delay[o, i, c])
        j = np.arange(taps)
        if sigma is None:
            g = (j == np.round(d)).astype(float)
        else:
            g = np.exp(-(((j - d) / sigma) ** 2) / 2)
            g = g / (1e-7 + g.sum())
        for t, tap in itertools.product(range(T + extra_steps), range(taps)):
            if 0 <= t - tap < T:
                y[t, :, o] += float(weight[o, i, c]) * g[tap] * x[t - tap, :, i].numpy()
    return y


@pytest.mark.parametrize("backend", ANY)
@pytest.mark.parametrize("sigma", [None, 0.5, 3.7])
@pytest.mark.parametrize(
    ("T", "B", "inputs", "outputs", "taps", "count", "extra_steps"),
    [(1, 1, 1, 1, 1, 1, 0), (7, 2, 3, 2, 5, 1, 2), (4, 3, 2, 3, 9, 2, 0), (2, 1, 3, 1, 7, 1, 12)],
)
def test_equals_its_definition(
    backend, sigma, T, B, inputs, outputs, taps, count, extra_steps
) -> None:
    skip_if_unable(backend, sigma)
    x, weight, delay = case(T, B, inputs, outputs, taps, count)
    y = delayed_linear(
        x, synapses(weight, delay, sigma, taps), extra_steps=extra_steps, backend=backend
    )
    expected = by_definition(x, weight, delay, sigma, taps, extra_steps)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "version", "sigma"),
    [("gauss", "gauss", s) for s in (0.5, 2.0, 12.27)]
    + [("triangle", "max", s) for s in (1.0, 1.23, 12.0)],
)
@pytest.mark.parametrize(("taps", "count"), [(1, 1), (25, 1), (31, 2)])
def test_kernel_and_its_gradients_equal_dcls(shape, version, sigma, taps, count) -> None:
    _, weight, delay = case(1, 1, 5, 4, taps, count)
    weight.requires_grad_()
    delay.requires_grad_()
    dcls = Dcls1d(
        5, 4, kernel_count=count, dilated_kernel_size=taps, bias=False, version=version
    ).double()
    with torch.no_grad():
        dcls.weight.copy_(weight)
        dcls.P[0].copy_(taps // 2 - delay)
        dcls.SIG.fill_(sigma - SIGMA_OFFSETS[shape])
    theirs = dcls.DCK(dcls.weight, dcls.P, dcls.SIG).flip(-1)
    mine = synapses(weight, delay, sigma, taps, shape)
    if shape == "triangle":  # DCLS adds its 1e-7 to sums that are the width times ours
        mine = replace(mine, weight=weight * _other_epsilon(mine))
    ours = mine.kernel().permute(1, 2, 0)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    pull = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=ours.dtype)
    (ours * pull).sum().backward()
    (theirs * pull).sum().backward()
    torch.testing.assert_close(weight.grad, dcls.weight.grad, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(delay.grad, -dcls.P.grad[0], rtol=1e-8, atol=1e-12)


def _other_epsilon(mine: Synapses) -> torch.Tensor:
    """``sum + 1e-7`` over ``sum + 1e-7 / width``, of the taps of every delay."""
    assert mine.width is not None
    total = tap_values(mine).sum(-1)  # sum / (sum + 1e-7)
    plain = 1e-7 * total / (1 - total)
    return (plain + 1e-7) / (plain + 1e-7 / mine.width)


def test_deployed_kernel_equals_dcls_max() -> None:
    _, weight, delay = case(1, 1, 5, 4, 25, 2)
    dcls = Dcls1d(5, 4, kernel_count=2, dilated_kernel_size=25, bias=False, version="max").double()
    with torch.no_grad():
        dcls.weight.copy_(weight)
        dcls.P[0].copy_((25 // 2 - delay).round())
        dcls.SIG.zero_()
    theirs = dcls.DCK(dcls.weight, dcls.P, dcls.SIG).flip(-1) * (1 + 1e-7)
    torch.testing.assert_close(synapses(weight, delay, None, 25).kernel().permute(1, 2, 0), theirs)


def test_ties_round_half_to_even() -> None:
    delay = torch.tensor([0.5, 1.5, 2.5, 3.5]).view(1, 4, 1)
    kernel_DOI = synapses(torch.ones(1, 4, 1), delay, None, 5).kernel()
    assert kernel_DOI[:, 0].argmax(0).tolist() == [0, 2, 2, 4]


def test_taps_sum_to_one_at_both_ends() -> None:
    delay = torch.tensor([[[0.0], [24.0], [11.3]]])
    taps = tap_values(synapses(torch.ones(1, 3, 1), delay, 4.0, 25))
    torch.testing.assert_close(taps.sum(-1), torch.ones(1, 3, 1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("backend", ANY)
@pytest.mark.parametrize("late", [0, 1, 17, 24])
def test_an_impulse_arrives_when_the_delay_says(backend, late) -> None:
    skip_if_unable(backend, None, torch.float32)
    x = torch.zeros(3, 1, 1)
    x[1] = 1
    one = synapses(torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), float(late)), None, 25)
    y = delayed_linear(x, one, extra_steps=30, backend=backend)
    expected = torch.zeros(33, 1, 1)
    expected[1 + late] = 2
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [None, 0.5, 2.3])
def test_gradients_of_the_reference_are_right(sigma) -> None:
    x, weight, delay = case(5, 2, 3, 2, 5, 2)
    x.requires_grad_()
    weight.requires_grad_()
    delay.requires_grad_(sigma is not None)

    def function(x, weight, delay):
        mine = synapses(weight, delay, sigma, 5)
        return delayed_linear(x, mine, extra_steps=2, backend="reference")

    assert torch.autograd.gradcheck(function, (x, weight, delay))


def outputs_and_gradients(
    backend, dtype, x, weight, delay, sigma, taps, extra_steps, device="cpu", shape="gauss"
):
    """y, and the gradients of x, weight and (where there are Gaussians) delay, on the CPU."""
    leaves = [tensor.detach().to(device, dtype).requires_grad_() for tensor in (x, weight, delay)]
    x, weight, delay = leaves
    mine = synapses(weight, delay, sigma, taps, shape)
    y = delayed_linear(x, mine, extra_steps=extra_steps, backend=backend)
    pull = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = leaves if sigma is not None else leaves[:2]
    gradients = torch.autograd.grad((y * pull.to(y)).sum(), wanted)
    return [result.detach().cpu() for result in (y, *gradients)]


def assert_backend_is_right(
    backend, x, weight, delay, sigma, taps, extra_steps, device="cpu", shape="gauss"
) -> None:
    """Against the reference in float64: 1e-10 in float64, 1e-5 in float32, relative."""
    arguments = (x, weight, delay, sigma, taps, extra_steps)
    exact = outputs_and_gradients("reference", torch.float64, *arguments, shape=shape)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        for ours, expected in zip(
            outputs_and_gradients(backend, dtype, *arguments, device, shape), exact, strict=True
        ):
            scale = 1e-30 + expected.norm()
            assert (ours - expected).norm() <= tolerance * scale, (backend, dtype)


FAST = [name for name in ANY if name != "reference"]


# Several numbers in every result: a single one may cancel to less than rounding, in any code.
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    T=st.integers(1, 70),
    B=st.integers(2, 3),
    inputs=st.integers(2, 20),
    outputs=st.integers(2, 17),
    taps=st.sampled_from([1, 3, 9, 25, 101]),
    count=st.integers(1, 2),
    extra_steps=st.integers(0, 40),
    sigma=st.sampled_from([None, 0.5, 4.0, 50.0]),
    backend=st.sampled_from(FAST),
    seed=st.integers(0, 1000),
)
def test_backends_equal_the_reference(
    T, B, inputs, outputs, taps, count, extra_steps, sigma, backend, seed
) -> None:
    assume(BACKENDS[backend].why_not(problem(sigma)) is None)
    x, weight, delay = case(T, B, inputs, outputs, taps, count, seed)
    assert_backend_is_right(backend, x, weight, delay, sigma, taps, extra_steps)


SIZES = itertools.product(
    [1, 2, 63, 127], [1, 3], [1, 7, 140, 257], [1, 7, 140, 257], [1, 3, 25, 101], [1, 2], [0, 1, 12]
)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("sigma", [None, 0.5, 12.27])
@pytest.mark.parametrize("sizes", random.Random(0).sample(list(SIZES), 24), ids=str)
def test_odd_sizes(backend, sigma, sizes) -> None:
    skip_if_unable(backend, sigma)
    T, B, inputs, outputs, taps, count, extra_steps = sizes
    x, weight, delay = case(T, B, inputs, outputs, taps, count)
    assert_backend_is_right(backend, x, weight, delay, sigma, taps, extra_steps)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("sigma", [None, 0.5, 12.27])
@pytest.mark.parametrize(
    ("T", "B", "inputs", "outputs", "taps", "count", "extra_steps"),
    [
        (127, 3, 140, 257, 25, 1, 12),
        (63, 1, 257, 7, 101, 2, 0),
        (2, 3, 7, 140, 25, 1, 1),
        (1, 1, 1, 1, 1, 1, 0),
        (63, 3, 140, 140, 3, 2, 1),
        (700, 1, 7, 7, 25, 1, 12),
    ],
)
def test_awkward_sizes(backend, sigma, T, B, inputs, outputs, taps, count, extra_steps) -> None:
    skip_if_unable(backend, sigma)
    x, weight, delay = case(T, B, inputs, outputs, taps, count)
    assert_backend_is_right(backend, x, weight, delay, sigma, taps, extra_steps)


@pytest.mark.parametrize("backend", [name for name in FAST if name != "event"])
@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "gauss"])
@pytest.mark.parametrize("sigma", [1.0, 1.23, 12.0])
@pytest.mark.parametrize("shared", [(1, 9, 2), (7, 1, 1), (7, 9, 1), (7, 9, 2)], ids=str)
def test_other_shapes_and_shared_delays(backend, shape, sigma, shared) -> None:
    skip_if_unable(backend, sigma)
    x, weight, delay = case(63, 2, 9, 7, 25, 2)
    delay = delay[tuple(map(slice, shared))].contiguous()
    assert_backend_is_right(backend, x, weight, delay, sigma, 25, 12, shape=shape)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_slope_is_the_derivative_of_value(shape) -> None:
    u = torch.linspace(-2.9, 2.9, 40, dtype=torch.float64, requires_grad=True)
    value = shape.value(u)
    (expected,) = torch.autograd.grad(value.sum(), u)
    slope = shape.slope(u, value).to(u)  # of constants alone it is float32
    torch.testing.assert_close(slope, expected)


def test_options_name_every_shape() -> None:
    assert SHAPES.keys() == SIGMA_OFFSETS.keys()


@pytest.mark.gpu(kernels=False)
@pytest.mark.parametrize("backend", ["reference", "dense", "fft", "matmul", "auto"])
@pytest.mark.parametrize("sigma", [None, 0.5, 12.27])
@pytest.mark.parametrize("T", [1, 63, 127])
def test_on_a_gpu(backend, sigma, T, launches) -> None:
    x, weight, delay = case(T, 3, 140, 57, 25, 2)
    with tensor_cores("float32"):
        assert_backend_is_right(backend, x, weight, delay, sigma, 25, 12, "cuda")
    if backend in ("fft", "matmul") and sigma is not None:
        assert {"_weighted", "_gradient"} <= {*launches}


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("sigma", [None, 2.0])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_silent_and_saturated_input(backend, sigma, level) -> None:
    skip_if_unable(backend, sigma)
    x, weight, delay = case(63, 3, 7, 5, 25, 1)
    assert_backend_is_right(backend, torch.full_like(x, level), weight, delay, sigma, 25, 12)


@pytest.mark.parametrize("backend", FAST)
def test_masked_synapses(backend) -> None:
    sigma = None if backend == "event" else 2.0
    skip_if_unable(backend, sigma)
    x, weight, delay = case(63, 3, 30, 20, 25, 1)
    weight[torch.rand(20, 30, 1, generator=torch.Generator().manual_seed(0)) < 0.8] = 0
    assert_backend_is_right(backend, x, weight, delay, sigma, 25, 12)


@pytest.mark.parametrize(
    ("T", "B", "taps", "expected"),
    [
        (100, 256, 25, "numba"),
        (100, 256, 1, "dense"),
        (100, 1, 25, "dense"),
        (9000, 256, 25, "numba"),
    ],
)
def test_auto_takes_the_cheaper(T, B, taps, expected, monkeypatch) -> None:
    mine = problem(3.0, T, B, 256, taps)
    if numba_jit.available():
        assert choose_backend(mine) == expected
    monkeypatch.setattr(numba_jit, "available", lambda: False)
    portable = {"numba": "fft" if T > 1024 else "matmul"}.get(expected, expected)
    assert choose_backend(mine) == portable


@pytest.mark.parametrize(
    ("T", "taps", "expected"),
    [(100, 25, True), (100, 1, False), (100, 3, False), (500, 101, True)],
)
def test_on_a_gpu_products_are_counted(T, taps, expected) -> None:
    mine = problem(3.0, T, 256, 256, taps, device="cuda")
    assert choose_backend(mine) == ("matmul" if expected else "dense")


class Rows(TorchDispatchMode):
    """Notes by what the lengths of rows in memory can be divided, of all matrices multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.common: dict[torch.dtype, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.__name__.split(".")[0] in ("mm", "bmm"):
            for matrix in (*args, *(kwargs or {}).values()):
                *_, rows, columns = zip(matrix.shape, matrix.stride(), strict=True)
                (extent, unit), (_, row) = (columns, rows) if columns[1] == 1 else (rows, columns)
                assert unit == 1
                common = self.common.get(matrix.dtype, 0)
                self.common[matrix.dtype] = math.gcd(common, extent, row)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("T", "taps", "extra_steps"), [(3, 2, 0), (13, 5, 3), (20, 25, 12)])
def test_products_are_aligned_for_tensor_cores(half, T, taps, extra_steps, monkeypatch) -> None:
    monkeypatch.setattr(tracing, "_get_current_dispatch_mode", lambda: None)  # it is no watcher
    x, weight, delay = case(T, 3, 8, 16, taps, 1, dtype=torch.float32)
    leaves = [a.requires_grad_() for a in (x, weight)]
    mine = synapses(weight, delay, 2.0, taps)
    with Rows() as rows:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = delayed_linear(x, mine, extra_steps=extra_steps, backend="matmul")
        torch.autograd.grad(y, leaves, torch.ones_like(y))
    assert rows.common[torch.float32] % 4 == 0
    assert not half or rows.common[torch.bfloat16] % 8 == 0


@pytest.mark.parametrize("backend", ["reference", "dense", "fft", "matmul"])
@pytest.mark.parametrize("sigma", [None, 2.0])
@pytest.mark.parametrize("compiled", [False, True])
def test_products_alone_are_rounded_inside_autocast(backend, sigma, compiled, monkeypatch) -> None:
    if not compiled:
        monkeypatch.setattr(numba_jit, "available", lambda: False)
    x, weight, delay = case(13, 3, 8, 16, 5, 2, dtype=torch.float32)
    leaves = [a.requires_grad_() for a in (x, weight)]
    mine = synapses(weight, delay, sigma, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y = delayed_linear(x, mine, extra_steps=2, backend=backend)
        with torch.no_grad():
            deployed = delayed_linear(x, mine, extra_steps=2, backend=backend)
    exact = delayed_linear(x, mine, extra_steps=2, backend=backend)
    torch.testing.assert_close(deployed, y.detach())
    for ours, theirs in zip(
        (y, *torch.autograd.grad(y.sum(), leaves)),
        (exact, *torch.autograd.grad(exact.sum(), leaves)),
        strict=True,
    ):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() <= 0.02 * theirs.norm()
        assert backend == "fft" or not torch.equal(ours, theirs)


@pytest.mark.parametrize(("B", "expected"), [(1, "event"), (16, "event"), (256, "numba")])
def test_auto_sends_small_deployed_batches_event_by_event(B, expected) -> None:
    skip_if_unable("event", None, torch.float32)
    with torch.no_grad():
        assert choose_backend(problem(None, 100, B, 256, 25)) == expected


def test_the_options_name_every_backend() -> None:
    assert sorted(CHOICES) == sorted(["auto", *BACKENDS])


@pytest.mark.parametrize(
    ("backend", "x", "sigma", "words"),
    [
        ("event", torch.zeros(5, 2, 3), 1.0, "backend=event cannot serve: it needs rounded delays"),
        ("event", torch.zeros(5, 2, 3, dtype=torch.bfloat16), None, "float32"),
        ("fft", torch.zeros(5, 2, 3, dtype=torch.bfloat16), 1.0, "it needs float32 or float64"),
        ("numba", torch.zeros(5, 2, 3, device="meta"), 1.0, "it runs on the CPU only"),
        ("depthwise", torch.zeros(5, 2, 3), 1.0, "it needs delays that inputs or outputs share"),
    ],
)
def test_a_backend_that_cannot_serve_says_why(backend, x, sigma, words) -> None:
    weight = torch.zeros(2, 3, 1)
    with pytest.raises(ValueError, match=words):
        delayed_linear(x, synapses(weight, weight, sigma, 5), backend=backend)


def test_without_numba_its_backends_say_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(numba_jit, "available", lambda: False)
    weight = torch.zeros(2, 3, 1)
    for backend in ("numba", "event"):
        with pytest.raises(ValueError, match=r"pip install numba"):
            delayed_linear(torch.zeros(5, 2, 3), synapses(weight, weight, None, 5), backend=backend)


@pytest.mark.parametrize("backend", ["fft", "matmul", "numba", "event"])
def test_a_deployed_map_is_prepared_once(backend, monkeypatch) -> None:
    skip_if_unable(backend, None)
    x, weight, delay = case(30, 2, 4, 3, 5, 1)
    weight = torch.nn.Parameter(weight)
    prepared = []

    def count(weight, delay, kind, make):
        return weight_cache.cached(weight, delay, kind, lambda: (prepared.append(kind), make())[1])

    monkeypatch.setattr("snn_delays.ops.taps.synapses.cached", count)
    with torch.no_grad():
        for _ in range(3):
            delayed_linear(x, synapses(weight, delay, None, 5), backend=backend)
    assert len(prepared) == 1
    delayed_linear(x, synapses(weight, delay, None, 5), backend=backend).sum().backward()  # trains
    with torch.no_grad():
        delayed_linear(x, synapses(weight, delay, None, 5), backend=backend)
    assert len(prepared) == 2


@pytest.mark.parametrize("backend", ["fft", "matmul", "numba", "event"])
@torch.no_grad()
def test_what_a_deployed_map_keeps_follows_its_parameters(backend) -> None:
    skip_if_unable(backend, None)
    x, weight, delay = case(30, 2, 4, 3, 5, 1)
    weight = torch.nn.Parameter(weight)

    def difference() -> float:
        results = [
            delayed_linear(x, synapses(weight, delay, None, 5), backend=b)
            for b in (backend, "reference")
        ]
        return float((results[0] - results[1]).abs().max())

    assert difference() < 1e-12
    weight.mul_(2)
    assert difference() < 1e-12
    delay.copy_(4 - delay)
    assert difference() < 1e-12
    x = x[:20]
    assert difference() < 1e-12


def test_deployed_map_has_no_gradient_for_delays() -> None:
    x, weight, delay = case(4, 1, 2, 2, 5, 1)
    weight.requires_grad_()
    delay.requires_grad_()
    delayed_linear(x, synapses(weight, delay, None, 5)).sum().backward()
    assert weight.grad is not None
    assert delay.grad is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.zeros(0, 2, 3)}, "no time steps"),
        ({"x": torch.zeros(5, 2, 3).double()}, "make them one"),
        ({"delay": torch.zeros(2, 3, 1).double()}, "make them one"),
        ({"x": torch.zeros(3, 2)}, r"must be \[T, B, I\]"),
        ({"weight": torch.zeros(2, 4, 1)}, "must be"),
        ({"delay": torch.zeros(2, 3, 2)}, "must be as weight"),
        ({"delay": torch.zeros(2, 3)}, "must be as weight"),
        ({"taps": 0}, "taps=0"),
        ({"extra_steps": -1}, "extra_steps=-1"),
        (
            {"backend": "magic"},
            "backend=magic is not one of auto, reference, dense, fft, matmul, numba, event",
        ),
    ],
)
def test_wrong_arguments_are_named(change, words) -> None:
    arguments = {
        "x": torch.zeros(5, 2, 3),
        "weight": torch.zeros(2, 3, 1),
        "delay": torch.zeros(2, 3, 1),
        "taps": 5,
        **change,
    }
    weight, delay, taps = (arguments.pop(name) for name in ("weight", "delay", "taps"))

    def call() -> None:
        delayed_linear(synapses=synapses(weight, delay, 1.0, taps), **arguments)

    with pytest.raises(ValueError, match=words):
        call()
