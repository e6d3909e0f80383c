"""Sums over the processes that train one network together, each on its part of every batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """The samples of a batch that this process has.

    Attributes:
        rows: which they are.
        whole: how many the batch has over all processes.
    """

    rows: slice
    whole: int


_part: Part | None = None  # not of a thread: on a GPU autograd goes back in one of its own


def processes() -> int:
    """How many processes train together; 1 where torch.distributed is not set up."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if processes() > 1 else 0


@contextlib.contextmanager
def sharing(part: Part | None) -> Iterator[None]:
    """Within it a network trains on a part of a batch, forward and back; None: on all of it."""
    global _part
    _part = part
    try:
        yield
    finally:
        _part = None


def own_part() -> Part | None:
    """The part that a network trains on now, or None: no other process has a part."""
    return _part


def whole_batch(own: int) -> int:
    """Samples of the batch over all processes, of which this one has ``own``."""
    return own if _part is None else _part.whole


def largest_part(own: int) -> int:
    """Samples of the largest part, by which all decide alike what computes; ``own`` when alone.

    What computes differently may add up other sums, and each process must add up the same.
    """
    return own if _part is None else -(-_part.whole // processes())


def over_processes(sums: Tensor) -> Tensor:
    """``sums`` over the samples of all parts, in place; without others it is as it was."""
    if _part is not None:
        dist.all_reduce(sums)
    return sums


def pooled(mean: Tensor, var: Tensor, own: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over all parts, from those of this one; float64, [C] each.

    Args:
        mean: over this part's samples and time steps.
        var: the same.
        own: its samples; every sample has as many steps.
    """
    if _part is None:
        return mean, var
    sums = torch.stack([mean, var + mean * mean]) * own
    mean, squares = over_processes(sums) / _part.whole
    return mean, (squares - mean * mean).clamp_(min=0)


def in_turns(mine: list[Any]) -> list[Any]:
    """What all processes found who took turns, in order; this one found every n-th."""
    number = processes()
    if number == 1:
        return mine
    found: list[Any] = [None] * number
    dist.all_gather_object(found, mine)
    return [found[k % number][k // number] for k in range(sum(map(len, found)))]
