"""Samples, and batches loaded on the host. Shapes: T time, B batch, I input channels, K classes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_delays.config import DataConfig
from snn_delays.data.augment import augment
from snn_delays.data.frame_cache import FrameStore
from snn_delays.data.sources import to_float
from snn_delays.data.speech import augment_waves, log_mel
from snn_delays.runtime.device import bring
from snn_delays.runtime.distributed import Part

AHEAD = 2  # batches that are prepared while another one trains


@dataclass(frozen=True)
class Samples:
    """Chosen samples of one or more frame stores.

    Attributes:
        stores: the stores.
        rows: [N, 2], for each sample the index of its store and its index within that store.
    """

    stores: tuple[FrameStore, ...]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, store: FrameStore) -> Samples:
        """All samples of ``store``."""
        index = np.arange(len(store))
        return cls((store,), np.stack([np.zeros_like(index), index], axis=1))

    def where(self, mask: NDArray[np.bool_]) -> Samples:
        """The samples where ``mask`` [N] is True."""
        return Samples(self.stores, self.rows[mask])

    def __add__(self, other: Samples) -> Samples:
        shifted = other.rows + np.array([len(self.stores), 0])
        return Samples(self.stores + other.stores, np.concatenate([self.rows, shifted]))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Labels, [N]."""
        return self._gather([store.labels for store in self.stores])

    @cached_property
    def steps(self) -> NDArray[np.int64]:
        """Number of time steps of each sample, [N]."""
        return self._gather([store.steps for store in self.stores])

    @cached_property
    def speakers(self) -> NDArray[np.str_] | None:
        """Speaker of each sample, [N]; None if a store does not know its speakers."""
        known = [store.speakers for store in self.stores if store.speakers is not None]
        return None if len(known) < len(self.stores) else self._gather(known)

    @property
    def fingerprints(self) -> NDArray[np.int64]:
        """A hash of each sample's frames, [N]; equal frames have equal hashes."""
        return self._gather([store.file.fingerprints for store in self.stores])

    def _gather(self, columns: list[NDArray[Any]]) -> NDArray[Any]:
        """The samples' entries from one column per store."""
        first = np.cumsum([0, *map(len, columns)])
        return np.concatenate(columns)[first[self.rows[:, 0]] + self.rows[:, 1]]

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """A type that holds all frames: uint8, int32 or a float type."""
        held = np.result_type(*(store.dtype for store in self.stores))
        return held if held == np.uint8 or held.kind == "f" else np.dtype(np.int32)

    @property
    def longest(self) -> int:
        """Steps of the longest sample."""
        return int(self.steps.max())

    def frames(self, number: int) -> NDArray[Any]:
        """Frames of one sample, [T, I]."""
        store, i = self.rows[number]
        return self.stores[store].frames(i)

    @property
    def has_targets(self) -> bool:
        """Whether the samples have targets per step in place of classes."""
        return self.stores[0].has_targets

    def targets(self, number: int) -> NDArray[np.float32]:
        """Targets of one sample, [T, K], NaN where there is none."""
        store, i = self.rows[number]
        return self.stores[store].targets(i)

    @cached_property
    def target_variance(self) -> float:
        """Smallest mean squared error of outputs that do not change, each with its own value.

        As in the loss, the mean is over samples, of the mean over the sample's own targets.
        """
        every = [self.targets(number).astype(np.float64) for number in range(len(self))]
        counts = [np.isfinite(y_TK).sum() for y_TK in every]
        weight_M = np.repeat(1 / np.array(counts), [len(y_TK) for y_TK in every])
        y_MK = np.concatenate(every)
        weight_MK = weight_M[:, None] * np.isfinite(y_MK)
        y_MK = np.nan_to_num(y_MK)
        mean_K = (weight_MK * y_MK).sum(0) / np.maximum(weight_MK.sum(0), np.finfo(float).tiny)
        return float((weight_MK * (y_MK - mean_K) ** 2).sum() / len(self))

    def waveform(self, number: int) -> NDArray[np.int16]:
        """Waveform of one sample, int16 [samples]; only audio has waveforms."""
        store, i = self.rows[number]
        return self.stores[store].waveforms.frames(i)[:, 0]


@dataclass(frozen=True)
class Batch:
    """Samples of one training step: the whole batch, or the part of it that one rank holds.

    Attributes:
        x: [T, B, I] spike counts, or log-mel energies.
        y: [B] labels.
        target: target of the loss: the labels, or [B, K] probabilities where labels are mixed, or
            [T, B, K] targets per step, NaN where there is none.
        indices: index of every sample of the whole batch in the loader's samples.
        own_rows: the slice of ``indices`` that this rank holds in x, y and target; None: all.
        loss_weight: weight of this rank's mean loss in the mean over the whole batch; the weights
            of all ranks add up to 1.
    """

    x: Tensor
    y: Tensor
    target: Tensor
    indices: NDArray[np.int64]
    own_rows: slice | None = None
    loss_weight: float = 1.0

    @property
    def per_step(self) -> bool:
        """Whether the target has a value for every step."""
        return self.target.dim() == 3

    @property
    def own_part(self) -> Part | None:
        """The part of the batch that this rank holds; None if it holds the whole batch."""
        whole = len(self.indices)
        return Part(self.own_rows, whole) if self.own_rows and len(self.y) < whole else None


