# mypy: allow-untyped-defs, allow-incomplete-defs
"""BatchNorm in training on the GPU: ``ops.batch_norm`` says what is computed between sums.

Shapes: T time, B batch, C channels, N = B C lanes, P parts of time. Sums over all steps and
samples are made in two turns: each lane of a program keeps its own over a part of time, and then a
program adds up all lanes of its channels in float64. No sum is made by atomic additions, whose
order varies from call to call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_delays.ops import batch_norm
from snn_delays.ops.batch_norm import Running
from snn_delays.ops.primitives_triton import where
from snn_delays.runtime import triton_jit
from snn_delays.runtime.specialise import specialise
from snn_delays.runtime.triton_jit import jit, tl

PART = 64  # steps of a program where steps do not depend on each other
ROWS = 128  # lanes of a channel that a program adds up at a time


variance, affine, gamma_gradient, factors, unbiased = (
    jit(specialise(function, __name__, tl=tl, where=where))
    for function in (
        batch_norm.variance,
        batch_norm.affine,
        batch_norm.gamma_gradient,
        batch_norm.factors,
        batch_norm.unbiased,
    )
)


@jit
def _sums(y_TN, pivot_C, sums_P2N, T, N, C, PART: tl.constexpr, LANES: tl.constexpr):
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    pivot = tl.load(pivot_C + n % C, inside, other=0.0)
    total = tl.zeros_like(pivot)
    squares = tl.zeros_like(pivot)
    part = tl.program_id(1).to(tl.int64)
    first = tl.program_id(1) * PART
    at = part * PART * N + n
    for _ in tl.range(first, tl.minimum(first + PART, T), num_stages=8):
        u = tl.load(y_TN + at, inside, other=0.0).to(pivot.dtype) - pivot
        total += u
        squares += u * u
        at += N
    out = sums_P2N + part * 2 * N + n
    tl.store(out, total, inside)
    tl.store(out + N, squares, inside)


@jit
def _added(sums_P2BC, c, P, B, C, ROWS: tl.constexpr):
    """Both sums of every channel, over parts and samples, in float64."""
    r = tl.arange(0, ROWS)
    first = tl.zeros([ROWS, c.shape[0]], tl.float64)
    second = tl.zeros([ROWS, c.shape[0]], tl.float64)
    for start in tl.range(0, P * B, ROWS, num_stages=4):
        row = start + r
        used = (row < P * B)[:, None] & (c < C)[None, :]
        at = (row // B * 2 * B + row % B).to(tl.int64)[:, None] * C + c[None, :]
        first += tl.load(sums_P2BC + at, used, other=0.0).to(tl.float64)
        second += tl.load(sums_P2BC + B * C + at, used, other=0.0).to(tl.float64)
    return tl.sum(first, 0), tl.sum(second, 0)


@jit
def _lerp(old_C, c, inside, new, MOMENTUM: tl.constexpr):
    old = tl.load(old_C + c, inside, other=0.0)
    tl.store(old_C + c, old + MOMENTUM * (new.to(old.dtype) - old), inside)


@jit
def _statistics(
    sums_P2BC, pivot_C, gamma_C, beta_C, moments_3C, norm_3C, mean_C, var_C, batches, P, B, C,
    n, others, EPS: tl.constexpr, MOMENTUM: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = c < C
    first, second = _added(sums_P2BC, c, P, B, C, ROWS)
    first = first / n
    mean = first + tl.load(pivot_C + c, inside, other=0.0).to(tl.float64)
    var = variance(first, second / n)
    rstd = 1.0 / tl.sqrt(var + EPS)
    tl.store(moments_3C + c, mean, inside)
    tl.store(moments_3C + C + c, var, inside)
    tl.store(moments_3C + 2 * C + c, rstd, inside)
    gamma = tl.load(gamma_C + c, inside, other=0.0).to(tl.float64)
    beta = tl.load(beta_C + c, inside, other=0.0).to(tl.float64)
    centre = mean.to(norm_3C.dtype.element_ty)
    scale, shift = affine(mean, rstd, gamma, beta, centre.to(tl.float64))
    tl.store(norm_3C + c, centre, inside)
    tl.store(norm_3C + C + c, scale.to(centre.dtype), inside)
    tl.store(norm_3C + 2 * C + c, shift.to(centre.dtype), inside)
    if mean_C is not None:
        _lerp(mean_C, c, inside, mean, MOMENTUM)
        _lerp(var_C, c, inside, unbiased(var, n, others), MOMENTUM)
        if tl.program_id(0) == 0:
            tl.store(batches, tl.load(batches) + 1)


@jit
def _factors(
    sums_2BC, moments_3C, gamma_C, g_gamma_C, g_beta_C, factors_4C, B, C, n,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = c < C
    total, moment = _added(sums_2BC, c, 1, B, C, ROWS)
    mean = tl.load(moments_3C + c, inside, other=0.0)
    rstd = tl.load(moments_3C + 2 * C + c, inside, other=0.0)
    gamma = tl.load(gamma_C + c, inside, other=0.0)
    centre = mean.to(factors_4C.dtype.element_ty)
    near = centre.to(tl.float64)
    g_gamma = gamma_gradient(total, moment, mean, rstd, near)
    of_g, constant, of_y = factors(g_gamma, total, mean, rstd, gamma.to(tl.float64), near, n)
    tl.store(g_gamma_C + c, g_gamma.to(gamma.dtype), inside)
    tl.store(g_beta_C + c, total.to(g_beta_C.dtype.element_ty), inside)
    tl.store(factors_4C + c, centre, inside)
    tl.store(factors_4C + C + c, of_g.to(centre.dtype), inside)
    tl.store(factors_4C + 2 * C + c, constant.to(centre.dtype), inside)
    tl.store(factors_4C + 3 * C + c, of_y.to(centre.dtype), inside)


@jit
def _norm_gradient(
    g_TN, y_TN, factors_4C, out_TN, T, N, C, PART: tl.constexpr, LANES: tl.constexpr
):
    n = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = n < N
    centre = tl.load(factors_4C + n % C, inside, other=0.0)
    a = tl.load(factors_4C + C + n % C, inside, other=0.0)
    b = tl.load(factors_4C + 2 * C + n % C, inside, other=0.0)
    c = tl.load(factors_4C + 3 * C + n % C, inside, other=0.0)
    first = tl.program_id(1) * PART
    at = tl.program_id(1).to(tl.int64) * PART * N + n
    for _ in tl.range(first, tl.minimum(first + PART, T), num_stages=8):
        u = tl.load(y_TN + at, inside, other=0.0).to(centre.dtype) - centre
        g = a * tl.load(g_TN + at, inside, other=0.0) + b + c * u
        tl.store(out_TN + at, g.to(out_TN.dtype.element_ty), inside)
        at += N


def sums(y_TBC: Tensor, pivot_C: Tensor) -> Tensor:
    """Over a part of time each, sums of ``y - pivot`` and of its square, [P, 2, B, C]."""
    T, B, C = y_TBC.shape
    parts = -(-T // PART)
    out = pivot_C.new_empty(parts, 2, B, C)
    triton_jit.launch(_sums, B * C, y_TBC, pivot_C, out, T, B * C, C, parts=parts, PART=PART)
    return out


def statistics(
    sums_P2BC: Tensor, pivot_C: Tensor, gamma_C: Tensor, beta_C: Tensor, eps: float, n: int,
    running: Running | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What comes of the sums over n numbers of each channel; the running statistics move along.

    Returns:
        mean, biased variance and ``1 / sqrt(variance + eps)`` in float64 [3, C]; centre, scale and
        shift [3, C].
    """
    P, _, B, C = sums_P2BC.shape
    moments, norm = pivot_C.new_empty(3, C, dtype=torch.float64), pivot_C.new_empty(3, C)
    if running:
        batch_norm.check_numbers(n)
    kept = (running.mean, running.var, running.batches) if running else (None, None, None)
    tensors = sums_P2BC, pivot_C, gamma_C, beta_C, moments, norm, *kept
    triton_jit.launch(
        _statistics, C, *tensors, P, B, C, n, max(n - 1, 1), EPS=float(eps),
        MOMENTUM=float(running.momentum) if running else 0.0, **_rows(sums_P2BC),
    )  # fmt: skip
    return moments, norm


def factors_of(
    sums_2BC: Tensor, moments_3C: Tensor, gamma_C: Tensor, beta_C: Tensor, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of gamma and beta from the sums of the scan's gradient; centre, a, b, c [4, C]."""
    _, B, C = sums_2BC.shape
    found = torch.empty_like(gamma_C), torch.empty_like(beta_C), sums_2BC.new_empty(4, C)
    triton_jit.launch(
        _factors, C, sums_2BC, moments_3C, gamma_C, *found, B, C, n, **_rows(sums_2BC)
    )
    return found


def norm_gradient(g_TBC: Tensor, y_TBC: Tensor, factors_4C: Tensor, out_TBC: Tensor) -> None:
    """Out, which may be g, <- ``a g + b + c (y - centre)``; the factors are centre, a, b, c."""
    T, B, C = y_TBC.shape
    tensors = g_TBC, y_TBC, factors_4C, out_TBC
    triton_jit.launch(_norm_gradient, B * C, *tensors, T, B * C, C, parts=-(-T // PART), PART=PART)


def _rows(sums: Tensor) -> dict[str, int]:
    """How many lanes of a channel are added up at a time, and their bytes."""
    return {"ROWS": ROWS, "width": ROWS * sums.element_size()}
