"""What a deployed layer prepares once from its weights and delays, for as long as they stay.

Numbers are compared at every call, since torch's version counters miss fused optimisers, ``.data``
and NumPy. On a GPU a comparison would have to be waited for, so nothing is kept there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")

# No dictionary keeps its keys alive.
_store: Any = WeakIdKeyDictionary()  # weight -> what a backend has prepared
_copies: Any = WeakIdKeyDictionary()  # weight -> a constant weight and delay
_constants: Any = WeakIdKeyDictionary()  # constant weight -> the delay that belongs to it


@dataclass(frozen=True)
class _Entry:
    """A value, and the bytes of the tensors that it was made from."""

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
    """``make()``, or its earlier value for the same ``kind`` and equal numbers of both tensors."""
    if weight.device.type != "cpu":
        return make()
    numbers = () if _constants.get(weight) is delay else (weight, delay)
    return _look_up(_store, weight, kind, numbers, make)


def constants(
    numbers: tuple[Tensor, ...], kind: Hashable, make: Callable[[], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """A weight and a delay that nobody may change, the same tensors while ``numbers`` stay.

    What is kept for these is found without comparing them.

    Args:
        numbers: all tensors that weight and delay are made from, the layer's weight first.
        kind: whatever else they are made from.
        make: makes weight and delay.
    """

    def copy() -> tuple[Tensor, Tensor]:
        weight, delay = (tensor.detach().clone() for tensor in make())
        _constants[weight] = delay
        return weight, delay

    return _look_up(_copies, numbers[0], kind, numbers, copy)


def invalidate(weight: Tensor) -> None:
    """Let go of what is kept for a weight that trains, as training needs the memory."""
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
