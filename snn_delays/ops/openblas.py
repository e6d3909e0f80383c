# mypy: allow-untyped-defs
"""SciPy's BLAS called from compiled loops: a matrix per thread, each product on one thread.

torch's BLAS on x86 is MKL, which keeps AMD processors at about half their speed; SciPy's, OpenBLAS
in its wheels, does not.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from torch import Tensor

from snn_delays.ops import compiled
from snn_delays.ops.compiled import kernel, prange

COLUMNS = 4096  # of a wide product that one thread takes at a time


@functools.cache
def preferred() -> bool:
    """Whether this BLAS should multiply on this machine: an AMD processor, and all is installed."""
    if not compiled.available():
        return False
    from llvmlite import binding

    return binding.get_host_cpu_name().startswith("znver") and _blas() is not None


@functools.cache
def _blas() -> Any:
    """The thread settings of the loaded BLAS libraries, or None where SciPy's cannot be called."""
    try:
        import threadpoolctl
        from llvmlite import binding
        from numba.extending import get_cython_function_address

        address = get_cython_function_address("scipy.linalg.cython_blas", "sgemm")
    except ImportError:
        return None
    binding.add_symbol("snn_delays_sgemm", address)  # by name, so that the cache can keep callers
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


if compiled.available():
    from numba.core import types

    _sgemm: Any = types.ExternalFunction("snn_delays_sgemm", types.void(*([types.intp] * 13)))


@kernel
def _products(jobs, n, sizes, flags, leading, addresses, strides, alpha, beta):
    """Products number 0 to n - 1; Fortran's order, so the right factor comes first.

    sizes: rows, columns, inner; flags: is b, is a transposed; leading: of b, a, out; addresses and
    strides in bytes: of b, a, out.
    """
    for job in prange(jobs):
        letters = np.empty(2, np.int8)
        for i in range(2):
            letters[i] = 84 if flags[i] else 78  # T, N
        numbers = np.empty(6, np.int32)
        numbers[0], numbers[1], numbers[2] = sizes[1], sizes[0], sizes[2]
        numbers[3], numbers[4], numbers[5] = leading[0], leading[1], leading[2]
        factors = np.empty(2, np.float32)
        factors[0], factors[1] = alpha, beta
        c, i, f = letters.ctypes.data, numbers.ctypes.data, factors.ctypes.data
        for k in range(job * n // jobs, (job + 1) * n // jobs):
            b = addresses[0] + k * strides[0]
            a = addresses[1] + k * strides[1]
            out = addresses[2] + k * strides[2]
            _sgemm(c, c + 1, i, i + 4, i + 8, f, b, i + 12, a, i + 16, f + 4, out, i + 20)


def multiply(out: Tensor, a: Tensor, b: Tensor, alpha: float = 1.0, beta: float = 0.0) -> None:
    """``out <- beta out + alpha a b`` for each of a batch of float32 matrices."""
    (a_flag, a_leading), (b_flag, b_leading) = _layout(a), _layout(b)
    order = (b, a, out)
    with _blas().limit(limits=1):  # or it would start threads inside of threads
        _products(
            len(out),
            np.array([out.shape[1], out.shape[2], a.shape[2]]),
            np.array([b_flag, a_flag]),
            np.array([b_leading, a_leading, out.stride(1)]),
            np.array([t.data_ptr() for t in order]),
            np.array([t.stride(0) * 4 for t in order]),
            alpha,
            beta,
        )


def multiply_wide(out: Tensor, a: Tensor, b: Tensor, beta: float = 0.0) -> None:
    """``out <- beta out + a b`` of two matrices, the columns shared out among the threads."""
    whole = b.shape[1] // COLUMNS
    split = whole * COLUMNS
    if whole:
        multiply(
            out[:, :split].unflatten(1, (whole, COLUMNS)).transpose(0, 1),
            a.expand(whole, *a.shape),
            b[:, :split].unflatten(1, (whole, COLUMNS)).transpose(0, 1),
            beta=beta,
        )
    if split < b.shape[1]:
        multiply(out[None, :, split:], a[None], b[None, :, split:], beta=beta)


def _layout(matrix: Tensor) -> tuple[bool, int]:
    """Whether it is stored transposed, and how far apart its lines are."""
    rows, columns = matrix.stride()[1:]
    if columns == 1 and rows >= matrix.shape[2]:
        return False, rows
    assert rows == 1, "one dimension of a factor must be contiguous"
    return True, max(columns, matrix.shape[1])
