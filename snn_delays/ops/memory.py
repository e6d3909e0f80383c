"""Large buffers that are used again instead of being mapped anew at every step.

Fresh memory costs a page fault per page, a third of a training step; a buffer of this pool keeps
its pages. It comes back by itself when the last tensor on it is gone, whoever held it.
"""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALL = 1 << 20  # bytes; below, the allocator serves as well


class Pool:
    """Buffers in classes of size an eighth apart, so that batches of nearly one length share."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[Any]] = defaultdict(list)

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """An uninitialised, contiguous tensor of the dtype and device of ``like``."""
        wanted = math.prod(shape) * like.element_size()
        if wanted < SMALL or like.device.type != "cpu":
            return like.new_empty(shape)
        size = _size_class(wanted)
        free = self._free[size]
        try:
            raw = free.pop()
        except IndexError:
            raw = self._allocate(size)
        lent = raw[:wanted]  # its own object: the tensor's storage keeps it alive, nothing else
        weakref.finalize(lent, free.append, raw).atexit = False
        return torch.from_numpy(lent).view(like.dtype).view(*shape)

    def _allocate(self, size: int) -> Any:
        for free in list(self._free.values()):
            free.clear()  # of sizes that are no longer asked for, most likely
        return np.empty(size, np.uint8)  # NumPy asks for huge pages


def _size_class(size: int) -> int:
    step = 1 << max(size.bit_length() - 4, 12)
    return -(-size // step) * step


empty = Pool().empty
