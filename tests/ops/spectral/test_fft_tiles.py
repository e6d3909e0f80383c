"""Compiled transforms and products of spectra, against NumPy's in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_delays.ops.spectral import fft_tiles, layer, layer_numba
from snn_delays.runtime import numba_jit

pytestmark = pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
EXACT = {np.float32: 1e-6, np.float64: 1e-14}


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_good_lengths() -> None:
    assert [fft_tiles.good_length(n) for n in (1, 7, 11, 121, 136, 143)] == [
        1,
        7,
        12,
        125,
        140,
        144,
    ]


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize(
    "N", [1, 2, 3, 4, 5, 6, 7, 12, 15, 64, 98, 125, 128, 140, 150, 162, 720, 4096]
)
@pytest.mark.parametrize("channels", [1, 2, 17, 140, 257])
def test_transforms(N, channels, dtype) -> None:
    steps, batch = max(1, 2 * N // 3), 3 if N < 200 else 1
    x = random(steps, batch, channels, dtype=dtype)
    transform = fft_tiles.make_transform(N, np.dtype(dtype)).arguments
    X = np.full((N // 2 + 1, 2, batch, channels), np.nan, dtype)
    layer_numba.to_spectrum(x, *transform, X)
    exact = np.fft.rfft(x.astype(float), N, axis=0)
    assert np.abs(X[:, 0] + 1j * X[:, 1] - exact).max() <= EXACT[dtype] * np.abs(exact).max()
    y = np.full_like(x, np.nan)
    layer_numba.to_time(X, *transform, y)
    assert np.abs(y - x).max() <= 2 * EXACT[dtype] * np.abs(x).max()


@pytest.mark.parametrize("N", [6, 9])
def test_imaginary_parts_that_no_real_sequence_has_are_ignored(N) -> None:
    X = random(N // 2 + 1, 2, 1, 3)
    y = np.empty((N, 1, 3))
    layer_numba.to_time(X, *fft_tiles.make_transform(N, np.dtype(float)).arguments, y)
    exact = np.fft.irfft(X[:, 0] + 1j * X[:, 1], N, axis=0)
    np.testing.assert_allclose(y, exact, atol=1e-14)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 140, 7), (65, 2, 33)])
@pytest.mark.parametrize("of_input", [False, True])
def test_products(sizes, of_input, dtype) -> None:
    batch, inputs, outputs = sizes
    X, K, G = (
        random(5, 2, *shape, dtype=dtype, seed=seed)
        for seed, shape in enumerate([(batch, inputs), (outputs, inputs), (batch, outputs)])
    )
    for spectrum in (X, K, G):
        spectrum[[0, 4], 1] = 0  # as of real sequences of 8 steps
    x, k, g = (t[:, 0].astype(float) + 1j * t[:, 1] for t in (X, K, G))
    Y, g_X = np.full_like(G, np.nan), np.full_like(X, np.nan)
    layer_numba.products(X, K, 8, Y)
    layer_numba.products_gradient(G, X, K, 8, of_input, g_X)
    wanted = [(Y, x @ k.swapaxes(1, 2)), (K, g.swapaxes(1, 2) @ x.conj())]
    wanted += [(g_X, g @ k.conj())] * of_input
    for found, exact in wanted:
        error = np.abs(found[:, 0] + 1j * found[:, 1] - exact).max()
        assert error <= 2 * EXACT[dtype] * np.abs(exact).max()
    assert of_input or np.isnan(g_X).all()


def test_half_products_round_to_bfloat16_and_no_more() -> None:
    X, kernel = (torch.from_numpy(random(21, 2, 9, 30, dtype=np.float32, seed=s)) for s in (0, 1))
    plan = layer.make_plan(31, 10, 0)  # of 40 steps
    for spectrum in (X, kernel):
        spectrum[[0, 20], 1] = 0
    exact, half = (layer.linear(X, kernel, plan, half) for half in (False, True))
    error = (exact - half).norm() / exact.norm()
    assert 1e-4 < error < 1e-2
    for wanted in (False, True):
        kernels = kernel.clone(), kernel.clone()
        of_input = [
            layer.linear_gradient(exact, X, k, plan, wanted, half)
            for k, half in zip(kernels, (False, True), strict=True)
        ]
        assert [g is not None for g in of_input] == [wanted] * 2
        for whole, rough in [kernels] + [of_input] * wanted:
            assert 0 < (whole - rough).norm() < 1e-2 * whole.norm()
