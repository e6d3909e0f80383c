"""Files mapped into memory, of which little is in memory at a time."""

from __future__ import annotations

import mmap
from pathlib import Path

GIVE_BACK = 1 << 23  # bytes


class MappedFile:
    """The content of a file, read-only.

    Every page that was read counts as memory of the process until the process gives it back. The
    system keeps such pages in its own cache of files as long as nobody needs the room.

    Attributes:
        content: the file's bytes.
    """

    def __init__(self, path: str | Path) -> None:
        with open(path, "rb") as file:
            self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._read = 0

    def has_read(self, count: int) -> None:
        """Note that ``count`` bytes were read; every ``GIVE_BACK`` bytes all pages are given back.

        Arrays that lie in the file stay valid.
        """
        self._read += count
        if self._read >= GIVE_BACK and hasattr(mmap, "MADV_DONTNEED"):
            self._read = 0
            self.content.madvise(mmap.MADV_DONTNEED)