@dataclass(frozen=True)
class Loader:
    """Batches, padded with zeros at their end; a thread prepares them ahead of their use.

    Attributes:
        samples: the samples to load.
        batch_size: samples per batch; the last batch may be smaller.
        steps: length that every batch is padded to, never cutting a longer sample; None pads each
            batch to its own longest sample.
        dtype: of ``Batch.x``.
        device: of the batches.
        shuffle_seed: None keeps the order; otherwise order and augmentation of an epoch depend on
            this seed and the epoch alone.
        augmented: options of the data, with the augmentation to apply; None applies none.
        shard: rank and world size: each rank loads its part of every batch. A batch with fewer
            samples than ranks goes to every rank whole.
    """

    samples: Samples
    batch_size: int
    steps: int | None
    dtype: torch.dtype
    device: torch.device
    shuffle_seed: int | None = None
    augmented: DataConfig | None = None
    shard: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    @property
    def augments_waveforms(self) -> bool:
        """Whether waveforms are augmented; frames are then made anew for each batch."""
        return self.augmented is not None and self.augmented.augment.of_waves

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Order of the samples in an epoch, as indices, [N]."""
        order = np.arange(len(self.samples))
        if self.shuffle_seed is None:
            return order
        return np.random.default_rng([self.shuffle_seed, epoch]).permutation(order)

    def batch_indices(self, epoch: int, batch: int) -> NDArray[np.int64]:
        """Indices of a batch's samples, [B]; epoch and batch are counted from 0."""
        return self.order(epoch)[batch * self.batch_size :][: self.batch_size]

    def epoch(self, epoch: int = 0, first: int = 0, every: int = 1) -> Iterator[Batch]:
        """Batches ``first``, ``first + every``, ... of an epoch; epoch and batch count from 0."""
        order = self.order(epoch)
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(1, "batches") as worker:
            for batch in range(first, len(self), every):
                indices = order[batch * self.batch_size :][: self.batch_size]
                waiting.append(worker.submit(self._batch, epoch, batch, indices))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _batch(self, epoch: int, batch: int, indices: NDArray[np.int64]) -> Batch:
        labels, target = self.samples.labels[indices], None
        own_rows, loss_weight = self.own_rows(len(indices))
        if self.augmented is None:
            x_TBI = self.padded_frames(indices[own_rows], self.steps_of(indices))
        else:
            # augmentation mixes samples of the whole batch, so each rank makes all of them
            x_TBI, target = self._augmented(epoch, batch, indices)
            x_TBI = x_TBI[:, own_rows].contiguous()
        y = bring(torch.from_numpy(labels[own_rows]), self.device)
        if self.samples.has_targets:
            target = self.padded_targets(indices[own_rows], len(x_TBI))
        elif target is not None:
            target = target[own_rows]
        if target is not None:
            target = bring(target, self.device).to(self.dtype)
        x = bring(x_TBI, self.device).to(self.dtype)
        return Batch(x, y, y if target is None else target, indices, own_rows, loss_weight)

    def own_rows(self, size: int) -> tuple[slice, float]:
        """This rank's rows of a batch of ``size`` samples, and the weight of their mean loss."""
        rank, world_size = self.shard
        if size < world_size:
            return slice(0, size), 1 / world_size
        own_rows = slice(size * rank // world_size, size * (rank + 1) // world_size)
        return own_rows, (own_rows.stop - own_rows.start) / size

    def steps_of(self, indices: NDArray[np.int64]) -> int:
        """Padded length of the batch with these samples, in steps."""
        return max(int(self.samples.steps[indices].max()), self.steps or 0)

    def padded_frames(self, indices: NDArray[np.int64], steps: int) -> Tensor:
        """Frames of these samples, [T, B, I], padded with zeros, in their own dtype on the host."""
        frames = [self.samples.frames(n) for n in indices]
        x_TBI = np.zeros((steps, len(frames), frames[0].shape[1]), self.samples.dtype)
        for b, f in enumerate(frames):
            x_TBI[: len(f), b] = f
        return torch.from_numpy(x_TBI)

    def padded_targets(self, indices: NDArray[np.int64], steps: int) -> Tensor:
        """Targets of these samples, float32 [T, B, K], padded with NaN, on the host."""
        targets = [self.samples.targets(n) for n in indices]
        y_TBK = np.full((steps, len(targets), targets[0].shape[1]), np.nan, np.float32)
        for b, y in enumerate(targets):
            y_TBK[: len(y), b] = y
        return torch.from_numpy(y_TBK)

    def _augmented(
        self, epoch: int, batch: int, indices: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor | None]:
        assert self.augmented is not None
        settings = self.augmented.augment
        of_waves, of_frames = self.generators(epoch, batch)
        if self.augments_waveforms:
            waves = to_float(np.stack([self.samples.waveform(n) for n in indices]))
            changed = augment_waves(
                waves, roll_ms=settings.roll_ms, speed=settings.speed, rng=of_waves
            )
            x_TBI = log_mel(changed, step_ms=self.augmented.step_ms).transpose(0, 1)
        else:
            x_TBI = self.padded_frames(indices, self.steps_of(indices))
        return self.augment_frames(x_TBI, indices, of_frames)

    def augment_frames(
        self, x_TBI: Tensor, indices: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Augment a batch's frames on their device.

        Returns:
            The frames, and [B, K] probabilities if labels are mixed, else None.
        """
        assert self.augmented is not None
        labels, classes = self.samples.labels[indices], len(self.samples.stores[0].classes)
        return augment(x_TBI, labels, classes, self.augmented.augment, rng)

    def generators(self, epoch: int, batch: int) -> list[np.random.Generator]:
        """Two generators for a batch: for augmentation of its waveforms, and of its frames."""
        # the 1 separates this seed from the order's [seed, epoch], which numpy pads with zeros
        return np.random.default_rng([self.shuffle_seed or 0, epoch, batch, 1]).spawn(2)
