"""All frames of a loader on the device, where batches are gathered without the host.

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

SHARE = 0.4  # of the device's free memory that frames may fill
BLOCK = 1024  # samples brought over at a time


@dataclass(frozen=True)
class ResidentLoader:
    """The batches of ``loader``, from frames on its device, where augmentation is made, too.

    On the CPU they are the loader's bit by bit. A GPU draws the numbers of single spikes itself.

    Attributes:
        loader: what is loaded, in which order; its waveforms are not augmented.
        frames_TNI: every sample, padded; counts below 256 as bytes.
        labels: [N].
    """

    loader: Loader
    frames_TNI: Tensor
    labels: Tensor

    @classmethod
    def of(cls, loader: Loader) -> ResidentLoader:
        """Bring all frames of a loader over."""
        samples, (steps, N, channels) = loader.samples, _shape(loader)
        dtype = torch.from_numpy(np.empty(0, samples.dtype)).dtype
        frames_TNI = torch.zeros(steps, N, channels, dtype=dtype, device=loader.device)
        for first in range(0, N, BLOCK):
            numbers = np.arange(first, min(first + BLOCK, N))
            frames_TNI[:, first : first + BLOCK] = loader.padded(numbers, steps)
        return cls(loader, frames_TNI, torch.from_numpy(samples.labels).to(loader.device))

    def __len__(self) -> int:
        return len(self.loader)

    @property
    def samples(self) -> Samples:
        """As the loader's."""
        return self.loader.samples

    @property
    def device(self) -> torch.device:
        """As the loader's."""
        return self.loader.device

    def places(self, epoch: int, number: int) -> NDArray[np.int64]:
        """As the loader's."""
        return self.loader.places(epoch, number)

    def epoch(self, epoch: int = 0, first: int = 0, every: int = 1) -> Iterator[Batch]:
        """As the loader's; the order is brought over once."""
        order = self.loader.order(epoch)
        index = bring(torch.from_numpy(order), self.device)
        for place in range(first, len(self), every):
            whole = slice(place * self.loader.batch_size, (place + 1) * self.loader.batch_size)
            yield self._batch(epoch, place, order[whole], index[whole])

    def _batch(self, epoch: int, place: int, numbers: NDArray[np.int64], index: Tensor) -> Batch:
        loader = self.loader
        rows, share = loader.own(len(numbers))
        frames_TNI = self.frames_TNI[: loader.steps_of(numbers)]
        y = target = self.labels[index[rows]]
        if loader.augmented is None:
            x_TBI = frames_TNI.index_select(1, index[rows])
        else:
            x_TBI = frames_TNI.index_select(1, index)
            if not x_TBI.is_floating_point():
                x_TBI = x_TBI.int()  # hold what becomes of any count, without a look at them
            x_TBI, mixed = loader.changed(x_TBI, numbers, loader.streams(epoch, place)[1])
            x_TBI = x_TBI[:, rows]
            target = y if mixed is None else mixed[rows].to(loader.dtype)
        return Batch(x_TBI.to(loader.dtype).contiguous(), y, target, numbers, rows, share)


Batches = Loader | ResidentLoader


def on_device(loader: Loader, before: bool | None = None) -> Batches:
    """The same batches, from the device where they fit.

    Args:
        loader: the loader.
        before: of a run that goes on, whether they came from a device: then they do so again, since
            a GPU augments by numbers of its own.
    """
    if loader.device.type != "cuda":
        return loader
    # of several processes, all draw alike
    resident = all(gather_interleaved([fits(loader)])) if before is None else before
    return ResidentLoader.of(loader) if resident else loader


def fits(loader: Loader) -> bool:
    """Whether a loader's batches may come from its GPU: with room to spare, and made of frames.

    Where waveforms are augmented, frames are made anew for each batch, by the loader.
    """
    if loader.device.type != "cuda" or loader.changes_waves:
        return False
    free, _ = torch.cuda.mem_get_info(loader.device)
    return math.prod(_shape(loader)) * loader.samples.dtype.itemsize <= SHARE * free


def _shape(loader: Loader) -> tuple[int, int, int]:
    """Steps that hold every sample, samples, channels."""
    samples = loader.samples
    steps = max(samples.longest, loader.steps or 0)
    return steps, len(samples), samples.frames(0).shape[1]
