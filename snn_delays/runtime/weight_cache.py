"""A cache of values that a deployed layer computes from its weights and delays.

Weights and delays are compared with those of the cached value at every call, since torch's version
counters miss changes by fused optimisers, ``.data`` and NumPy. Nothing is cached on a GPU, where
the host would have to wait for the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")

# None of the dictionaries keeps its keys alive.
_store: Any = WeakIdKeyDictionary()  # weight -> a backend's cached value
_copies: Any = WeakIdKeyDictionary()  # weight -> a constant weight and delay
_constants: Any = WeakIdKeyDictionary()  # constant weight -> its delay


@dataclass(frozen=True)
class _Entry:
    """A value, and the bytes of the tensors from which it was computed."""

    kind: Hashable
    bytes: tuple[bytearray, ...]
    value: Any

    @classmethod
    def of(cls, kind: Hashable, numbers: tuple[Tensor, ...], value: Any) -> _Entry:
        return cls(kind, tuple(bytearray(_memory(tensor)) for tensor in numbers), value)

    def serves(self, kind: Hashable, numbers: tuple[Tensor, ...]) -> bool:
        same = zip(self.bytes, numbers, strict=True)
        return self.kind == kind and all(mine == _memory(tensor) for mine, tensor in same)


def cached(weight: Tensor, delay: Tensor, kind: Hashable, make: Callable[[], T]) -> T:
    """``make()``, or its cached value if ``kind`` and both tensors' numbers are the same."""
    if weight.device.type != "cpu":
        return make()
    numbers = () if _constants.get(weight) is delay else (weight, delay)
    return _look_up(_store, weight, kind, numbers, make)


def constants(
    numbers: tuple[Tensor, ...], kind: Hashable, make: Callable[[], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """A constant weight and delay: the same two tensors as long as ``numbers`` do not change.

    They must not be changed. Values cached for them are found without comparing their numbers.

    Args:
        numbers: all tensors from which weight and delay are computed, the layer's weight first.
        kind: everything else on which they depend.
        make: computes weight and delay.
    """

    def copy() -> tuple[Tensor, Tensor]:
        weight, delay = (tensor.detach().clone() for tensor in make())
        _constants[weight] = delay
        return weight, delay

    return _look_up(_copies, numbers[0], kind, numbers, copy)


def invalidate(weight: Tensor) -> None:
    """Free the values cached for a weight that trains, since training needs the memory."""
    _store.pop(weight, None)
    _copies.pop(weight, None)


def _look_up(
    store: Any, key: Tensor, kind: Hashable, numbers: tuple[Tensor, ...], make: Callable[[], T]
) -> T:
    kind = kind, key.dtype, key.shape, len(numbers)
    entry = store.get(key)
    if entry is None or not entry.serves(kind, numbers):
        entry = store[key] = _Entry.of(kind, numbers, make())
    value: T = entry.value
    return value


def _memory(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().view(torch.uint8).numpy()  # NumPy knows no bfloat16
