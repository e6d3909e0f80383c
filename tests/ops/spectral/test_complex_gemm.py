"""Complex products of matrices, against NumPy's in double precision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from snn_delays.ops.spectral.complex_gemm import complex_product, new_room
from snn_delays.runtime import numba_jit
from snn_delays.runtime.numba_jit import kernel

pytestmark = pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
EXACT = {np.float32: 1e-6, np.float64: 2e-15}
SIZES = (1, 2, 3, 7, 63, 140, 257)


@kernel
def product(jobs, a, a_turned, b, b_turned, conjugate, real, out):
    complex_product(a, a_turned, b, b_turned, conjugate, real, out, new_room(out))


def check(sizes, a_turned, b_turned, conjugate, real, dtype) -> None:
    m, k, n = sizes
    rng = np.random.default_rng(sum(sizes))
    a, b = (rng.standard_normal((2, *s)).astype(dtype) for s in ((m, k), (k, n)))
    out = np.full((2, m, n), np.nan, dtype)
    given = [
        np.ascontiguousarray(x.swapaxes(1, 2)) if turned else x
        for x, turned in ((a, a_turned), (b, b_turned))
    ]
    product.serial(1, given[0], a_turned, given[1], b_turned, conjugate, real, out)
    a, b = ((x[0] if real else x[0].astype(float) + 1j * x[1]) for x in (a, b))
    exact = a.astype(complex) @ (b.conj() if conjugate else b).astype(complex)
    error = np.abs(out[0] + 1j * out[1] - exact).max()
    assert error <= 3 * EXACT[dtype] * np.abs(a).max() * np.abs(b).max() * np.sqrt(k), sizes


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("m", SIZES)
def test_odd_sizes(m, dtype) -> None:
    flags = itertools.cycle(itertools.product((False, True), repeat=4))
    for k, n in itertools.product(SIZES, SIZES):
        check((m, k, n), *next(flags), dtype)
        check((m, k, n), *next(flags), dtype)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("sizes", [(13, 1101, 33), (300, 600, 65), (700, 31, 40)])
def test_more_than_fits_a_block(sizes, dtype) -> None:
    for flags in itertools.product((False, True), repeat=4):
        check(sizes, *flags, dtype)
