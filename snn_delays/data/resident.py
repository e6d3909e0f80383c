"""All frames of a loader on the device, where batches are gathered without the host.

Shapes: T time, N samples, B batch, I input channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_delays.data.loaders import Batch, Loader, Samples

SHARE = 0.4  # of the device's free memory that frames may fill
BLOCK = 1024  # samples brought over at a time


@dataclass(frozen=True)
class ResidentLoader:
    """The batches of ``loader``, bit by bit, from frames on its device.

    Attributes:
        loader: what is loaded, in which order; nothing is augmented.
        frames_TNI: every sample, padded; counts below 256 as bytes.
        labels: [N].
    """

    loader: Loader
    frames_TNI: Tensor
    labels: Tensor

    @classmethod
    def of(cls, loader: Loader) -> ResidentLoader:
        """Bring all frames of a loader over."""
        samples, (steps, dtype) = loader.samples, _shape(loader)
        N, channels = len(samples), samples.frames(0).shape[1]
        frames_TNI = torch.zeros(steps, N, channels, dtype=dtype, device=loader.device)
        for first in range(0, N, BLOCK):
            block = loader.padded(np.arange(first, min(first + BLOCK, N)), steps)
            part = torch.from_numpy(block).to(loader.device, dtype)
            frames_TNI[:, first : first + part.shape[1]] = part
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
        loader, order = self.loader, self.loader.order(epoch)
        on_device = torch.from_numpy(order).to(self.device)
        for place in range(first, len(self), every):
            whole = slice(place * loader.batch_size, (place + 1) * loader.batch_size)
            numbers = order[whole]
            rows, share = loader.own(len(numbers))
            index = on_device[whole][rows]
            steps = max(int(loader.samples.steps[numbers].max()), loader.steps or 0)
            x = self.frames_TNI[:steps].index_select(1, index).to(loader.dtype)
            y = self.labels[index]
            yield Batch(x, y, y, numbers, rows, share)


Batches = Loader | ResidentLoader


def on_device(loader: Loader) -> Batches:
    """The same batches, from the device where they fit."""
    return ResidentLoader.of(loader) if fits(loader) else loader


def fits(loader: Loader) -> bool:
    """Whether a loader's batches may come from its GPU: unchanged, and with room to spare."""
    if loader.device.type != "cuda" or loader.augmented is not None:
        return False
    steps, dtype = _shape(loader)
    samples = loader.samples
    size = steps * len(samples) * samples.frames(0).shape[1] * dtype.itemsize
    free, _ = torch.cuda.mem_get_info(loader.device)
    return bool(size <= SHARE * free)


def _shape(loader: Loader) -> tuple[int, torch.dtype]:
    """Steps that hold every sample, and the type of its numbers on the device."""
    bytes_alone = all(store.dtype == np.uint8 for store in loader.samples.stores)
    dtype = torch.uint8 if bytes_alone else torch.float32
    return max(loader.samples.longest, loader.steps or 0), dtype
