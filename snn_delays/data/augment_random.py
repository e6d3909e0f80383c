"""Random numbers of augmentation. Shapes: T time, B batch, I input channels.

Numbers per sample are always drawn by numpy on the host and copied to the device as a few rows; a
number whose range depends on the data is drawn uniform in [0, 1) and scaled on the device. Numbers
per cell (step, sample, channel) are drawn by numpy on the CPU, and on a GPU by torch, with a
generator that numpy seeds (another model of GPU may draw other numbers). A batch thus depends on
numpy's generator alone, and the host never waits for a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_delays.runtime.device import bring


def rows_on_device(device: torch.device, *rows: NDArray[Any]) -> Tensor:
    """Rows of one number per sample, on the device, [len(rows), B] float64: integers are exact."""
    return bring(torch.from_numpy(np.stack([row.astype(np.float64) for row in rows])), device)


def scaled(share_B: Tensor, most: Tensor | int) -> Tensor:
    """Shares in [0, 1) as integers from 0 to ``most``; uniform shares give uniform integers."""
    return (share_B * (most + 1)).long()


def partners(groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each sample another one of its group, uniformly, or itself if it is alone. [B] -> [B]."""
    order = np.argsort(groups, kind="stable")
    _, first, size = np.unique(groups[order], return_index=True, return_counts=True)
    start, size = np.repeat(first, size), np.repeat(size, size)
    further = 1 + rng.integers(0, np.maximum(size - 1, 1))
    partner = np.empty_like(order)
    partner[order] = order[start + (np.arange(order.size) - start + further) % size]
    return partner


def thinned(count_TBI: Tensor, p: float, rng: np.random.Generator) -> Tensor:
    """Counts after removing each spike with probability ``p``."""
    if numpy_draws(count_TBI):
        return torch.from_numpy(_thinned(count_TBI.numpy(), p, rng))
    kept = torch.full((), 1 - p, device=count_TBI.device).expand(count_TBI.shape)
    left = torch.binomial(count_TBI.float(), kept, generator=device_generator(count_TBI, rng))
    return left.to(count_TBI.dtype)


def with_noise_spikes(count_TBI: Tensor, mean: float, rng: np.random.Generator) -> Tensor:
    """Counts plus Poisson noise of ``mean`` spikes per sample and step, uniform over channels."""
    if numpy_draws(count_TBI):
        return _with_noise_spikes(count_TBI, mean, rng)
    # a Poisson number split over channels gives independent Poisson numbers
    rate = torch.full(count_TBI.shape, mean / count_TBI.shape[2], device=count_TBI.device)
    return count_TBI + torch.poisson(rate, device_generator(count_TBI, rng)).to(count_TBI.dtype)


def numpy_draws(count_TBI: Tensor) -> bool:
    """Whether numpy draws the numbers per cell, as on the CPU."""
    return count_TBI.device.type == "cpu"


def device_generator(like: Tensor, rng: np.random.Generator) -> torch.Generator:
    """A generator on the device of ``like``, seeded by ``rng``."""
    return torch.Generator(like.device).manual_seed(int(rng.integers(2**63)))


def _thinned(count_TBI: NDArray[Any], p: float, rng: np.random.Generator) -> NDArray[Any]:
    count = count_TBI.reshape(-1)
    left = count - (_coins(count.size, p, rng) & (count > 0)).view(np.uint8)
    some, k = np.flatnonzero(count > 1), 1
    while some.size:  # the k-th spike of the cells that have so many
        left[some] -= rng.random(some.size, np.float32) < p
        k += 1
        some = some[np.flatnonzero(count[some] > k)]
    return left.reshape(count_TBI.shape)


def _coins(n: int, p: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """[n], each True with probability ``p``: a random byte decides most, a float the others."""
    sure = int(256 * p)
    byte = rng.integers(2**64, size=-(-n // 8), dtype=np.uint64).view(np.uint8)[:n]
    coins = byte < sure
    undecided = np.flatnonzero(byte == sure)
    coins[undecided] = rng.random(undecided.size) < 256 * p - sure
    return coins


def _with_noise_spikes(count_TBI: Tensor, mean: float, rng: np.random.Generator) -> Tensor:
    steps, samples, _ = count_TBI.shape
    number = rng.poisson(mean * steps * samples)
    drawn = rng.integers(0, count_TBI.numel(), number)
    cells, times = np.unique(drawn, return_counts=True)
    sums = count_TBI.numpy().reshape(-1)[cells] + times
    out = widened(count_TBI, int(sums.max(initial=0))).clone(memory_format=torch.contiguous_format)
    out.numpy().reshape(-1)[cells] = sums
    return out


def widened(count_TBI: Tensor, largest: int) -> Tensor:
    """Counts as 32-bit integers if they are bytes and ``largest`` does not fit in a byte."""
    narrow = count_TBI.dtype == torch.uint8 and largest > 255
    return count_TBI.int() if narrow else count_TBI
