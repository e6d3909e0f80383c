"""What a deployed layer prepares once from its weights and delays, for as long as they stay."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")

_store: Any = WeakIdKeyDictionary()  # weight -> (stamp, value); it does not keep weights alive


def kept(weight: Tensor, delay: Tensor, kind: Hashable, make: Callable[[], T]) -> T:
    """``make()``, or what it gave for the same ``kind`` since weight and delay last changed.

    Changes are seen through torch's version counters: in-place operations count, torch's fused
    optimisers and writing to ``.data`` or through NumPy do not. So training forgets, and counts
    its own steps.
    """
    if weight.is_inference() or delay.is_inference():  # these have no version
        return make()
    stamp = (kind, weight._version, weight.data_ptr(), delay._version, delay.data_ptr())
    seen, of_delay, value = _store.get(weight, (None, None, None))
    if seen != stamp or of_delay() is not delay:
        value = make()
        _store[weight] = stamp, weakref.ref(delay), value
    return value


def forget(weight: Tensor) -> None:
    """Let go of what is kept for a weight, before training changes it."""
    _store.pop(weight, None)
