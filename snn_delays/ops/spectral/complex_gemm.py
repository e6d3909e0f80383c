# mypy: allow-untyped-defs
"""Complex matrix products on one thread, compiled.

Matrices are [2, m, k], real and imaginary part. The factors are packed a panel at a time, as
``ops.spectral.gemm_llvm`` says; a block of the left factor stays in the second cache while the
right factor's panels pass. Numbers without use, at the edges, are computed and left out.
"""

from __future__ import annotations

import numpy as np

from snn_delays.ops.spectral.gemm_llvm import (
    ROWS,
    VECTOR,
    VECTORS,
    multiply,
    pack_left_block,
    pack_left_row,
    pack_right_block,
    pack_right_row,
)
from snn_delays.runtime.numba_jit import inner

DEPTH = 2048  # bytes of a row or column in a panel, at most
BLOCK = 128 // ROWS * ROWS  # rows of a block of such depth, at most; more where k is less
LINE = 64  # bytes


@inner
def new_room(like):
    """Memory for ``complex_product``: the packed factors, a tile, what is to be fetched."""
    depth, wide = DEPTH // like.itemsize, VECTORS * VECTOR // like.itemsize
    left, right = np.empty(3 * BLOCK * depth, like.dtype), np.empty(3 * wide * depth, like.dtype)
    return left, right, np.empty((2, ROWS, wide), like.dtype), np.zeros(6 * depth, np.int64)


# ---- packing: x is [2, k, n], or [2, n, k] where turned; out is [3, k, width] ------------------


@inner
def _number(x, turned, k, n):
    return (x[0, n, k], x[1, n, k]) if turned else (x[0, k, n], x[1, k, n])


@inner
def _pack_left_edge(x, turned, k0, k1, n0, n1, out, sign):
    planes = out[: 3 * (k1 - k0) * ROWS].reshape(3, k1 - k0, ROWS)
    planes[:, :, n1 - n0 :] = 0
    for k in range(k0, k1):
        for n in range(n0, n1):
            re, im = _number(x, turned, k, n)
            planes[0, k - k0, n - n0] = re
            planes[1, k - k0, n - n0] = sign * (re + im)
            planes[2, k - k0, n - n0] = im - re


@inner
def _pack_right_edge(x, turned, k0, k1, n0, n1, out, sign):
    wide = VECTORS * VECTOR // x.itemsize
    planes = out[: 3 * (k1 - k0) * wide].reshape(3, k1 - k0, wide)
    planes[:, :, n1 - n0 :] = 0
    for k in range(k0, k1):
        for n in range(n0, n1):
            re, im = _number(x, turned, k, n)
            planes[0, k - k0, n - n0] = re + sign * im
            planes[1, k - k0, n - n0] = im
            planes[2, k - k0, n - n0] = re


@inner
def _pack_left(x, turned, k0, k1, n0, n1, out, sign):
    lanes, row = VECTOR // x.itemsize, x.shape[2] * x.itemsize
    im, step = x.shape[1] * row, ROWS * x.itemsize  # from real to imaginary parts; from k to k
    plane = (k1 - k0) * step
    if turned and k1 - k0 >= lanes:
        for k in range(k0, k1, lanes):
            k = min(k, k1 - lanes)
            at, to = x.ctypes.data + n0 * row + k * x.itemsize, out.ctypes.data + (k - k0) * step
            pack_left_block(x, at, at + im, row, n1 - n0 - 1, to, plane, sign)
    elif not turned and n1 - n0 == ROWS:
        for k in range(k0, k1):
            at, to = x.ctypes.data + k * row + n0 * x.itemsize, out.ctypes.data + (k - k0) * step
            pack_left_row(x, at, at + im, to, plane, sign)
    else:
        _pack_left_edge(x, turned, k0, k1, n0, n1, out, sign)


@inner
def _pack_right(x, turned, k0, k1, n0, n1, out, sign):
    lanes, row = VECTOR // x.itemsize, x.shape[2] * x.itemsize
    im, step = x.shape[1] * row, VECTORS * VECTOR
    plane = (k1 - k0) * step
    if turned and k1 - k0 >= lanes:
        for k in range(k0, k1, lanes):
            k = min(k, k1 - lanes)
            at, to = x.ctypes.data + n0 * row + k * x.itemsize, out.ctypes.data + (k - k0) * step
            for n in range(0, n1 - n0, lanes):
                pack_right_block(x, at, at + im, row, n1 - n0 - n - 1, to, plane, sign)
                at, to = at + lanes * row, to + VECTOR
    elif not turned and n1 - n0 == VECTORS * lanes:
        for k in range(k0, k1):
            at, to = x.ctypes.data + k * row + n0 * x.itemsize, out.ctypes.data + (k - k0) * step
            pack_right_row(x, at, at + im, to, plane, sign)
    else:
        _pack_right_edge(x, turned, k0, k1, n0, n1, out, sign)


