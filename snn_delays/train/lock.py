"""One run at a time writes a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from snn_delays.errors import UserError

try:
    import fcntl
except ImportError:  # not on Windows: there, nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system lets go of when the process ends, however it does.

    Raises:
        UserError: another process holds it.
    """
    with open(folder / LOCK_FILE, "a+") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise UserError(
                    f"Another run (process {file.read().strip() or 'unknown'}) is writing to"
                    f" {folder}; wait for it, or choose another out."
                ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
