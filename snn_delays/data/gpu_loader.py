"""Batches from frames that all lie on the GPU: loading a batch copies nothing from the host.

Shapes: T time, N samples, B batch, I input channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_delays.data.loaders import Batch, Loader, Samples
from snn_delays.runtime.device import bring
from snn_delays.runtime.distributed import gather_interleaved

FREE_SHARE = 0.4  # share of the device's free memory that frames may fill
CHUNK = 1024  # samples copied at a time


@dataclass(frozen=True)
class GpuLoader:
    """The batches of ``loader``, gathered and augmented on its device.

    On the CPU the batches equal the loader's bit by bit. A GPU draws the random numbers of single
    spikes itself, so augmentation of spikes differs there.

    Attributes:
        loader: gives samples and order; it must not augment waveforms.
        frames_TNI: frames of every sample, padded with zeros; counts below 256 as bytes.
        labels: [N].
        targets_TNK: targets per step, padded with NaN; None: the samples have classes.
    """

    loader: Loader
    frames_TNI: Tensor
    labels: Tensor
    targets_TNK: Tensor | None = None

    @classmethod
    def of(cls, loader: Loader) -> GpuLoader:
        """Copy all frames of a loader to its device."""
        samples, (steps, N, channels) = loader.samples, _shape(loader)
        dtype = torch.from_numpy(np.empty(0, samples.dtype)).dtype
        frames_TNI = torch.zeros(steps, N, channels, dtype=dtype, device=loader.device)
        for first in range(0, N, CHUNK):
            indices = np.arange(first, min(first + CHUNK, N))
            frames_TNI[:, first : first + CHUNK] = loader.padded_frames(indices, steps)
        targets = None
        if samples.has_targets:
            targets = loader.padded_targets(np.arange(N), steps).to(loader.device, loader.dtype)
        labels = torch.from_numpy(samples.labels).to(loader.device)
        return cls(loader, frames_TNI, labels, targets)

    def __len__(self) -> int:
        return len(self.loader)

    @property
    def samples(self) -> Samples:
        """The loader's samples."""
        return self.loader.samples

    @property
    def device(self) -> torch.device:
        """The loader's device."""
        return self.loader.device

    def batch_indices(self, epoch: int, batch: int) -> NDArray[np.int64]:
        """See ``Loader.batch_indices``."""
        return self.loader.batch_indices(epoch, batch)

    def epoch(self, epoch: int = 0, first: int = 0, every: int = 1) -> Iterator[Batch]:
        """See ``Loader.epoch``; the order is copied to the device once."""
        order = self.loader.order(epoch)
        index = bring(torch.from_numpy(order), self.device)
        for batch in range(first, len(self), every):
            whole = slice(batch * self.loader.batch_size, (batch + 1) * self.loader.batch_size)
            yield self._batch(epoch, batch, order[whole], index[whole])

    def _batch(self, epoch: int, batch: int, indices: NDArray[np.int64], index: Tensor) -> Batch:
        loader = self.loader
        own_rows, loss_weight = loader.own_rows(len(indices))
        frames_TNI = self.frames_TNI[: loader.steps_of(indices)]
        y = target = self.labels[index[own_rows]]
        if loader.augmented is None:
            x_TBI = frames_TNI.index_select(1, index[own_rows])
        else:
            x_TBI = frames_TNI.index_select(1, index)
            if not x_TBI.is_floating_point():
                x_TBI = x_TBI.int()  # wide enough for any augmented count, without reading them
            x_TBI, mixed = loader.augment_frames(x_TBI, indices, loader.generators(epoch, batch)[1])
            x_TBI = x_TBI[:, own_rows]
            target = y if mixed is None else mixed[own_rows].to(loader.dtype)
        if self.targets_TNK is not None:
            target = self.targets_TNK[: len(x_TBI)].index_select(1, index[own_rows])
        return Batch(x_TBI.to(loader.dtype).contiguous(), y, target, indices, own_rows, loss_weight)


AnyLoader = Loader | GpuLoader


def choose_loader(loader: Loader, before: bool | None = None) -> AnyLoader:
    """A ``GpuLoader`` of ``loader`` if its frames fit on the GPU, else ``loader``.

    Args:
        loader: the loader.
        before: of a resumed run, whether it used a ``GpuLoader``: the choice stays, since a GPU
            draws other random numbers in augmentation.
    """
    if loader.device.type != "cuda":
        return loader
    # all ranks take the same kind of loader, since both draw other random numbers
    fits_there = all(gather_interleaved([fits_on_gpu(loader)])) if before is None else before
    return GpuLoader.of(loader) if fits_there else loader


def fits_on_gpu(loader: Loader) -> bool:
    """Whether all frames fit into ``FREE_SHARE`` of the GPU's free memory.

    Augmented waveforms never do: their frames are made anew for each batch, on the host.
    """
    if loader.device.type != "cuda" or loader.augments_waveforms:
        return False
    free, _ = torch.cuda.mem_get_info(loader.device)
    return math.prod(_shape(loader)) * loader.samples.dtype.itemsize <= FREE_SHARE * free


def _shape(loader: Loader) -> tuple[int, int, int]:
    """Shape of all frames: steps of the longest sample, samples, channels."""
    samples = loader.samples
    steps = max(samples.longest, loader.steps or 0)
    return steps, len(samples), samples.frames(0).shape[1]
