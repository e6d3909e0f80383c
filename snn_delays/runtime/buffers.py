"""A pool of large CPU buffers that are reused instead of being mapped again at every step.

Fresh memory costs a page fault per page, a tenth of a training step; a buffer of the pool keeps its
pages. A buffer returns to the pool when the last tensor that uses it is deleted.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALL = 1 << 20  # bytes; smaller tensors come from torch's allocator
WASTE = 2  # a buffer may have this many times the requested size
SPARE = 1.1  # size of all buffers over the peak size of those in use
WORDS = ("not enough memory", "can't allocate memory", "out of memory", "alloc_failed")
WINDOW = 1000  # requests; a peak is forgotten after one to two windows


class Pool:
    """Reuses buffers of similar size; keeps at most ``SPARE`` times the recent peak in use."""

    def __init__(self) -> None:
        self._free: list[Any] = []  # the longest unused one first
        self._held = 0  # bytes of all buffers, in use or free
        self._requests = 0
        self._peaks = [0, 0]  # peak bytes in use, in the last window and in this one
        self._renew_lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()  # not needed to return a buffer, which is one append

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """An uninitialised, contiguous tensor of the dtype and device of ``like``."""
        wanted = math.prod(shape) * like.element_size()
        if wanted < SMALL or like.device.type != "cpu":
            return like.new_empty(shape)
        with self._lock:
            raw = self._take_or_allocate(wanted)
        used = raw[:wanted]  # an object that only the tensor's storage keeps alive
        weakref.finalize(used, self._free.append, raw).atexit = False
        return torch.from_numpy(used).view(like.dtype).view(*shape)

    def _take_or_allocate(self, wanted: int) -> Any:
        self._count()
        raw = self._take(wanted)
        if raw is None:
            raw = self._allocate(wanted)
        self._peaks[1] = max(self._peaks[1], self._in_use)
        return raw

    @property
    def _in_use(self) -> int:
        return self._held - sum(raw.size for raw in self._free)

    def _count(self) -> None:
        self._requests += 1
        if self._requests % WINDOW == 0:
            self._peaks = [self._peaks[1], self._in_use]
            self._trim(0)

    def _take(self, wanted: int) -> Any:
        """The smallest free buffer that fits, or None."""
        sizes = [(raw.size, at) for at, raw in enumerate(self._free)]
        fits = [(size, at) for size, at in sizes if wanted <= size <= WASTE * wanted]
        return self._free.pop(min(fits)[1]) if fits else None

    def _allocate(self, wanted: int) -> Any:
        step = 1 << max(wanted.bit_length() - 4, 12)  # rounded up, for slightly longer batches
        size = -(-wanted // step) * step
        self._trim(size)
        raw = np.empty(size, np.uint8)  # NumPy asks for huge pages
        self._held += size
        return raw

    def _trim(self, size: int) -> None:
        """Free the longest unused buffers, until ``size`` bytes more are allowed."""
        allowed = SPARE * max(*self._peaks, self._in_use + size)
        while self._free and self._held + size > allowed:
            self._held -= self._free.pop(0).size


empty = Pool().empty


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or an error that caused it, means that memory ran out.

    Libraries below torch raise other types, which are recognised by words in their messages.
    """
    cause = error.__cause__ or error.__context__
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    said = known or any(word in str(error).lower() for word in WORDS)
    return said or (cause is not None and is_out_of_memory(cause))
