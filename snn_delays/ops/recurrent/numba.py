# mypy: allow-untyped-defs
"""Recurrent neurons over whole sequences and their gradient, compiled; ``ops.recurrent.plain`` says
what they compute.

A tile of samples goes through all of time on one thread: the delays filter the tile's spikes, a
small product by R makes them a current, the neurons fire. On the way back a tile first goes forward
again, rounded as before, and so with the same spikes.

Shapes: T time, B batch, N neurons; R tiles of W samples, W as wide as the product's panels; Q = N W
lanes of a tile; K taps of a delay; S states and P parameters of the neuron.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from snn_delays.ops.neurons import Cell, Kind
from snn_delays.ops.scan.numba import _step, _step_back, compiler, steps
from snn_delays.ops.spectral.gemm_llvm import ROWS, UNROLL, VECTOR, VECTORS, multiply
from snn_delays.runtime.buffers import empty
from snn_delays.runtime.numba_jit import inner, kernel, prange

WIDE = 8  # W; the compiled copies find that of their precision, see ``kernels``


def _gather(rows_WN, out_Q):
    """Lanes of a tile from the numbers of its samples; 0 where there is no sample."""
    samples, N = rows_WN.shape
    if samples < WIDE:
        out_Q[:] = 0
    for n in range(N):
        for w in range(samples):
            out_Q[n * WIDE + w] = rows_WN[w, n]


def _scatter(lanes_Q, out_WN):
    samples, N = out_WN.shape
    for n in range(N):
        for w in range(samples):
            out_WN[w, n] = lanes_Q[n * WIDE + w]


def _put_lanes(lanes_Q, out_NW):
    for n in range(out_NW.shape[0]):
        for w in range(WIDE):
            out_NW[n, w] = lanes_Q[n * WIDE + w]


def _multiply(panels, x_Q, offsets, out):
    """``out <- M x`` by the panels [p, N, ROWS] of M; out has ROWS p rows of W."""
    size, N = x_Q.itemsize, panels.shape[1]
    a, b, to = panels.ctypes.data, x_Q.ctypes.data, out.ctypes.data
    for _ in range(panels.shape[0]):
        multiply(out, a, b, N, to, to, WIDE * size, True, a, offsets.ctypes.data)
        a, to = a + N * ROWS * size, to + ROWS * WIDE * size


def _filter(taps_K, rows_KW, out_W):
    """Add rows, weighted; by four, or the sums would go to memory and back with every tap."""
    number, K = out_W.dtype.type, rows_KW.shape[0]
    for k in range(0, K - 3, 4):
        a, b, c, d = taps_K[k], taps_K[k + 1], taps_K[k + 2], taps_K[k + 3]
        for w in range(WIDE):
            out_W[w] += (
                a * number(rows_KW[k, w])
                + b * number(rows_KW[k + 1, w])
                + c * number(rows_KW[k + 2, w])
                + d * number(rows_KW[k + 3, w])
            )
    for k in range(K - K % 4, K):
        for w in range(WIDE):
            out_W[w] += taps_K[k] * number(rows_KW[k, w])


def _delay(spikes_NTW, taps_NK, first_N, t, out_Q):
    """out <- the sum of the spikes that arrive in step t."""
    N, K = taps_NK.shape
    out_Q[:] = 0
    for n in range(N):
        latest = t - first_N[n]
        earliest = max(latest - K + 1, 0)
        if latest >= earliest:
            _filter(
                taps_NK[n, : latest - earliest + 1][::-1], spikes_NTW[n, earliest : latest + 1],
                out_Q[n * WIDE : (n + 1) * WIDE],
            )  # fmt: skip


def _delay_back(g_NTW, taps_NK, first_N, t, g_Q):
    """Add to the gradient of step t's spikes that of the sums they arrive in."""
    N, K = taps_NK.shape
    for n in range(N):
        earliest = t + first_N[n]
        _filter(taps_NK[n], g_NTW[n, earliest : earliest + K], g_Q[n * WIDE : (n + 1) * WIDE])


@inner
def _correlate(g_NTW, spikes_NTW, first_N, out_NK):
    """The gradient of the taps."""
    T, number = g_NTW.shape[1], out_NK.dtype.type
    for n in range(out_NK.shape[0]):
        for k in range(out_NK.shape[1]):
            j = min(first_N[n] + k, T)
            late, early = g_NTW[n, j:].ravel(), spikes_NTW[n, : T - j].ravel()
            total = number(0)
            for q in range(late.size):
                total += late[q] * number(early[q])
            out_NK[n, k] = total


def _arrive(y_WN, t, panels, taps_NK, first_N, mask_Q, spikes_NTW, offsets, current, z_Q, x_Q):
    """x <- the neurons' input in step t, z <- the spikes that arrive."""
    _gather(y_WN, x_Q)
    _delay(spikes_NTW, taps_NK, first_N, t, z_Q)
    _multiply(panels, z_Q, offsets, current)
    for q in range(x_Q.size):
        x_Q[q] += mask_Q[q] * current[q]


