"""Digests of what files hold, taken anew only where a file changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from snn_delays.errors import UserError
from snn_delays.files import replace_file

SETTLED = 2.0  # seconds after which a change would show in a file's time stamp
MANY = 1000  # files from which on a bar is shown


def content_digest(
    path: Path,
    memo: Path,
    *,
    files: Sequence[str] | None = None,
    algorithm: str = "sha256",
    fresh: bool = False,
) -> str:
    """Hexadecimal digest of a file, or of files of a folder with their names.

    Digests are noted in ``memo``/digests beside the files' names, sizes and times, and taken from
    there while these stay the same.

    Args:
        path: the file, or the folder.
        memo: folder of the notes.
        files: names within the folder, in order.
        algorithm: of hashlib.
        fresh: read the files whatever is noted.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        state, newest = _state(path, files)
        key = json.dumps([algorithm, str(path.absolute()), state])
        note = memo / "digests" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        if not fresh:
            with contextlib.suppress(OSError):
                return note.read_text()
        digest = _digest(path, files, algorithm)
    except OSError as error:
        raise UserError(f"{error.filename or path} cannot be read: {error.strerror}.") from error
    if time.time() - newest > SETTLED:
        with contextlib.suppress(OSError):  # the note spares time, nothing else
            replace_file(note, digest.encode())
    return digest


def _state(path: Path, files: Sequence[str] | None) -> tuple[list[tuple[str, int, int]], float]:
    """Name, size and time of every file, and the newest time."""
    stats = [(name, os.stat(path / name)) for name in ([""] if files is None else files)]
    state = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return state, max((stat.st_mtime for _, stat in stats), default=0.0)


def _digest(path: Path, files: Sequence[str] | None, algorithm: str) -> str:
    if files is None:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    whole = hashlib.new(algorithm)
    quiet = True if len(files) < MANY else None
    for name in tqdm(files, f"reading {path.name}", unit="file", disable=quiet, leave=False):
        content = hashlib.new(algorithm, (path / name).read_bytes()).hexdigest()
        whole.update(f"{name} {content}\n".encode())
    return whole.hexdigest()
