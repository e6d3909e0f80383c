"""The processes that train one network together: which one this is, and sums over all of them.

torchrun starts the processes; each has a part of every batch. Functions import torch themselves,
since the command line asks for the rank long before it needs torch, which loads in seconds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snn_delays.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ALONE = "unset RANK and WORLD_SIZE to train in one process"


@dataclass(frozen=True)
class ProcessInfo:
    """One of the processes that train one network together, as torchrun started them.

    Attributes:
        rank: its number, from 0; the first writes and speaks for all.
        world_size: how many processes there are; 1 without torchrun.
        local_rank: its number among the processes on its machine, which is that of its GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether it is the first, or the only one."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"process {self.rank + 1} of {self.world_size}"


def process_info() -> ProcessInfo:
    """This process, by torchrun's environment; a single one where RANK or WORLD_SIZE is not set.

    Raises:
        UserError: RANK, WORLD_SIZE or LOCAL_RANK is no whole number, or RANK is too large.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return ProcessInfo()
    number, count = _number("RANK"), _number("WORLD_SIZE")
    if number >= count:
        raise UserError(
            f"RANK={number} must be less than WORLD_SIZE={count}: let torchrun set both, or"
            f" {ALONE}."
        )
    local_rank = _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else 0
    return ProcessInfo(number, count, local_rank)


def _number(name: str) -> int:
    text = os.environ[name]
    if not (text.isascii() and text.isdigit()):
        raise UserError(
            f"The environment variable {name}={text!r} must be a whole number: let torchrun set it,"
            f" or {ALONE}."
        )
    return int(text)


def meeting_point() -> str:
    """The address at which the processes meet, host:port; the first listens there.

    Raises:
        UserError: MASTER_ADDR or MASTER_PORT is missing, or is no port.
    """
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise UserError(
                f"RANK and WORLD_SIZE are set, but {name} is not: let torchrun set it, or {ALONE}."
            )
    port = _number("MASTER_PORT")
    if not 0 < port < 2**16:
        raise UserError(f"MASTER_PORT={port} is no port: choose one from 1024 to 65535.")
    return f"{os.environ['MASTER_ADDR']}:{port}"


# ---- sums over the processes -------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """The part of a batch that this rank holds.

    Attributes:
        rows: the slice of the whole batch.
        whole: number of samples in the whole batch.
    """

    rows: slice
    whole: int


_part: Part | None = None  # global, since autograd runs backward in a thread of its own on a GPU


def world_size() -> int:
    """Number of processes that train one network; 1 if torch.distributed is not set up."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; 0 if torch.distributed is not set up."""
    import torch.distributed as dist

    return dist.get_rank() if world_size() > 1 else 0


@contextlib.contextmanager
def sharing(part: Part | None) -> Iterator[None]:
    """A context in which a network trains on a part of a batch; None: on the whole batch."""
    global _part
    _part = part
    try:
        yield
    finally:
        _part = None


def own_part() -> Part | None:
    """The part that the network trains on now; None: the whole batch."""
    return _part


def whole_batch(own: int) -> int:
    """Number of samples in the whole batch, of which this rank has ``own``."""
    return own if _part is None else _part.whole


def largest_part(own: int) -> int:
    """Number of samples in the largest part; ``own`` without other ranks.

    All ranks choose the way to compute by this number, since each must add up the same sums.
    """
    return own if _part is None else -(-_part.whole // world_size())


def all_reduce(sums: Tensor) -> Tensor:
    """Add up ``sums`` over all parts of the batch, in place; unchanged if no part is set."""
    if _part is not None:
        import torch.distributed as dist

        dist.all_reduce(sums)
    return sums


def pooled(mean: Tensor, var: Tensor, own: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over the whole batch, from those of this part; float64, [C] each.

    Args:
        mean: mean over this part's samples and time steps.
        var: biased variance over the same.
        own: number of this part's samples; all samples have equally many time steps.
    """
    if _part is None:
        return mean, var
    import torch

    sums = torch.stack([mean, var + mean * mean]) * own
    mean, squares = all_reduce(sums) / _part.whole
    return mean, (squares - mean * mean).clamp_(min=0)


def gather_interleaved(mine: list[Any]) -> list[Any]:
    """The lists of all ranks, interleaved: the first entry of each rank, then the second ones."""
    number = world_size()
    if number == 1:
        return mine
    import torch.distributed as dist

    found: list[Any] = [None] * number
    dist.all_gather_object(found, mine)
    return [found[k % number][k // number] for k in range(sum(map(len, found)))]
