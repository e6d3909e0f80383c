"""Which of the processes of one training this is, as torchrun's environment variables tell."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A process among those that train one network together.

    Attributes:
        rank: its number, from 0; the first writes and speaks for all.
        processes: how many there are; 1 without torchrun.
        on_machine: its number among those on its machine, which is that of its GPU.
    """

    rank: int = 0
    processes: int = 1
    on_machine: int = 0

    @property
    def is_first(self) -> bool:
        """Whether it is the first, or the only one."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"process {self.rank + 1} of {self.processes}"


def place() -> Place:
    """This process's place; alone where RANK or WORLD_SIZE is not set."""
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return Place()
    return Place(*(int(os.environ.get(n, 0)) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
