"""Sums over the processes that train one network together."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes train together; 1 where torch.distributed is not set up."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def over_processes(sums: Tensor) -> Tensor:
    """``sums`` added up over all processes, in place; without others it is as it was."""
    if processes() > 1:
        dist.all_reduce(sums)
    return sums
