"""Samples and whole batches. Shapes: T time, B batch, I input channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_delays.data.cache import FrameStore


@dataclass(frozen=True)
class Samples:
    """Chosen samples of one or more frame stores.

    Attributes:
        stores: the stores.
        rows: [N, 2], number of the store and of the sample in it.
    """

    stores: tuple[FrameStore, ...]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, store: FrameStore, mask: NDArray[np.bool_] | None = None) -> Samples:
        """The samples of ``store``, or those where ``mask`` is True."""
        index = np.arange(len(store)) if mask is None else np.flatnonzero(mask)
        return cls((store,), np.stack([np.zeros_like(index), index], axis=1))

    def __add__(self, other: Samples) -> Samples:
        shifted = other.rows + np.array([len(self.stores), 0])
        return Samples(self.stores + other.stores, np.concatenate([self.rows, shifted]))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N]."""
        return np.array([self.stores[s].labels[i] for s, i in self.rows], np.int64)

    @property
    def speakers(self) -> NDArray[np.int64] | None:
        """[N], or None where a store knows none."""
        known = [store.speakers for store in self.stores if store.speakers is not None]
        if len(known) < len(self.stores):
            return None
        return np.array([known[s][i] for s, i in self.rows], np.int64)

    @property
    def longest(self) -> int:
        """Steps of the longest sample."""
        return max(int(self.stores[s].start[i + 1] - self.stores[s].start[i]) for s, i in self.rows)

    def frames(self, number: int) -> NDArray[np.unsignedinteger]:
        """Frames of one sample, [T, I]."""
        store, i = self.stores[self.rows[number, 0]], self.rows[number, 1]
        return store.frames[store.start[i] : store.start[i + 1]]


@dataclass(frozen=True)
class Batch:
    """x: [T, B, I] spike counts; y: [B] labels; numbers: [B] places in the samples."""

    x: Tensor
    y: Tensor
    numbers: NDArray[np.int64]


@dataclass(frozen=True)
class Loader:
    """Whole batches, padded with zeros behind.

    Attributes:
        samples: what to load.
        batch_size: samples per batch; the last batch may be smaller.
        steps: length that every batch is padded to, never cutting a longer sample; None pads each
            batch to its own longest sample.
        dtype: of ``Batch.x``.
        device: of the batches.
        shuffle_seed: None keeps the order; otherwise the order of an epoch is a function of this
            seed and the epoch alone.
    """

    samples: Samples
    batch_size: int
    steps: int | None
    dtype: torch.dtype
    device: torch.device
    shuffle_seed: int | None = None

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    def epoch(self, epoch: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0."""
        order = np.arange(len(self.samples))
        if self.shuffle_seed is not None:
            order = np.random.default_rng([self.shuffle_seed, epoch]).permutation(order)
        labels = self.samples.labels
        for first in range(0, len(order), self.batch_size):
            numbers = order[first : first + self.batch_size]
            y = torch.from_numpy(labels[numbers]).to(self.device)
            yield Batch(self._frames(numbers), y, numbers)

    def _frames(self, numbers: NDArray[np.int64]) -> Tensor:
        frames = [self.samples.frames(n) for n in numbers]
        steps = max(max(map(len, frames)), self.steps or 0)
        x_TBI = np.zeros((steps, len(frames), frames[0].shape[1]), np.result_type(*frames))
        for b, f in enumerate(frames):
            x_TBI[: len(f), b] = f
        return torch.from_numpy(x_TBI).to(self.device, self.dtype)