def _keep(s_Q, t, spikes_NTW):
    """Keep a step's spikes as bytes."""
    for n in range(spikes_NTW.shape[0]):
        for w in range(WIDE):
            spikes_NTW[n, t, w] = np.uint8(s_Q[n * WIDE + w])


def _scan(
    jobs, y_TBN, panels, taps_NK, first_N, mask_RQ, state_RSQ, own_RPQ, numbers, v_threshold,
    out_TBN,
):  # fmt: skip
    T, B, N = y_TBN.shape
    R, Q = mask_RQ.shape
    dtype = y_TBN.dtype
    for job in prange(jobs):
        x, z, s = np.empty(Q, dtype), np.empty(Q, dtype), np.empty(Q, dtype)
        current, dress = np.empty(panels.shape[0] * ROWS * WIDE, dtype), np.empty((0, Q), dtype)
        spikes, offsets = np.empty((N, T, WIDE), np.uint8), np.zeros(N // UNROLL + 1, np.int64)
        for r in range(job * R // jobs, (job + 1) * R // jobs):
            b = slice(r * WIDE, min((r + 1) * WIDE, B))
            for t in range(T):
                _arrive(
                    y_TBN[t, b], t, panels, taps_NK, first_N, mask_RQ[r], spikes, offsets, current,
                    z, x,
                )  # fmt: skip
                _step(x, dress, state_RSQ[r], own_RPQ[r], numbers, v_threshold, s)
                _keep(s, t, spikes)
                _scatter(s, out_TBN[t, b])


def _scan_gradient(
    jobs, y_TBN, panels, taps_NK, first_N, mask_RQ, state_RSQ, own_RPQ, numbers, v_threshold,
    slope, turned, g_out_TBN, g_y_TBN, g_state_RSQ, g_own_RPQ, g_taps_RNK, z_NRTW,
    g_current_NRTW,
):  # fmt: skip
    T, B, N = y_TBN.shape
    R, Q = mask_RQ.shape
    dtype = y_TBN.dtype
    for job in prange(jobs):
        x, z, s = np.empty((T, Q), dtype), np.empty(Q, dtype), np.empty(Q, dtype)
        g_s, g_x, g_z = np.empty(Q, dtype), np.empty(Q, dtype), np.empty((N, T, WIDE), dtype)
        current, dress = np.empty(panels.shape[0] * ROWS * WIDE, dtype), np.empty((0, Q), dtype)
        spikes, offsets = np.empty((N, T, WIDE), np.uint8), np.zeros(N // UNROLL + 1, np.int64)
        states = np.empty((T + 1, state_RSQ.shape[1], Q), dtype)
        for r in range(job * R // jobs, (job + 1) * R // jobs):
            b = slice(r * WIDE, min((r + 1) * WIDE, B))
            states[0] = state_RSQ[r]
            for t in range(T):
                _arrive(
                    y_TBN[t, b], t, panels, taps_NK, first_N, mask_RQ[r], spikes, offsets, current,
                    z, x[t],
                )  # fmt: skip
                states[t + 1] = states[t]
                _step(x[t], dress, states[t + 1], own_RPQ[r], numbers, v_threshold, s)
                _keep(s, t, spikes)
                _put_lanes(z, z_NRTW[:, r, t])
            g_own_RPQ[r] = 0
            for before in range(T):
                t = T - 1 - before
                _gather(g_out_TBN[t, b], g_s)
                _delay_back(g_z, taps_NK, first_N, t, g_s)
                _step_back(
                    x[t], dress, states[t], own_RPQ[r], numbers, v_threshold, slope,
                    g_s, g_x, g_state_RSQ[r], g_own_RPQ[r], dress,
                )  # fmt: skip
                _scatter(g_x, g_y_TBN[t, b])
                for q in range(Q):
                    g_x[q] *= mask_RQ[r, q]
                _put_lanes(g_x, g_current_NRTW[:, r, t])
                _multiply(turned, g_x, offsets, current)
                _put_lanes(current, g_z[:, t])
            _correlate(g_z, spikes, first_N, g_taps_RNK[r])


@dataclass(frozen=True)
class Kernels:
    """The loops for one kind of cell and precision.

    Attributes:
        scan: (y [T, B, N], panels of R, taps [N, K], j of each neuron's first tap [N], mask
            [R, Q], states [R, S, Q], parameters [R, P, Q], the neuron's numbers, v_threshold, out
            [T, B, N]). The states turn from before the first step to after the last.
        gradient: (the same up to v_threshold, the surrogate's numbers, panels of R
            transposed, g_out [T, B, N], g_y [T, B, N], g_states [R, S, Q], from after the last step
            to before the first; g_parameters [R, P, Q], g_taps [R, N, K], the delayed spikes and
            the gradient of what R makes of them, [N, R, T, W]).
        wide: W.
    """

    scan: Callable[..., None]
    gradient: Callable[..., None]
    wide: int


@functools.cache
def kernels(kind: Kind, number: type) -> Kernels:
    """The loops compiled for a kind of cell, for np.float32 or np.float64."""
    compiled, wide = compiler(__name__, kind, number), VECTORS * VECTOR // number().itemsize
    of_step = steps(kind, number, dressed=False)
    names: dict[str, Any] = {"WIDE": wide, "_step": of_step["_step"]}
    names["_step_back"] = of_step["_step_back"]
    for function in (
        _gather, _scatter, _put_lanes, _multiply, _filter, _delay, _delay_back, _arrive, _keep,
    ):  # fmt: skip
        names[function.__name__] = compiled(function, **names)
    scan, gradient = (compiled(f, kernel, **names) for f in (_scan, _scan_gradient))
    return Kernels(scan, gradient, wide)


@dataclass(frozen=True)
class Problem:
    """What a recurrent layer computes; tensors of one precision, contiguous.

    Attributes:
        cell: the neuron.
        y: feedforward current, [T, B, N].
        first: j of the first tap of each neuron's delay, [N] int64.
        taps: the values of its taps from there on, [N, K].
        weight: R [N, N], from the second to the first.
        mask: of the recurrent current, [B, N].
        states: before the first step, [S, B, N].
        own: the neuron's parameters, a scalar or [N] each.
    """

    cell: Cell
    y: Tensor
    first: Tensor
    taps: Tensor
    weight: Tensor
    mask: Tensor
    states: Tensor
    own: Sequence[Tensor]

    @property
    def kernels(self) -> Kernels:
        """The loops."""
        return kernels(self.cell.kind, self.number)

    @property
    def number(self) -> Any:
        """Type of the numbers."""
        return self.y.numpy().dtype.type

    def arrays(self) -> list[Any]:
        """The loops' arguments, up to the threshold."""
        lanes, number = self.y.shape[1:], self.number
        own = [p.expand(lanes) for p in self.own]
        rows = torch.stack(own) if own else self.y.new_empty(0, *lanes)
        split = [self.split(part).numpy() for part in (self.mask, self.states, rows)]
        tensors = self.y, _panels(self.weight), self.taps, self.first
        numbers = tuple(map(number, self.cell.numbers)), number(self.cell.v_threshold)
        return [*(tensor.numpy() for tensor in tensors), *split, *numbers]

    def split(self, lanes: Tensor) -> Tensor:
        """[..., B, N] -> [R, ..., Q], with zeros behind the last sample."""
        wide = self.kernels.wide
        padded = pad(lanes, (0, 0, 0, -lanes.shape[-2] % wide)).unflatten(-2, (-1, wide))
        return padded.movedim(-3, 0).transpose(-1, -2).flatten(-2).contiguous()

    def join(self, tiles: Any) -> Tensor:
        """[R, ..., Q] -> [..., B, N]."""
        _, B, N = self.y.shape
        by_sample = torch.from_numpy(tiles).unflatten(-1, (N, -1)).transpose(-1, -2)
        return by_sample.movedim(0, -3).flatten(-3, -2)[..., :B, :]


def _panels(weight: Tensor) -> Tensor:
    """The rows of a matrix, a panel's side by side, [p, N, ROWS]."""
    padded = pad(weight, (0, 0, 0, -len(weight) % ROWS)).unflatten(0, (-1, ROWS))
    return padded.transpose(1, 2).contiguous()


def scan(problem: Problem) -> tuple[Tensor, Tensor]:
    """Spikes [T, B, N], and the states after the last step [S, B, N]."""
    out, arrays = torch.empty_like(problem.y), problem.arrays()
    problem.kernels.scan(*arrays, out.numpy())
    return out, problem.join(arrays[5])


@dataclass(frozen=True)
class Gradients:
    """Gradients of a problem's tensors; those of ``own`` for every lane, [P, B, N]."""

    y: Tensor
    taps: Tensor
    weight: Tensor
    states: Tensor
    own: Tensor


def gradients(problem: Problem, g_out: Tensor, g_states: Tensor) -> Gradients:
    """All gradients, from those of spikes [T, B, N] and of the states after the last step."""
    arrays, y = problem.arrays(), problem.y
    slope = tuple(map(problem.number, problem.cell.slope))
    (T, _, N), R = y.shape, len(arrays[6])
    g_y, g_tiles = torch.empty_like(y), problem.split(g_states).numpy()
    g_own, g_taps = np.empty_like(arrays[6]), y.new_empty(R, *problem.taps.shape)
    z, g_current = (empty((N, R, T, problem.kernels.wide), y) for _ in "12")
    problem.kernels.gradient(
        *arrays, slope, _panels(problem.weight.T).numpy(), g_out.numpy(), g_y.numpy(), g_tiles,
        g_own, g_taps.numpy(), z.numpy(), g_current.numpy(),
    )  # fmt: skip
    g_weight = g_current.flatten(1) @ z.flatten(1).T
    return Gradients(g_y, g_taps.sum(0), g_weight, problem.join(g_tiles), problem.join(g_own))
