"""Which of the processes of one training this is, as torchrun's environment variables tell."""

from __future__ import annotations

import os
from dataclasses import dataclass

from snn_delays.errors import UserError

ALONE = "unset RANK and WORLD_SIZE to train in one process"


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
    """This process's place; alone where RANK or WORLD_SIZE is not set.

    Raises:
        UserError: RANK, WORLD_SIZE or LOCAL_RANK is no whole number, or RANK is too large.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return Place()
    rank, processes = _number("RANK"), _number("WORLD_SIZE")
    if rank >= processes:
        raise UserError(
            f"RANK={rank} must be less than WORLD_SIZE={processes}: let torchrun set both, or"
            f" {ALONE}."
        )
    return Place(rank, processes, _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else 0)


def _number(name: str) -> int:
    text = os.environ[name]
    if not (text.isascii() and text.isdigit()):
        raise UserError(
            f"The environment variable {name}={text!r} must be a whole number: let torchrun set it,"
            f" or {ALONE}."
        )
    return int(text)


def meeting_point() -> str:
    """Where the processes meet, as host:port; the first listens there.

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