@inner
def _list_lines(x, turned, depth, offsets):
    """Of the right factor: a panel's cache lines, counted from its beginning, both parts."""
    row, wide = x.shape[2] * x.itemsize, VECTORS * VECTOR // x.itemsize
    rows, length = (wide, depth) if turned else (depth, wide)
    count = 0
    for r in range(rows):
        for byte in range(0, length * x.itemsize, LINE):
            offsets[count] = r * row + byte
            offsets[count + 1] = offsets[count] + x.shape[1] * row
            count += 2
    return count


# ---- products ----------------------------------------------------------------------------------


@inner
def _copy_tile(tile, out, i, j, more, real):
    """What of a tile lies within ``out``; added to it where there is ``more``."""
    rows, columns = min(ROWS, out.shape[1] - i), min(tile.shape[2], out.shape[2] - j)
    for part in range(1 if real else 2):
        for r in range(rows):
            x, y = tile[part, r, :columns], out[part, i + r, j : j + columns]
            for q in range(columns):
                y[q] = y[q] + x[q] if more else x[q]


@inner
def _multiply_block(left, right, depth, i0, i1, j, more, real, out, tile, source, offsets, lines):
    """All tiles of a block and a panel; each fetches its share of the lines."""
    tiles, size = (i1 - i0 + ROWS - 1) // ROWS, out.itemsize
    wide = tile.shape[2]
    for t in range(tiles):
        i = i0 + t * ROWS
        row, im = out.shape[2] * size, out.shape[1] * out.shape[2] * size
        to = out.ctypes.data + i * row + j * size
        apart = more or i + ROWS > out.shape[1] or j + wide > out.shape[2]
        if apart:
            to, row, im = tile.ctypes.data, wide * size, ROWS * wide * size
        a = left.ctypes.data + 3 * t * depth * ROWS * size
        share = offsets.ctypes.data + t * lines // tiles * offsets.itemsize
        b = right.ctypes.data
        multiply(out, a, b, depth, to, to + im, row, real, source, share)
        if apart:
            _copy_tile(tile, out, i, j, more, real)


@inner
def complex_product(a, a_turned, b, b_turned, conjugate, real, out, room):
    """``out <- a b``, the factors transposed and b conjugated where so said.

    Where it is ``real``, so are a and b: their imaginary parts count as zero, and must be finite.
    """
    left, right, tile, offsets = room
    sign = out.dtype.type(-1 if conjugate else 1)
    of_right = out.dtype.type(0) if real else sign
    rows, columns = out.shape[1], out.shape[2]
    length, wide = a.shape[1] if a_turned else a.shape[2], tile.shape[2]
    for k0 in range(0, length, DEPTH // out.itemsize):
        k1 = min(k0 + DEPTH // out.itemsize, length)
        lines = _list_lines(b, b_turned, k1 - k0, offsets)
        blocks = left.size // (3 * ROWS * (k1 - k0))  # tiles that there is room for
        blocks = max((rows + blocks * ROWS - 1) // (blocks * ROWS), 1)
        block = (rows + blocks * ROWS - 1) // (blocks * ROWS) * ROWS
        for i0 in range(0, rows, block):
            i1 = min(i0 + block, rows)
            for t, i in enumerate(range(i0, i1, ROWS)):
                to = left[3 * t * (k1 - k0) * ROWS :]
                _pack_left(a, not a_turned, k0, k1, i, min(i + ROWS, i1), to, -sign)
            for j in range(0, columns, wide):
                _pack_right(b, b_turned, k0, k1, j, min(j + wide, columns), right, of_right)
                source = b.ctypes.data + b.nbytes  # behind the last panel, the next matrix
                if j + wide < columns:
                    ahead = (j + wide) * b.shape[2] + k0 if b_turned else k0 * columns + j + wide
                    source = b.ctypes.data + ahead * out.itemsize
                _multiply_block(
                    left, right, k1 - k0, i0, i1, j, k0 > 0, real, out, tile, source, offsets, lines
                )
    if real:
        out[1] = 0
