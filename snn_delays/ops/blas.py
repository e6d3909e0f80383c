# mypy: allow-untyped-defs
"""SciPy's BLAS called from compiled loops: a matrix per thread, each product on one thread."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from snn_delays.ops import compiled
from snn_delays.ops.compiled import inner


@functools.cache
def _controller() -> Any:
    import threadpoolctl

    return threadpoolctl.ThreadpoolController().select(user_api="blas")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A context in which a product runs on the thread that calls it and starts no threads.

    The limit is the process's, so two threads must not set and restore it by turns.
    """
    with compiled.exclusive(), _controller().limit(limits=1):
        yield


if compiled.available():
    from llvmlite import binding
    from numba.core import types
    from numba.extending import get_cython_function_address, overload

    def _external(letter: str) -> Any:
        name = f"snn_delays_{letter}gemm"  # by name, so that the cache can keep callers
        address = get_cython_function_address("scipy.linalg.cython_blas", f"{letter}gemm")
        binding.add_symbol(name, address)
        return types.ExternalFunction(name, types.void(*([types.intp] * 13)))

    _sgemm, _dgemm = _external("s"), _external("d")

    def _gemm(out, *_):
        raise NotImplementedError

    @overload(_gemm)
    def _typed_gemm(out, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        if out.dtype == types.float32:
            return lambda out, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc: _sgemm(
                ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc
            )
        return lambda out, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc: _dgemm(
            ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc
        )


@inner
def new_room(like):
    """Memory for the arguments of ``add_product``."""
    return np.empty(2, np.int8), np.empty(6, np.int32), np.empty(2, like.dtype)


@inner
def add_product(alpha, a, a_turned, b, b_turned, beta, out, letters, sizes, factors):
    """``out <- beta out + alpha a b``, a and b transposed where so said; BLAS stores columns, so b
    comes first.
    """
    sizes[0], sizes[1] = out.shape[1], out.shape[0]
    sizes[2] = a.shape[0] if a_turned else a.shape[1]
    sizes[3], sizes[4], sizes[5] = b.shape[1], a.shape[1], out.shape[1]
    letters[0], letters[1] = 84 if b_turned else 78, 84 if a_turned else 78  # T, N
    factors[0], factors[1] = alpha, beta
    c, i, f = letters.ctypes.data, sizes.ctypes.data, factors.ctypes.data
    _gemm(
        out, c, c + 1, i, i + 4, i + 8, f, b.ctypes.data, i + 12, a.ctypes.data, i + 16,
        f + factors.itemsize, out.ctypes.data, i + 20,
    )  # fmt: skip
