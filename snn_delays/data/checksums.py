"""Digests of what files hold, taken anew only where a file changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snn_delays.data.progress import progress
from snn_delays.documents import read_text
from snn_delays.errors import UserError
from snn_delays.files import is_trusted, replace_file

SETTLED = 2.0  # seconds after which a change would show in a file's time stamp
CHUNK = 1 << 20
MANY = 1000  # files from which on progress is shown


@dataclass(frozen=True)
class FileList:
    """Files of a folder.

    Attributes:
        names: within the folder, in order.
        state: their names, sizes and times, in one text.
        newest: the newest of the times.
    """

    names: Sequence[str]
    state: str
    newest: float


def content_digest(
    path: Path,
    memo: Path,
    *,
    files: FileList | None = None,
    algorithms: Sequence[str] = ("sha256",),
    fresh: bool = False,
) -> str:
    """Hexadecimal digest of a file, or of files of a folder with their names.

    Digests are noted in ``memo``/digests beside the files' names, sizes and times, and taken from
    there while these stay the same.

    Args:
        path: the file, or the folder.
        memo: folder of the notes.
        files: files within the folder.
        algorithms: of hashlib, all taken and noted in one reading; the first is returned.
        fresh: read the files whatever is noted.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        state, newest = _state(path) if files is None else (files.state, files.newest)
        notes = [_note(memo, path, state, algorithm) for algorithm in algorithms]
        noted = None if fresh else _noted(notes[0], algorithms[0])
        if noted is not None:
            return noted
        digests = _digest(path, files, algorithms)
    except OSError as error:
        raise UserError(f"{error.filename or path} cannot be read: {error.strerror}.") from error
    if time.time() - newest > SETTLED:
        for note, digest in zip(notes, digests, strict=True):
            with contextlib.suppress(OSError):  # the note spares time, nothing else
                replace_file(note, _signed(digest).encode())
    return digests[0]


def _note(memo: Path, path: Path, state: str, algorithm: str) -> Path:
    key = f"{algorithm} {os.fspath(path.absolute())} {state}"
    return memo / "digests" / hashlib.sha256(os.fsencode(key)).hexdigest()[:16]


def _noted(note: Path, algorithm: str) -> str | None:
    """What a note says; nothing where it is not there, or damaged."""
    try:
        text = read_text(note) if is_trusted(note) else ""
    except (OSError, ValueError):
        return None
    digest = text.partition(" ")[0]
    whole = text == _signed(digest) and len(digest) == 2 * hashlib.new(algorithm).digest_size
    return digest if whole else None


def _signed(digest: str) -> str:
    """A digest with a checksum, without which one wrong letter would be taken for another file."""
    return f"{digest} {zlib.crc32(digest.encode()):08x}"


def _state(path: Path) -> tuple[str, float]:
    """What changes when a file does, and its time."""
    stat = os.stat(path)
    return stamp(stat), stat.st_mtime


def stamp(stat: os.stat_result) -> str:
    """Size and times of a file."""
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


def _digest(path: Path, files: FileList | None, algorithms: Sequence[str]) -> list[str]:
    whole = [hashlib.new(algorithm) for algorithm in algorithms]
    if files is None:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                for digest in whole:
                    digest.update(chunk)
        return [digest.hexdigest() for digest in whole]
    names, number = iter(files.names), len(files.names)
    if number >= MANY:
        names = progress(names, f"reading {path.name}", number, "files")
    for name in names:
        content = (path / name).read_bytes()
        for algorithm, digest in zip(algorithms, whole, strict=True):
            digest.update(f"{name} {hashlib.new(algorithm, content).hexdigest()}\n".encode())
    return [digest.hexdigest() for digest in whole]
