"""Files that are whole or not there: written under a temporary name, flushed, renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PART = ".part"  # what a killed process leaves behind ends so


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[IO[Any]]:
    """A file to write bytes to; it becomes ``path`` at the end of the block, or never.

    Args:
        path: its name; a file there stays until the new one is complete.
        keep: what the file there is renamed to then; None: it is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}-", suffix=PART, delete=False
    ) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def replace_file(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Write ``content`` so (see ``replacing``)."""
    with replacing(path, keep) as file:
        file.write(content)
