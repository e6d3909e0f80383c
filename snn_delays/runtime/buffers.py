"""Large buffers that are used again instead of being mapped anew at every step.

Fresh memory costs a page fault per page, a tenth of a training step; a buffer of this pool keeps
its pages. It comes back by itself when the last tensor on it is gone, whoever held it.
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

SMALL = 1 << 20  # bytes; below, the allocator serves as well
WASTE = 2  # a buffer may be this many times as large as wanted
SPARE = 1.25  # all buffers together, over what was lent at once
WORDS = ("not enough memory", "can't allocate memory", "out of memory", "alloc_failed")
WINDOW = 1000  # requests after which a peak is forgotten, at the latest twice as many


class Pool:
    """Buffers, lent as they fit; no more are kept than a quarter above the lately greatest need."""

    def __init__(self) -> None:
        self._free: list[Any] = []  # the one that has waited longest first
        self._held = 0  # bytes of all buffers, lent or free
        self._requests = 0
        self._peaks = [0, 0]  # bytes lent at once, in the window before this one and in this one
        self._renew_lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()  # buffers come back without it: they are only appended

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """An uninitialised, contiguous tensor of the dtype and device of ``like``."""
        wanted = math.prod(shape) * like.element_size()
        if wanted < SMALL or like.device.type != "cpu":
            return like.new_empty(shape)
        with self._lock:
            raw = self._lend(wanted)
        lent = raw[:wanted]  # its own object: the tensor's storage keeps it alive, nothing else
        weakref.finalize(lent, self._free.append, raw).atexit = False
        return torch.from_numpy(lent).view(like.dtype).view(*shape)

    def _lend(self, wanted: int) -> Any:
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
        step = 1 << max(wanted.bit_length() - 4, 12)  # so that a slightly longer batch fits, too
        size = -(-wanted // step) * step
        self._trim(size)
        raw = np.empty(size, np.uint8)  # NumPy asks for huge pages
        self._held += size
        return raw

    def _trim(self, size: int) -> None:
        """Give back what has waited longest, until ``size`` bytes more are allowed."""
        allowed = SPARE * max(*self._peaks, self._in_use + size)
        while self._free and self._held + size > allowed:
            self._held -= self._free.pop(0).size


empty = Pool().empty


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it came of, says that memory ran out.

    Libraries below torch have words of their own for it.
    """
    cause = error.__cause__ or error.__context__
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    said = known or any(word in str(error).lower() for word in WORDS)
    return said or (cause is not None and is_out_of_memory(cause))
