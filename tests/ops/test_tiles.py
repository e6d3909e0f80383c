"""Compiled transforms and products of spectra, against NumPy's in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_delays.ops import compiled, spectral, spectral_compiled, tiles
from snn_delays.ops.blas import one_thread

pytestmark = pytest.mark.skipif(not compiled.available(), reason="numba is not installed")
EXACT = {np.float32: 1e-6, np.float64: 1e-14}


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_good_lengths() -> None:
    assert [tiles.good_length(n) for n in (1, 7, 11, 121, 136, 136 + 9)] == [
        1,
        8,
        12,
        125,
        144,
        150,
    ]


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("N", [1, 2, 3, 4, 5, 6, 12, 15, 64, 125, 128, 150, 162, 720, 4096])
@pytest.mark.parametrize("channels", [1, 2, 17, 140, 257])
def test_transforms(N, channels, dtype) -> None:
    steps, batch = max(1, 2 * N // 3), 3 if N < 200 else 1
    x = random(steps, batch, channels, dtype=dtype)
    transform = tiles.make_transform(N, np.dtype(dtype)).arguments
    X = np.full((N // 2 + 1, 2, batch, channels), np.nan, dtype)
    spectral_compiled.to_spectrum(x, *transform, X)
    exact = np.fft.rfft(x.astype(float), N, axis=0)
    assert np.abs(X[:, 0] + 1j * X[:, 1] - exact).max() <= EXACT[dtype] * np.abs(exact).max()
    y = np.full_like(x, np.nan)
    spectral_compiled.to_time(X, *transform, y)
    assert np.abs(y - x).max() <= 2 * EXACT[dtype] * np.abs(x).max()


@pytest.mark.parametrize("N", [6, 9])
def test_imaginary_parts_that_no_real_sequence_has_are_ignored(N) -> None:
    X = random(N // 2 + 1, 2, 1, 3)
    y = np.empty((N, 1, 3))
    spectral_compiled.to_time(X, *tiles.make_transform(N, np.dtype(float)).arguments, y)
    exact = np.fft.irfft(X[:, 0] + 1j * X[:, 1], N, axis=0)
    np.testing.assert_allclose(y, exact, atol=1e-14)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("a_turned", [False, True])
@pytest.mark.parametrize("b_turned", [False, True])
@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 140, 7), (65, 2, 33)])
def test_products(sizes, a_turned, b_turned, conjugate, dtype) -> None:
    rows, inner, columns = sizes
    a = random(5, 2, *((inner, rows) if a_turned else (rows, inner)), dtype=dtype)
    b = random(5, 2, *((columns, inner) if b_turned else (inner, columns)), dtype=dtype, seed=1)
    out = np.full((5, 2, rows, columns), np.nan, dtype)
    with one_thread():
        spectral_compiled.products(a, a_turned, b, b_turned, conjugate, out)
    exact_a, exact_b = (t[:, 0].astype(float) + 1j * t[:, 1] for t in (a, b))
    exact_a = exact_a.swapaxes(1, 2) if a_turned else exact_a
    exact_b = exact_b.swapaxes(1, 2) if b_turned else exact_b
    exact = exact_a @ (exact_b.conj() if conjugate else exact_b)
    error = np.abs(out[:, 0] + 1j * out[:, 1] - exact).max()
    assert error <= 2 * EXACT[dtype] * np.abs(exact).max()


def test_half_products_round_to_bfloat16_and_no_more() -> None:
    X, kernel = (torch.from_numpy(random(20, 2, 9, 30, dtype=np.float32, seed=s)) for s in (0, 1))
    exact, half = (spectral.linear(X, kernel, half) for half in (False, True))
    error = (exact - half).norm() / exact.norm()
    assert 1e-4 < error < 1e-2
    for wanted in (False, True):
        g_exact, g_half = (
            spectral.linear_gradient(exact, X, kernel, wanted, half) for half in (False, True)
        )
        for whole, rough in zip(g_exact, g_half, strict=True):
            assert (whole is None) == (rough is None) == (not wanted and whole is None)
            if whole is not None:
                assert (whole - rough).norm() < 1e-2 * whole.norm()
